"""What commands share at run time: threads, offline mode, quiet libraries, and JSON on stdout."""

from __future__ import annotations

import json
import os
from typing import Any

import typer


def set_up(*, threads: int | None = None, offline: bool = False) -> None:
    """Prepare this process for a command that computes.

    Args:
        threads: CPU threads for torch; None leaves torch's choice.
        offline: forbid the network to huggingface_hub.
    """
    if offline:
        os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import torch
    import transformers

    transformers.utils.logging.disable_progress_bar()
    if threads is not None:
        torch.set_num_threads(threads)


def print_json(data: Any) -> None:
    """Write one JSON document to stdout."""
    typer.echo(json.dumps(data, indent=2, ensure_ascii=False))

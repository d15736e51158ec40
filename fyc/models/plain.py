"""Load a whole, unconverted model and its tokenizer from a folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from fyc.errors import ModelError
from fyc.models.checkpoint import read_checkpoint
from fyc.models.skeleton import materialize, skeleton

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def load_plain(
    folder: str | Path, dtype: torch.dtype | None = None, device: torch.device | str = "cpu"
) -> PreTrainedModel:
    """The model of a folder with all its weights, in eval mode; equal to what `from_pretrained` gives.

    Args:
        folder: a plain Hugging Face folder.
        dtype: dtype of the floating-point weights; None takes the configuration's.
        device: where the weights go.

    Raises:
        ModelError: FYC-M01 to FYC-M05.
    """
    checkpoint = read_checkpoint(Path(folder))
    model = skeleton(checkpoint, dtype)
    materialize(model, [""], checkpoint, device=device)
    return model


def load_tokenizer(folder: str | Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder. Nothing is downloaded and no code of the folder is run.

    Raises:
        ModelError: FYC-M07 if it is missing or cannot be read.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except Exception as error:
        raise ModelError(
            "FYC-M07",
            "the tokenizer cannot be loaded",
            where=str(folder),
            why=f"{type(error).__name__}: {error}",
            next="put tokenizer.json and tokenizer_config.json of the model into the folder",
        ) from error

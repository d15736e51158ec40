"""`fyc doctor`: what this installation has, and what is wrong with it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import typer

from fyc.cli.options import Json
from fyc.errors import PluginError
from fyc.ui.text import human_bytes

#: Optional modules: what they are for, and the extra that brings them.
_EXTRAS = {
    "gguf": ("GGUF files", "gguf"),
    "accelerate": ("GGUF files", "gguf"),
    "sentencepiece": ("tokenizers of some GGUF files", "gguf"),
    "matplotlib": ("plots in reports", "plots"),
    "av": ("video in `fyc asl`", "asl"),
    "cv2": ("faces in `fyc asl`", "asl"),
    "ai_edge_litert": ("faces in `fyc asl`", "asl"),
    "openai": ("language models in `fyc plan`", "plan"),
}


@dataclass(frozen=True)
class Check:
    """One line of the report."""

    name: str
    status: Literal["ok", "warning", "error"]
    detail: str


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("doctor")(doctor)


def doctor(json: Json = False) -> None:
    """Check this installation.

    Shows versions, plugins, CPU, disk and optional packages; exits 2 when something is broken.
    """
    from fyc.cli.runtime import print_json
    from fyc.ui.tables import show_table

    checks = [*_versions(), *_machine(), *_plugins(), *_extras()]
    if json:
        print_json({"checks": [vars(check) for check in checks]})
    else:
        show_table(("check", "status", "detail"), [(c.name, c.status, c.detail) for c in checks])
    if any(check.status == "error" for check in checks):
        raise typer.Exit(2)


def _versions() -> Iterator[Check]:
    from fyc.recipe import versions

    for name, version in versions().items():
        yield Check(name, "ok", version)


def _machine() -> Iterator[Check]:
    import torch

    threads = torch.get_num_threads()
    count = f"{threads} thread" if threads == 1 else f"{threads} threads"
    yield Check("cpu", "ok", f"{torch.backends.cpu.get_cpu_capability()}, {count}")
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            yield Check(f"cuda:{index}", "ok", torch.cuda.get_device_name(index))
    else:
        yield Check("cuda", "ok", "none")
    yield Check("free disk", "ok", f"{human_bytes(shutil.disk_usage(Path.cwd()).free)} here")


def _plugins() -> Iterator[Check]:
    from fyc.plugins import DISABLE, load_plugins, unknown_disabled

    try:
        host = load_plugins()
    except PluginError as error:
        yield Check("plugins", "error", str(error))
        return
    for plugin in host.plugins:
        yield Check(f"plugin {plugin.name}", "ok", f"{plugin.distribution} {plugin.version}")
    for broken in host.broken:
        yield Check(f"plugin {broken.name}", "error", f"{broken.distribution}: {broken.reason}")
    for disabled in host.disabled:
        yield Check(f"plugin {disabled.name}", "warning", f"switched off by {DISABLE}")
    for name in unknown_disabled():
        yield Check(f"plugin {name}", "warning", f"{DISABLE} names it, but it is not installed")


def _extras() -> Iterator[Check]:
    from importlib.util import find_spec

    for module, (purpose, extra) in _EXTRAS.items():
        if find_spec(module) is None:
            yield Check(module, "warning", f"not installed ({purpose}): pip install 'fyc[{extra}]'")
        else:
            yield Check(module, "ok", purpose)

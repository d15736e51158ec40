"""Where models come from: the protocol of model sources, and opening a model through them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from fyc.errors import FycError, ModelError, PluginError, is_disk_full, is_out_of_memory
from fyc.models.checkpoint import Checkpoint, read_checkpoint


@runtime_checkable
class ModelSource(Protocol):
    """A place a model can come from. Register one with the hook `fyc_register_model_sources`.

    Attributes:
        name: unique name.
        priority: sources with a higher one are asked first. Built in: asset 40, gguf 30, folder 20, hub 10.
    """

    name: str
    priority: int

    def accepts(self, source: str) -> bool:
        """Whether this source is the one to open `source`. Quick; no network."""
        ...

    def open(self, source: str, *, revision: str | None, offline: bool) -> Path:
        """Make the model available as a plain Hugging Face folder (config.json, safetensors, tokenizer).

        Args:
            source: what the user gave.
            revision: branch, tag or commit, where the source knows such a thing.
            offline: whether the network must not be used.

        Raises:
            ModelError: FYC-M01 if it cannot be found, FYC-M06 if a dependency is missing.
        """
        ...


def open_folder(
    source: str | Path, *, sources: Sequence[ModelSource], revision: str | None = None, offline: bool = False
) -> Path:
    """Ask the sources, highest priority first, for the folder of a model.

    Raises:
        ModelError: FYC-M01 if no source knows the model, and what the source says.
        PluginError: FYC-P05 when a source raises anything else.
    """
    text = str(source)
    for candidate in sorted(sources, key=lambda item: (-item.priority, item.name)):
        try:
            if candidate.accepts(text):
                return Path(candidate.open(text, revision=revision, offline=offline))
        except Exception as error:
            if isinstance(error, FycError) or is_out_of_memory(error) or is_disk_full(error):
                raise
            raise PluginError(
                "FYC-P05",
                f"the model source {candidate.name!r} failed",
                where=text,
                why=f"{type(error).__name__}: {error}",
                next="--debug shows the traceback; report it to the author of the plugin that brings the source",
            ) from error
    raise ModelError(
        "FYC-M01",
        f"no model source knows {text!r}",
        why=f"asked: {', '.join(sorted(item.name for item in sources)) or 'none is installed'}",
        next="give a folder, a .gguf file, or a hub id such as HuggingFaceTB/SmolLM2-135M-Instruct",
    )


def open_checkpoint(
    source: str | Path, *, sources: Sequence[ModelSource], revision: str | None = None, offline: bool = False
) -> Checkpoint:
    """Open a model for reading.

    Args:
        source: a folder, a GGUF file, a hub id, or whatever a plugin accepts.
        sources: the registered model sources (`load_plugins().sources`).
        revision: branch, tag or commit of a hub model.
        offline: use only what is on this machine.

    Raises:
        ModelError: FYC-M01 to FYC-M06.
    """
    return read_checkpoint(open_folder(source, sources=sources, revision=revision, offline=offline))

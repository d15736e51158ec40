"""Load whatever the user names - an artifact, a folder, a hub id, a GGUF file - as a model and its tokenizer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from transformers import PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from fyc.artifact import is_artifact
from fyc.errors import ModelError
from fyc.loading.load import load
from fyc.models import load_plain, load_tokenizer, open_folder
from fyc.plugins import load_plugins

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class LoadedModel:
    """A model with all its weights, ready to run.

    Attributes:
        model: in eval mode.
        tokenizer: its tokenizer.
        name: what the user called it.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    name: str

    @property
    def device(self) -> torch.device:
        """Where inputs have to be."""
        device: torch.device = self.model.device
        return device


def load_any(
    model: str | Path | PreTrainedModel,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    revision: str | None = None,
    offline: bool = False,
) -> LoadedModel:
    """Load a causal language model and its tokenizer.

    Args:
        model: an artifact's folder, a Hugging Face folder, a hub id, a GGUF file, or a model that is loaded already.
        tokenizer: use this one; None takes the one in the model's folder.
        device, dtype: for a model that is not loaded already. dtype None takes the model's own.
        revision: of a hub model.
        offline: use only what is on this machine.

    Raises:
        ModelError: FYC-M01 to FYC-M07; FYC-M05 for a model that does not predict the next token.
        ArtifactError: if an artifact is damaged.
    """
    if isinstance(model, PreTrainedModel):
        _check_causal(type(model).__name__, model.name_or_path)
        return LoadedModel(model.eval(), tokenizer or load_tokenizer(model.name_or_path), type(model).__name__)
    path = Path(model).expanduser()
    if is_artifact(path):
        loaded, folder = load(path, device=device, dtype=dtype), path
    else:
        folder = open_folder(model, sources=load_plugins().sources, revision=revision, offline=offline)
        loaded = load_plain(folder, dtype, device)
    _check_causal(type(loaded).__name__, str(model))
    return LoadedModel(loaded, tokenizer or load_tokenizer(folder), str(model))


def _check_causal(architecture: str, where: str) -> None:
    if architecture not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.values():
        raise ModelError(
            "FYC-M05",
            f"{architecture} does not predict the next token",
            where=where,
            why="perplexity and text generation are defined for causal language models; a masked model has neither",
            next="use a model whose class ends in ForCausalLM",
        )

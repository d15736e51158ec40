"""Tiny random models of the architectures fyc names, and what "equal" means for a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import PreTrainedModel

Tensors = dict[str, torch.Tensor]

SMALL: dict[str, Any] = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GROUPED = SMALL | {"num_key_value_heads": 2, "head_dim": 8}
CAUSAL: dict[str, dict[str, Any]] = {
    "LlamaForCausalLM": GROUPED,
    "MistralForCausalLM": GROUPED | {"sliding_window": 16},
    "Qwen2ForCausalLM": GROUPED | {"tie_word_embeddings": True},
    "Qwen3ForCausalLM": GROUPED,
    "Gemma2ForCausalLM": GROUPED,
    "Gemma3ForCausalLM": GROUPED,
    "Phi3ForCausalLM": GROUPED,
    "OPTForCausalLM": SMALL | {"ffn_dim": 48, "word_embed_proj_dim": 32},
    "GPT2LMHeadModel": {"vocab_size": 96, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64},
}
MASKED: dict[str, dict[str, Any]] = {
    "BertForMaskedLM": SMALL,
    "RobertaForMaskedLM": SMALL,
    "AlbertForMaskedLM": SMALL | {"embedding_size": 16},
    "DistilBertForMaskedLM": {
        "vocab_size": 96, "dim": 32, "hidden_dim": 48, "n_layers": 2, "n_heads": 4, "max_position_embeddings": 64,
        "pad_token_id": 0,
    },
    "ElectraForMaskedLM": SMALL | {"embedding_size": 16},
}  # fmt: skip
ARCHITECTURES = CAUSAL | MASKED


def tiny(architecture: str, **changes: Any) -> PreTrainedModel:
    """A random model, the same for every call."""
    cls: type[PreTrainedModel] = getattr(transformers, architecture)
    config = cls.config_class(**(ARCHITECTURES[architecture] | changes))
    torch.manual_seed(0)
    model = cls(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.1)
    return model


def tensors(model: PreTrainedModel) -> Tensors:
    """Parameters and buffers, under all their names."""
    named = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    return dict(named)


def ties(found: Tensors) -> set[frozenset[str]]:
    """Groups of names that are one tensor."""
    return {frozenset(name for name in found if found[name] is found[other]) for other in found}


def assert_equal(model: PreTrainedModel, reference: PreTrainedModel) -> None:
    """Same names, same dtypes, same bits, same ties, eval mode."""
    ours, theirs = tensors(model), tensors(reference)
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        assert ours[name].dtype == tensor.dtype, name
        assert torch.equal(ours[name], tensor), name
    assert ties(ours) == ties(theirs)
    assert not model.training


def reference_of(folder: Path, architecture: str, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """The model as transformers itself loads it."""
    cls: type[PreTrainedModel] = getattr(transformers, architecture)
    return cls.from_pretrained(folder, dtype=dtype)

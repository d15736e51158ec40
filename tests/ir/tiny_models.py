"""Tiny random models of every architecture that the acceptance tests cover, and what their blocks look like."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM, PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

VOCAB = 99
_SIZES = {
    "vocab_size": VOCAB, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": None,
}  # fmt: skip

LLAMA = {
    ("qkv", ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), "input_layernorm"),
    ("attn_out", ("self_attn.o_proj",), None),
    ("gate_up", ("mlp.gate_proj", "mlp.up_proj"), "post_attention_layernorm"),
    ("down", ("mlp.down_proj",), None),
}
GEMMA = {(role, paths, "pre_feedforward_layernorm" if role == "gate_up" else norm) for role, paths, norm in LLAMA}
BERT = {
    ("qkv", ("attention.self.query", "attention.self.key", "attention.self.value"), None),
    ("attn_out", ("attention.output.dense",), None),
    ("up", ("intermediate.dense",), "attention.output.LayerNorm"),
    ("down", ("output.dense",), None),
}


@dataclass(frozen=True)
class Arch:
    """One architecture: config type, config changes, and the groups that its block graphs must show."""

    name: str
    groups: frozenset[Any]
    masked: bool = False
    seq2seq: bool = False
    structures: int = 1
    calls: int = 3
    changes: dict[str, Any] = field(default_factory=dict, hash=False)


CAUSAL = [
    Arch("llama", frozenset(LLAMA)),
    Arch("mistral", frozenset(LLAMA), changes={"sliding_window": 6}),
    Arch("qwen2", frozenset(LLAMA)),
    Arch("qwen3", frozenset(LLAMA), changes={"head_dim": 8}),
    Arch("gemma2", frozenset(GEMMA), structures=2, changes={"head_dim": 8, "sliding_window": 6}),
    Arch(
        "gemma3_text",
        frozenset(GEMMA),
        structures=2,
        changes={
            "head_dim": 8,
            "sliding_window": 6,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        },
    ),
    Arch(
        "phi3",
        frozenset(
            {
                ("qkv", ("self_attn.qkv_proj",), "input_layernorm"),
                ("attn_out", ("self_attn.o_proj",), None),
                ("gate_up", ("mlp.gate_up_proj",), "post_attention_layernorm"),
                ("down", ("mlp.down_proj",), None),
            }
        ),
    ),
    Arch(
        "opt",
        frozenset(
            {
                ("qkv", ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"), "self_attn_layer_norm"),
                ("attn_out", ("self_attn.out_proj",), None),
                ("up", ("fc1",), "final_layer_norm"),
                ("down", ("fc2",), None),
            }
        ),
        changes={"ffn_dim": 48, "word_embed_proj_dim": 32},
    ),
    Arch(
        "gpt2",
        frozenset(
            {
                ("qkv", ("attn.c_attn",), "ln_1"),
                ("attn_out", ("attn.c_proj",), None),
                ("up", ("mlp.c_fc",), "ln_2"),
                ("down", ("mlp.c_proj",), None),
            }
        ),
    ),
]
MASKED = [
    Arch("bert", frozenset(BERT), masked=True),
    Arch("roberta", frozenset(BERT), masked=True),
    Arch("electra", frozenset(BERT), masked=True, changes={"embedding_size": 24}),
    Arch(
        "albert",
        frozenset(
            {
                ("qkv", ("attention.query", "attention.key", "attention.value"), None),
                ("attn_out", ("attention.dense",), None),
                ("up", ("ffn",), "attention.LayerNorm"),
                ("down", ("ffn_output",), None),
            }
        ),
        masked=True,
        changes={"embedding_size": 24},
    ),
    Arch(
        "distilbert",
        frozenset(
            {
                ("qkv", ("attention.q_lin", "attention.k_lin", "attention.v_lin"), None),
                ("attn_out", ("attention.out_lin",), None),
                ("up", ("ffn.lin1",), "sa_layer_norm"),
                ("down", ("ffn.lin2",), None),
            }
        ),
        masked=True,
        changes={"dim": 32, "hidden_dim": 48, "n_layers": 3, "n_heads": 4},
    ),
]
ALL = [*CAUSAL, *MASKED]


def config_of(arch: Arch) -> Any:
    """The tiny configuration of an architecture."""
    return CONFIG_MAPPING[arch.name](**{**_SIZES, **arch.changes})


@cache
def _build(arch: Arch) -> PreTrainedModel:
    torch.manual_seed(7)
    auto = AutoModelForMaskedLM if arch.masked else AutoModelForSeq2SeqLM if arch.seq2seq else AutoModelForCausalLM
    model = auto.from_config(config_of(arch)).eval()
    for name, parameter in model.named_parameters():
        # Default initialisation leaves norms at 1, biases at 0 and the rest tiny: tests would not see mistakes.
        # Large embeddings would drown the blocks: the model would only repeat its last token.
        parameter.data.add_(torch.randn_like(parameter) * (0.02 if "emb" in name or ".wte" in name else 0.3))
    return model


def build(arch: Arch) -> PreTrainedModel:
    """A new model with the same random weights every time."""
    return copy.deepcopy(_build(arch))

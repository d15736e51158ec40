"""Architectures beyond the supported list: what traces must be exact, what does not must say so and still run."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from test_architectures import CACHES, MASKS, arguments, logits, mask_of, tokens
from tiny_models import Arch, build
from transformers import PreTrainedModel

from fyc.errors import TraceError
from fyc.ir import ModelGraph, bind, linear_groups, trace_model

_EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
_SEQ2SEQ = {
    "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "decoder_start_token_id": 2, "forced_eos_token_id": None,
}  # fmt: skip
_T5 = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0}
_LATENT = {
    "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8,
    "n_routed_experts": 4, "n_group": 2, "topk_group": 1, "num_experts_per_tok": 2, "first_k_dense_replace": 1,
    "num_key_value_heads": 4, "moe_intermediate_size": 16,
}  # fmt: skip


def arch(name: str, roles: str, *, masked: bool = False, seq2seq: bool = False, **changes: Any) -> Arch:
    return Arch(name, frozenset(roles.split()), masked, seq2seq, changes=changes)


USUAL = "qkv attn_out gate_up down"
PLAIN = "qkv attn_out up down"
DECODERS = [
    arch("gpt_neox", PLAIN),
    arch("gptj", "other attn_out down", n_embd=32, n_layer=3, n_head=4, rotary_dim=4),
    arch("gpt_neo", PLAIN, num_layers=3, attention_types=[[["global", "local", "global"], 1]], window_size=4),
    arch("bloom", PLAIN, n_layer=3, n_head=4),
    arch("mpt", PLAIN, d_model=32, n_heads=4, n_layers=3),
    arch("cohere2", "other attn_out down", sliding_window=6),
    arch("olmo2", USUAL),
    arch("granite", USUAL),
    arch("mixtral", "qkv attn_out", num_local_experts=4),
    arch("qwen2_moe", USUAL, shared_expert_intermediate_size=16, **_EXPERTS),
    arch("deepseek_v3", f"{USUAL} other", **_LATENT),
]
ENCODERS = [
    arch("modernbert", USUAL, masked=True, local_attention=6),
    arch("mpnet", PLAIN, masked=True),
    arch("megatron-bert", PLAIN, masked=True),
]
ENCODER_DECODERS = [
    arch("t5", PLAIN, seq2seq=True, **_T5),
    arch("umt5", USUAL, seq2seq=True, **_T5),
    arch("bart", PLAIN, seq2seq=True, **_SEQ2SEQ),
]
OPAQUE = [
    (arch("falcon", "", new_decoder_architecture=True, num_kv_heads=2), "FYC-G05", "given a mask"),
    (arch("mamba", "", state_size=8), "FYC-G05", "given a mask"),
    (arch("codegen", "", n_embd=32, n_layer=3, n_head=4, rotary_dim=4), "FYC-G05", "given a cache"),
]


def bound(model: PreTrainedModel, graph: ModelGraph) -> PreTrainedModel:
    changed = copy.deepcopy(model)
    for path, block in graph.blocks.items():
        bind(changed.get_submodule(path), block)
    return changed


def logits_or_none(model: PreTrainedModel, mask: str, cache: str) -> list[torch.Tensor] | None:
    """None where transformers itself fails: Bloom cannot use a static cache."""
    try:
        return logits(model, mask, cache)
    except RuntimeError:
        return None


@pytest.mark.parametrize("arch", [*DECODERS, *ENCODERS], ids=lambda arch: arch.name)
def test_decoders_and_encoders(arch: Arch) -> None:
    model = build(arch)
    graph = trace_model(model)
    changed = bound(model, graph)
    for mask in MASKS:
        for kind in ["none"] if arch.masked else CACHES:
            expected = logits_or_none(model, mask, kind)
            assert expected is not None or (arch.name, kind) == ("bloom", "static")
            if expected is not None:
                torch.testing.assert_close(logits(changed, mask, kind), expected, rtol=0, atol=1e-5)
        with torch.no_grad():
            given = arguments(tokens(), mask_of(mask), None)
            expected = model(**given).logits
            torch.testing.assert_close(graph.run(model, given)["logits"], expected, rtol=0, atol=1e-5)
    if not arch.masked:
        options = {"max_new_tokens": 16, "do_sample": False, "attention_mask": mask_of("left-padded")}
        assert torch.equal(changed.generate(tokens(), **options), model.generate(tokens(), **options))
    assert roles(model, graph) == arch.groups


@pytest.mark.parametrize("arch", ENCODER_DECODERS, ids=lambda arch: arch.name)
def test_encoder_decoders(arch: Arch) -> None:
    model = build(arch)
    graph = trace_model(model)
    changed = bound(model, graph)
    for mask in MASKS:
        given = {**arguments(tokens(), mask_of(mask), None), "decoder_input_ids": tokens(4)}
        with torch.no_grad():
            expected = model(**given).logits
            torch.testing.assert_close(graph.run(model, given)["logits"], expected, rtol=0, atol=1e-5)
            torch.testing.assert_close(changed(**given).logits, expected, rtol=0, atol=1e-5)
    for extra in ({}, {"cache_implementation": "static", "disable_compile": True}, {"use_cache": False}):
        options = {"max_new_tokens": 16, "do_sample": False, "attention_mask": mask_of("left-padded"), **extra}
        assert torch.equal(changed.generate(tokens(), **options), model.generate(tokens(), **options))
    assert roles(model, graph) == arch.groups


def roles(model: PreTrainedModel, graph: ModelGraph) -> set[str]:
    return {
        group.role for path, block in graph.blocks.items() for group in linear_groups(block, model.get_submodule(path))
    }


@pytest.mark.parametrize(("arch", "code", "says"), OPAQUE, ids=lambda value: getattr(value, "name", ""))
def test_what_cannot_be_traced_says_so_and_runs(arch: Arch, code: str, says: str) -> None:
    model = build(arch)
    with pytest.raises(TraceError, match=says) as raised:
        trace_model(model)
    assert raised.value.code == code
    graph = trace_model(model, opaque="keep")
    assert all(block.opaque and says in (block.reason or "") for block in graph.blocks.values())
    given = {"input_ids": tokens(), "attention_mask": mask_of("left-padded")}
    with torch.no_grad():
        expected = model(**given).logits
        torch.testing.assert_close(graph.run(model, given)["logits"], expected, rtol=0, atol=1e-5)
        assert torch.equal(bound(model, graph)(**given).logits, expected)

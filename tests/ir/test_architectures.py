"""Every supported architecture: traced without opaque blocks, equal to the original in every way it can be called."""

from __future__ import annotations

import copy
import json
from functools import cache
from typing import Any

import pytest
import torch
from tiny_models import ALL, CAUSAL, VOCAB, Arch, build
from torch import Tensor
from transformers import PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache, StaticCache

from fyc.ir import BlockGraph, ModelGraph, bind, linear_groups, trace_model

every = pytest.mark.parametrize("arch", ALL, ids=lambda arch: arch.name)
causal = pytest.mark.parametrize("arch", CAUSAL, ids=lambda arch: arch.name)

LENGTH = 9
MASKS = ("none", "ones", "left-padded")
CACHES = ("none", "dynamic", "static")


@cache
def traced(arch: Arch) -> ModelGraph:
    return trace_model(build(arch))


def bound(arch: Arch) -> PreTrainedModel:
    model, graph = build(arch), traced(arch)
    for path, block in graph.blocks.items():
        bind(model.get_submodule(path), block)
    return model


def tokens(length: int = LENGTH) -> Tensor:
    return torch.randint(3, VOCAB, (2, length), generator=torch.Generator().manual_seed(3))


def mask_of(kind: str, length: int = LENGTH) -> Tensor | None:
    if kind == "none":
        return None
    mask = torch.ones(2, length, dtype=torch.long)
    if kind == "left-padded":
        mask[0, :3] = 0
    return mask


def cache_of(kind: str, model: PreTrainedModel) -> Cache | None:
    if kind == "dynamic":
        return DynamicCache(config=model.config)
    return StaticCache(config=model.config, max_cache_len=32) if kind == "static" else None


def arguments(ids: Tensor, mask: Tensor | None, cache: Cache | None) -> dict[str, Any]:
    given = {"input_ids": ids, "attention_mask": mask, "past_key_values": cache}
    return {name: value for name, value in given.items() if value is not None}


def logits(model: PreTrainedModel, mask: str, cache: str) -> list[Tensor]:
    """Logits of a prefill and of one decoding step (without a cache: of a prompt and of one token)."""
    ids, held = tokens(), cache_of(cache, model)
    whole = mask_of(mask)
    with torch.no_grad():
        prefill = model(**arguments(ids[:, :-1], None if whole is None else whole[:, :-1], held)).logits
        step = whole if held is not None else None if whole is None else whole[:, -1:]
        decode = model(**arguments(ids[:, -1:], step, held)).logits
    return [prefill, decode]


@every
def test_every_block_is_traced(arch: Arch) -> None:
    graph = traced(arch)
    assert [block.reason for block in graph.blocks.values() if block.opaque] == []
    assert len(graph.calls) == arch.calls
    assert len({id(block) for block in graph.blocks.values()}) == arch.structures


@every
@pytest.mark.parametrize("mask", MASKS)
def test_staged_execution_equals_the_model(arch: Arch, mask: str) -> None:
    model, graph = build(arch), traced(arch)
    given = {"input_ids": tokens(), "attention_mask": mask_of(mask)}
    with torch.no_grad():
        expected = model(**{k: v for k, v in given.items() if v is not None}).logits
        torch.testing.assert_close(graph.run(model, given)["logits"], expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize(
    ("arch", "kind"),
    [(arch, kind) for arch in ALL for kind in CACHES if kind == "none" or not arch.masked],
    ids=lambda value: getattr(value, "name", value),
)
def test_bound_model_equals_the_model(arch: Arch, mask: str, kind: str) -> None:
    for expected, actual in zip(logits(build(arch), mask, kind), logits(bound(arch), mask, kind), strict=True):
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-5)


@causal
def test_staged_execution_with_a_cache(arch: Arch) -> None:
    model, graph = build(arch), traced(arch)
    ids, mask = tokens(), mask_of("left-padded")
    assert mask is not None
    held = DynamicCache(config=model.config)
    with torch.no_grad():
        graph.run(model, arguments(ids[:, :-1], mask[:, :-1], held))
        actual = graph.run(model, arguments(ids[:, -1:], mask, held))["logits"]
    torch.testing.assert_close(actual, logits(model, "left-padded", "dynamic")[1], rtol=0, atol=1e-5)


@causal
@pytest.mark.parametrize("kind", CACHES)
def test_generation_is_token_identical(arch: Arch, kind: str) -> None:
    options: dict[str, Any] = {"max_new_tokens": 64, "do_sample": False, "attention_mask": mask_of("left-padded")}
    if kind == "none":
        options["use_cache"] = False
    elif kind == "static":
        options["cache_implementation"] = "static"
        options["disable_compile"] = True
    expected = build(arch).generate(tokens(), **options)
    assert torch.equal(bound(arch).generate(tokens(), **options), expected)
    assert expected.shape[1] == LENGTH + 64
    assert len(set(expected[0, LENGTH:].tolist())) > 3, "the model says too little for this test to see a mistake"


@every
def test_groups_are_read_off_the_graph(arch: Arch) -> None:
    model, graph = build(arch), traced(arch)
    for path, block in graph.blocks.items():
        groups = linear_groups(block, model.get_submodule(path))
        assert {(group.role, group.paths, group.norm) for group in groups} == arch.groups
        renamed = BlockGraph.from_json(block.to_json())
        assert {(g.role, g.paths, g.norm) for g in linear_groups(renamed, model.get_submodule(path))} == arch.groups


@every
def test_json_round_trip_is_exact(arch: Arch) -> None:
    model, graph = build(arch), traced(arch)
    for call in graph.calls:
        block = graph.blocks[call.path]
        text = json.dumps(block.to_json())
        again = BlockGraph.from_json(json.loads(text))
        assert json.dumps(again.to_json()) == text
        assert again.digest == block.digest == block.source_digest == again.source_digest
    given = {"input_ids": tokens(), "attention_mask": mask_of("left-padded")}
    stored = copy.copy(graph)
    stored.blocks = {path: BlockGraph.from_json(block.to_json()) for path, block in graph.blocks.items()}
    with torch.no_grad():
        assert torch.equal(stored.run(model, given)["logits"], graph.run(model, given)["logits"])

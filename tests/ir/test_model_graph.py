"""Staged execution: one block's weights at a time."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from test_architectures import ALL, Arch, build, every, mask_of, tokens, traced

from fyc.errors import TraceError
from fyc.ir import trace_model

LLAMA, BERT = (next(arch for arch in ALL if arch.name == n) for n in ("llama", "bert"))
GIVEN = {"input_ids": tokens(), "attention_mask": mask_of("left-padded")}


def expected(arch: Arch, given: dict[str, Any]) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = build(arch)(**given).logits
    return logits


@every
def test_blocks_may_be_without_weights(arch: Arch) -> None:
    graph, full, empty = traced(arch), build(arch), build(arch)
    for path in graph.blocks:
        empty.get_submodule(path).to("meta")
    with torch.no_grad():
        state = graph.start(empty, GIVEN)
        for call in graph.calls:
            args, kwargs = graph.block_inputs(state, call.index)
            output = full.get_submodule(call.path)(*args, **kwargs)
            graph.advance(empty, state, call.index, output)
    torch.testing.assert_close(state.output["logits"], expected(arch, GIVEN), rtol=0, atol=1e-5)


def test_values_nobody_needs_are_dropped() -> None:
    graph, model = traced(LLAMA), build(LLAMA)
    with torch.no_grad():
        state = graph.start(model, GIVEN)
        names = []
        for call in graph.calls:
            names.append(set(state.values))
            args, kwargs = graph.block_inputs(state, call.index)
            graph.advance(model, state, call.index, model.get_submodule(call.path)(*args, **kwargs))
    assert "attention_mask" not in names[0]
    assert names[1] - {"model_layers_0"} == names[2] - {"model_layers_1"}
    assert "model_embed_tokens" not in names[1] or "input_ids" not in names[1]
    assert state.values == {}


def test_calls_come_in_order() -> None:
    graph, model = traced(LLAMA), build(LLAMA)
    with torch.no_grad():
        state = graph.start(model, GIVEN)
        with pytest.raises(IndexError, match="waits for block call 0"):
            graph.block_inputs(state, 1)
        with pytest.raises(IndexError):
            graph.advance(model, state, 2, tokens())


def test_a_copied_state_goes_its_own_way() -> None:
    graph, model = traced(LLAMA), build(LLAMA)
    with torch.no_grad():
        state = graph.start(model, GIVEN)
        other = copy.copy(state)
        other.values = dict(state.values)
        args, kwargs = graph.block_inputs(other, 0)
        graph.advance(model, other, 0, model.model.layers[0](*args, **kwargs) * 0)
        assert state.position == 0
        assert graph.block_inputs(state, 0)[0][0].abs().sum() > 0


@pytest.mark.parametrize("arch", [LLAMA, BERT], ids=lambda arch: arch.name)
def test_optional_inputs_are_traced_when_given(arch: Arch) -> None:
    positions = torch.arange(9).expand(2, -1) * 2
    given = {**GIVEN, "position_ids": positions}
    if arch.masked:
        given["token_type_ids"] = torch.ones(2, 9, dtype=torch.long)
    with torch.no_grad():
        actual = traced(arch).run(build(arch), given)["logits"]
    torch.testing.assert_close(actual, expected(arch, given), rtol=0, atol=1e-5)
    assert (actual - expected(arch, GIVEN)).abs().max() > 1e-3


def test_unknown_inputs_are_refused() -> None:
    with pytest.raises(TraceError, match="no input pixel_values"):
        traced(LLAMA).start(build(LLAMA), {**GIVEN, "pixel_values": tokens()})


def test_on_node_sees_and_replaces_values() -> None:
    graph, model = traced(LLAMA), build(LLAMA)
    block, layer = graph.blocks["model.layers.0"], model.model.layers[0]
    seen: list[str] = []
    with torch.no_grad():
        args, kwargs = graph.block_inputs(graph.start(model, GIVEN), 0)
        plain = block.run(layer, args, kwargs, lambda node, value: seen.append(node.name))
        zeroed = block.run(layer, args, kwargs, lambda n, v: v * 0 if n.target == "mlp.down_proj" else None)
        torch.testing.assert_close(plain, layer(*args, **kwargs))
    assert seen == [node.name for node in block.graph.nodes]
    assert not torch.allclose(plain, zeroed)


def test_arguments_that_do_not_fit_are_refused() -> None:
    block, layer = traced(BERT).blocks["bert.encoder.layer.0"], build(BERT).bert.encoder.layer[0]
    for args, kwargs in [((), {}), ((tokens(),) * 20, {}), ((tokens(),), {"hidden_states": tokens()})]:
        with pytest.raises(TraceError, match="do not fit") as raised:
            block.run(layer, args, kwargs)
        assert raised.value.code == "FYC-G05"


def test_a_copy_can_be_edited_alone() -> None:
    graph = trace_model(build(LLAMA))
    block = graph.blocks["model.layers.0"]
    before, copied = block.digest, block.copy()
    node = next(n for n in copied.graph.nodes if n.target == "mlp.act_fn")
    with copied.graph.inserting_after(node):
        clamped = copied.graph.call_function(torch.clamp, (node, -1.0, 1.0))
    node.replace_all_uses_with(clamped, lambda user: user is not clamped)
    copied.lint(build(LLAMA).model.layers[0])
    assert block.digest == before != copied.digest
    assert graph.blocks["model.layers.1"] is block

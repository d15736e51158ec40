"""Operations that change a tensor in place: kept in the graph when it can be seen what they do, refused otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tiny_models import ALL, VOCAB, build
from torch import Tensor, fx, nn
from transformers import PreTrainedModel
from transformers.models.llama.modeling_llama import LlamaMLP

from fyc.errors import TraceError
from fyc.ir import BlockGraph, bind, trace_model
from fyc.ir.effects import mutates, remove_dead

LLAMA = next(arch for arch in ALL if arch.name == "llama")


class Statement(LlamaMLP):
    """Calls something for what it does to its argument, not for its value."""

    change: Callable[[Tensor], Any]

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        self.change(y)
        return y


def model_with(change: Callable[[Tensor], Any]) -> PreTrainedModel:
    model = build(LLAMA)
    for layer in model.model.layers:
        layer.mlp.__class__ = Statement
        layer.mlp.change = change
    return model


STATEMENTS: dict[str, Callable[[Tensor], Any]] = {
    "inplace": lambda y: F.relu(y, inplace=True),
    "inplace by position": lambda y: F.silu(y, True),
    "inplace after other arguments": lambda y: F.hardtanh(y, -0.01, 0.01, True),
    "out": lambda y: torch.mul(y, 3.0, out=y),
    "a method": lambda y: y.clamp_(-0.01, 0.01),
    "a method of a view": lambda y: y[:, 1:].mul_(3.0),
}


@pytest.mark.parametrize("change", STATEMENTS.values(), ids=STATEMENTS)
def test_a_change_in_place_stays_in_the_graph(change: Callable[[Tensor], Any]) -> None:
    model = model_with(change)
    ids = torch.randint(3, VOCAB, (2, 9), generator=torch.Generator().manual_seed(3))
    graph = trace_model(model)
    with torch.no_grad():
        expected = model(input_ids=ids).logits
        assert not torch.allclose(expected, build(LLAMA)(input_ids=ids).logits, atol=1e-5)
        for path, block in graph.blocks.items():
            bind(model.get_submodule(path), BlockGraph.from_json(block.to_json()))
        assert torch.equal(model(input_ids=ids).logits, expected)


@pytest.mark.parametrize("outer", [torch.no_grad, torch.inference_mode], ids=lambda mode: mode.__name__)
def test_a_module_that_changes_its_input_is_refused(outer: Callable[[], Any]) -> None:
    """A graph names the module and nothing else, so nobody could see that the call must stay."""
    model = build(LLAMA)
    for layer in model.model.layers:
        layer.mlp.act_fn = nn.ReLU(inplace=True)
    with outer(), pytest.raises(TraceError, match=r"`mlp\.act_fn` changes its input in place") as raised:
        trace_model(model)
    assert raised.value.code == "FYC-G02"


def test_what_is_pure_is_removed_when_nobody_uses_it() -> None:
    graph = fx.Graph()
    x = graph.placeholder("x")
    pure = [graph.call_function(F.relu, (x,)), graph.call_function(F.relu, (x, False))]
    pure += [graph.call_function(F.relu, (x,), {"inplace": False}), graph.call_function(torch.add, (x, 1))]
    kept = graph.call_function(F.relu, (x, True))
    graph.output(x)
    assert [mutates(node) for node in pure] == [False] * 4
    remove_dead(graph)
    assert [node for node in graph.nodes if node.op == "call_function"] == [kept]

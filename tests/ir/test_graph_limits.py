"""Graphs that would take all memory are stopped before they take it."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tiny_models import ALL, build
from torch import fx, nn
from torch.utils._pytree import tree_map_only

from fyc.errors import ArtifactError
from fyc.ir import BlockGraph, trace_model
from fyc.ir.limits import UNKNOWN, run_limited

LLAMA = next(arch for arch in ALL if arch.name == "llama")
Make = Callable[[fx.Graph, fx.Node], Any]


def call(target: Callable[..., Any], *args: Any, **kwargs: Any) -> Make:
    return lambda graph, x: graph.call_function(target, args, kwargs)


def method(name: str, *args: Any) -> Make:
    return lambda graph, x: graph.call_method(name, (x, *args))


def repeated(target: Callable[..., Any], start: Any = None, times: int = 12) -> Make:
    """target(target(...), target(...)): each step doubles or squares."""

    def make(graph: fx.Graph, x: fx.Node) -> Any:
        value = x if start is None else start
        for _ in range(times):
            value = graph.call_function(target, (value, value))
        return value

    return make


def several_large_ones(graph: fx.Graph, x: fx.Node) -> Any:
    return tuple(graph.call_method("expand", (x, 2**21, -1, -1)) for _ in range(5))


def lists_in_lists(graph: fx.Graph, x: fx.Node) -> Any:
    value: Any = 1
    for _ in range(5):
        value = graph.call_function(max, ([[value] * 64], [[value] * 64]))
    return graph.call_function(torch.tensor, (value,))


TOO_LARGE: dict[str, Make] = {
    "a factory": call(torch.zeros, 2**34),
    "a factory with a device": call(torch.zeros, 2**34, device=torch.device("cpu")),
    "a range": call(torch.arange, 2**40),
    "a method": method("repeat", 1, 2**30),
    "an expansion": method("expand", 2**40, -1, -1),
    "products": repeated(torch.kron),
    "several large ones": several_large_ones,
    "lists in lists": lists_in_lists,
    "a list repeated": call(operator.mul, [0], 2**40),
    "a text repeated": call(operator.mul, 2**40, "x"),
    "a text of a width": call(operator.mod, "%1000000000d", 1),
    "a power": call(operator.pow, 10, 10**9),
    "a shift": call(operator.lshift, 1, 10**12),
    "a rounded number": call(round, 5, -(10**9)),
    "a number squared": repeated(operator.mul, 10),
    "a list doubled": repeated(operator.add, [0], 30),
}


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("make", TOO_LARGE.values(), ids=TOO_LARGE)
def test_what_would_take_all_memory_is_refused(make: Make, device: str) -> None:
    graph = fx.Graph()
    graph.output(make(graph, graph.placeholder("x")))
    with pytest.raises(ArtifactError, match="a graph was refused") as raised:
        run_limited(BlockGraph(graph), nn.Identity(), (torch.ones(4, 8, device=device),), {})
    assert raised.value.code == "FYC-A07"


def test_large_values_of_large_blocks_are_not_refused() -> None:
    graph = fx.Graph()
    graph.output(method("new_empty", 2**27)(graph, graph.placeholder("x")))
    module, x = nn.Identity(), torch.ones(4, 8, device="meta")
    with pytest.raises(ArtifactError):
        run_limited(BlockGraph(graph), module, (x,), {})
    module.register_buffer("large", torch.empty(2**24, device="meta"))
    assert run_limited(BlockGraph(graph), module, (x,), {}).numel() == 2**27


def test_a_block_gives_what_its_graph_gives() -> None:
    model = build(LLAMA)
    graph = trace_model(model)
    block, layer = graph.blocks["model.layers.0"], model.model.layers[0]
    with torch.no_grad():
        args, kwargs = graph.block_inputs(graph.start(model, {"input_ids": torch.ones(2, 9, dtype=torch.long)}), 0)
        expected = block.run(layer, args, kwargs)
        assert torch.equal(run_limited(block, layer, args, kwargs), expected)
        args, kwargs = tree_map_only(torch.Tensor, lambda tensor: tensor.to("meta"), (args, kwargs))
        assert run_limited(block, layer.to("meta"), args, kwargs).shape == expected.shape


def test_what_needs_data_hides_nothing_else() -> None:
    graph = fx.Graph()
    hidden = graph.call_method("nonzero", (graph.placeholder("x"),))
    last = graph.output(graph.call_function(torch.cat, ([hidden, hidden],)))
    x = torch.ones(4, 8)
    assert run_limited(BlockGraph(graph), nn.Identity(), (x.to("meta"),), {}) is UNKNOWN
    with graph.inserting_before(last):
        graph.call_function(torch.ones, (2**34,))
    with pytest.raises(ArtifactError, match="a graph was refused"):
        run_limited(BlockGraph(graph), nn.Identity(), (x.to("meta"),), {})

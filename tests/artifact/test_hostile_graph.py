"""Graphs made with bad intentions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import toys
from hostile import RAW, nested, refused, replace

import fyc
from fyc.artifact import open_artifact
from fyc.errors import FycError

pytestmark = pytest.mark.usefixtures("traced_once")


GRAPH_CHANGES: dict[str, Callable[[Any], None]] = {
    "an unknown function": lambda graph: _first(graph, "call_function").update(target="os:system"),
    "eval": lambda graph: _first(graph, "call_function").update(target="builtins:eval"),
    "torch.load": lambda graph: _first(graph, "call_function").update(target="torch:load"),
    "a method that writes": lambda graph: _first(graph, "call_method").update(target="tofile"),
    "a dunder method": lambda graph: _first(graph, "call_method").update(target="__reduce_ex__"),
    "a module path with a call": lambda graph: _first(graph, "call_module").update(target="mlp.__init__"),
    "a module that does not exist": lambda graph: _first(graph, "call_module").update(target="mlp.nothing"),
    "a name that is code": lambda graph: graph["nodes"][0].update(name="x): import os  #"),
    "a default that is no value": lambda graph: graph["nodes"][0].update(args=[{"tuple": []}]),
    "a huge tensor": lambda graph: insert(graph, "torch:ones", 2**34),
    "a huge tensor on the CPU": lambda graph: insert(graph, "torch:ones", 2**34, device={"device": "cpu"}),
    "a huge identity": lambda graph: insert(graph, "torch:eye", 2**20),
    "a huge list": lambda graph: insert(graph, "operator:mul", {"list": [0]}, 2**40),
    "a huge text": lambda graph: insert(graph, "operator:mod", "%1000000000d", 1),
    "a huge power": lambda graph: insert(graph, "operator:pow", 10, 10**9),
    "a huge shift": lambda graph: insert(graph, "operator:lshift", 1, 2**40),
    "a number rounded to a billion digits": lambda graph: insert(graph, "builtins:round", 5, -(10**9)),
    "a number squared and squared": lambda graph: double(graph, "operator:mul", 10),
    "a tensor doubled and doubled": lambda graph: double(graph, "torch:kron", first_input(graph)),
    "a huge integer": lambda graph: _first(graph, "call_function").update(args=[2**70]),
    "deep arguments": lambda graph: _first(graph, "call_function").update(args=[nested(100)]),
    "no nodes": lambda graph: graph.update(nodes=[]),
    "many nodes": lambda graph: graph.update(nodes=graph["nodes"][:1] * 20_000),
    "nodes of a wrong type": lambda graph: graph.update(nodes={"a": 1}),
    "no version": lambda graph: graph.pop("version"),
    "another version": lambda graph: graph.update(version=99),
    "an unknown key": lambda graph: graph.update(code="import os"),
    "opaque with nodes": lambda graph: graph["signature"].update(opaque=True),
}


def _first(graph: dict[str, Any], op: str) -> dict[str, Any]:
    return next(node for node in graph["nodes"] if node["op"] == op)


def first_input(graph: dict[str, Any]) -> Any:
    return {"node": graph["nodes"][0]["name"]}


def insert(graph: dict[str, Any], target: str, *args: Any, **kwargs: Any) -> Any:
    """Call one more function, after the inputs; returns a reference to its value."""
    place = next(i for i, node in enumerate(graph["nodes"]) if node["op"] != "placeholder")
    while graph["nodes"][place]["name"].startswith("bomb"):
        place += 1
    name = f"bomb{place}"
    node = {"op": "call_function", "name": name, "target": target, "args": list(args), "kwargs": kwargs}
    graph["nodes"].insert(place, node)
    return {"node": name}


def double(graph: dict[str, Any], target: str, value: Any) -> None:
    for _ in range(40):
        value = insert(graph, target, value, value)


def edit_graph(folder: Path, change: Callable[[Any], None]) -> None:
    name = open_artifact(folder).manifest.blocks[0].graph
    assert name is not None
    graph = json.loads((folder / name).read_text())
    change(graph)
    (folder / name).write_text(json.dumps(graph))
    toys.rehash(folder, name)


@pytest.mark.parametrize("change", GRAPH_CHANGES.values(), ids=GRAPH_CHANGES)
def test_graphs_that_are_refused(change: Callable[[Any], None], folder: Path) -> None:
    edit_graph(folder, change)
    refused(folder, "FYC-A07")


@pytest.mark.parametrize("name", [name for name in GRAPH_CHANGES if name.startswith(("a huge t", "a tensor"))])
def test_a_graph_that_is_compared_after_an_upgrade_cannot_take_all_memory(name: str, folder: Path) -> None:
    """The comparison runs the graph, so its own values are looked at, too, and not only its shapes."""
    edit_graph(folder, GRAPH_CHANGES[name])
    toys.edit_manifest(folder, replace("versions", "transformers")("5.0.0"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fyc.loading.quantizer.check_sizes", lambda *_: None)
        refused(folder, "FYC-A07")


@pytest.mark.parametrize(("raw", "code"), RAW.values(), ids=RAW)
def test_files_that_are_no_graph(raw: bytes, code: str, folder: Path) -> None:
    name = open_artifact(folder).manifest.blocks[0].graph
    assert name is not None
    (folder / name).write_bytes(raw)
    toys.rehash(folder, name)
    refused(folder, "FYC-A07")


def test_text_in_a_graph_stays_text(folder: Path) -> None:
    """A default that looks like code is a constant in the generated function."""
    bomb = "__import__('os')._exit(3)"
    edit_graph(folder, lambda graph: graph["nodes"][0].update(args=[bomb]))
    try:
        model = fyc.load(folder)
    except FycError:
        return
    model(torch.tensor([[1, 2]]))

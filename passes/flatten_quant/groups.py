"""The groups of a block that can be converted, and putting integer modules in their place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from fyc_passes.flatten_quant.modules import FlattenQuantize, IntLinear
from torch import Tensor, fx, nn
from transformers.pytorch_utils import Conv1D

from fyc import ir


@dataclass(frozen=True)
class Group:
    """Linear layers that read one value.

    Attributes:
        name: path in the block of the quantize node that they will share.
        input: the node whose value they read.
        nodes: their calls.
        paths: their module paths in the block, each once.
        residual: whether their output is added to the residual stream.
        channels: K.
        macs: multiply-accumulates for one token.
    """

    name: str
    input: fx.Node
    nodes: tuple[fx.Node, ...]
    paths: tuple[str, ...]
    residual: bool
    channels: int
    macs: int


def find_groups(graph: ir.BlockGraph, module: nn.Module, prefix: str, selects: Callable[[str], bool]) -> list[Group]:
    """The groups of a block whose layers the recipe selects, in execution order.

    A layer that is called with two different inputs cannot have one flatten map and is left alone.

    Args:
        graph: the block's graph.
        module: the block; may be on the meta device.
        prefix: the block's path in the model.
        selects: the recipe's patterns.
    """
    found = ir.linear_groups(graph, module)
    inputs: dict[str, set[fx.Node]] = {}
    for group in found:
        for path in group.paths:
            inputs.setdefault(path, set()).add(group.input)
    groups: list[Group] = []
    for group in found:
        nodes = tuple(
            node
            for node in group.nodes
            if len(inputs[str(node.target)]) == 1 and selects(f"{prefix}.{node.target}") and _plain(module, node)
        )
        if not nodes:
            continue
        paths = tuple(dict.fromkeys(str(node.target) for node in nodes))
        shapes = [layer_shape(module.get_submodule(path)) for path in paths]
        name = _free_name(module, paths[0], group.role, {other.name for other in groups})
        groups.append(
            Group(
                name=name,
                input=group.input,
                nodes=nodes,
                paths=paths,
                residual=group.role in ("attn_out", "down"),
                channels=shapes[0][1],
                macs=sum(rows * columns for rows, columns in shapes),
            )
        )
    return groups


def layer_shape(layer: nn.Module) -> tuple[int, int]:
    """(out_features, in_features) of a Linear or a Conv1D, whose weight is stored transposed."""
    rows, columns = layer.weight.shape  # type: ignore[union-attr,misc]
    return (columns, rows) if isinstance(layer, Conv1D) else (rows, columns)


def layer_weight(layer: nn.Module) -> Tensor:
    """The weight as float32 `[N, K]`."""
    weight: Tensor = layer.weight.detach()  # type: ignore[assignment,union-attr,operator]
    return (weight.T if isinstance(layer, Conv1D) else weight).to(torch.float32)


def layer_bias(layer: nn.Module) -> Tensor | None:
    """The bias as float32 `[N]`, or None."""
    bias: Tensor | None = layer.bias  # type: ignore[assignment]
    return None if bias is None else bias.detach().to(torch.float32)


def install(
    graph: fx.Graph, module: nn.Module, group: Group, quantize: FlattenQuantize, layers: dict[str, IntLinear]
) -> None:
    """Put a quantize node in front of a group and integer layers in its place, in the block and in its graph.

    Args:
        graph: the block's graph, edited in place. Nodes are found by name, so it may be a copy.
        module: the block, edited in place.
        group: the group.
        quantize: its quantize node.
        layers: integer layer of each path.
    """
    _set(module, group.name, quantize)
    for path, layer in layers.items():
        _set(module, path, layer)
    named = {node.name: node for node in graph.nodes}
    source, calls = named[group.input.name], [named[node.name] for node in group.nodes]
    with graph.inserting_before(calls[0]):
        codes = graph.call_module(group.name, (source,))
        parts = [
            graph.create_node("get_attr", f"{group.name}.{part}") for part in ("scale", "flatten_src", "flatten_digit")
        ]
        dtype = graph.call_function(getattr, (source, "dtype"))
    for call in calls:
        call.args, call.kwargs = (codes, *parts, dtype), {}


def _set(module: nn.Module, path: str, child: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    child.train(module.training)
    setattr(module.get_submodule(parent), name, child)


def _plain(module: nn.Module, node: fx.Node) -> bool:
    layer = module.get_submodule(str(node.target))
    return type(layer) in (nn.Linear, Conv1D) and len(node.all_input_nodes) == 1


def _free_name(module: nn.Module, first: str, role: str, taken: set[str]) -> str:
    parent, _, leaf = first.rpartition(".")
    stem = f"{leaf if role == 'other' else role}_quantize"
    prefix = f"{parent}." if parent else ""
    holder = module.get_submodule(parent)
    name, number = stem, 2
    while hasattr(holder, name) or prefix + name in taken:
        name, number = f"{stem}_{number}", number + 1
    return prefix + name

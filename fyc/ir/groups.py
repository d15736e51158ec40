"""Which linear layers of a block read the same value, and what they are for: read off the graph, not off names."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import fx, nn
from transformers.pytorch_utils import Conv1D

from fyc.ir import interpreter, ops
from fyc.ir.block_graph import BlockGraph

Role = Literal["qkv", "attn_out", "gate_up", "up", "down", "other"]

_MATMULS = {
    torch.matmul,
    torch.bmm,
    torch.baddbmm,
    torch.einsum,
    operator.matmul,
    "matmul",
    "bmm",
    "baddbmm",
    "__matmul__",
}
_SOFTMAXES = {torch.softmax, F.softmax, "softmax"}
_PRODUCTS = {operator.mul, operator.imul, torch.mul, torch.multiply, "mul", "mul_"}
_SPLITS = {torch.chunk, torch.split, torch.tensor_split, torch.unbind, "chunk", "split", "tensor_split", "unbind"}
_SIZES = {"size", "numel", "dim"}


@dataclass(frozen=True)
class LinearGroup:
    """Linear layers that read one value.

    Attributes:
        input: the node whose value they read.
        nodes: their calls, in execution order.
        paths: their module paths in the block, in the same order.
        role: `qkv` feeds attention; `attn_out` reads its result; `gate_up` two products of an MLP that are multiplied,
            `up` a plain first MLP layer, `down` the layer after either; `other` for none of these and for more than
            one of them (attention and MLP that read the same value). A layer without a role takes its group's.
        norm: path of the norm module that produces the input, None if something else does.
    """

    input: fx.Node
    nodes: tuple[fx.Node, ...]
    paths: tuple[str, ...]
    role: Role
    norm: str | None


def linear_groups(graph: BlockGraph, module: nn.Module) -> list[LinearGroup]:
    """Groups of linear layers (nn.Linear, transformers' Conv1D and subclasses) of a block, in execution order.

    Args:
        graph: the block's graph; an opaque one has no groups.
        module: the block (weights are not read; it may be on the meta device).
    """
    if graph.opaque:
        return []
    reading: dict[fx.Node, list[fx.Node]] = {}
    for node in graph.graph.nodes:
        if node.op == "call_module" and isinstance(interpreter.fetch(module, str(node.target)), nn.Linear | Conv1D):
            source = node.args[0] if node.args else next(iter(node.kwargs.values()))
            if isinstance(source, fx.Node):
                reading.setdefault(source, []).append(node)
    flow = _Flow(graph.graph, {n: source for source, nodes in reading.items() for n in nodes}, module)
    return [
        LinearGroup(source, tuple(nodes), tuple(str(n.target) for n in nodes), flow.role(nodes), _norm(source, module))
        for source, nodes in reading.items()
    ]


def _is_size(node: fx.Node) -> bool:
    if node.op == "call_method":
        return node.target in _SIZES
    return node.target is getattr and node.args[1] in ("shape", "dtype", "device")


def _norm(source: fx.Node, module: nn.Module) -> str | None:
    if source.op != "call_module":
        return None
    producer = interpreter.fetch(module, str(source.target))
    shapes = {tuple(p.shape) for p in producer.parameters()}
    is_norm = len(shapes) == 1 and len(next(iter(shapes))) == 1 and next(producer.children(), None) is None
    return str(source.target) if is_norm else None


class _Flow:
    """Data flow of a block between its linear layers."""

    def __init__(self, graph: fx.Graph, linears: dict[fx.Node, fx.Node], module: nn.Module) -> None:
        self.linears, self.module = linears, module
        self.cores = {node for node in graph.nodes if self._is_attention(node)}
        # Written-out attention: the values meet the weights in a product after the softmax.
        self.cores |= {n for core in self.cores for n in self._after(core) if n.target in _MATMULS}
        self.sources = {node: self._before(node) for node in linears}
        self.downs = {node: group for node in linears if (group := self._mlp_before(node)) is not None}

    def role(self, nodes: list[fx.Node]) -> Role:
        roles = {self._role(node) for node in nodes} - {"other"}
        return roles.pop() if len(roles) == 1 else "other"

    def _role(self, node: fx.Node) -> Role:
        if self._after(node) & self.cores:
            return "qkv"
        if self.sources[node] & self.cores:
            return "attn_out"
        for down, source in self.downs.items():
            if source is self.linears[node] and node in self.sources[down]:
                return "gate_up" if self._gated(down) else "up"
        return "down" if node in self.downs else "other"

    def _before(self, node: fx.Node) -> set[fx.Node]:
        """Everything the input of a linear layer is computed from, up to and including other linear layers."""
        return self._walk([self.linears[node]], lambda n: [] if n in self.linears or _is_size(n) else n.all_input_nodes)

    def _after(self, node: fx.Node) -> set[fx.Node]:
        """Everything computed from a linear layer's output, up to other linear layers."""
        return self._walk(node.users, lambda n: [] if n in self.linears or _is_size(n) else list(n.users))

    @staticmethod
    def _walk(start: Iterable[fx.Node], following: object) -> set[fx.Node]:
        found: set[fx.Node] = set()
        waiting = list(start)
        while waiting:
            node = waiting.pop()
            if node not in found:
                found.add(node)
                waiting.extend(following(node))  # type: ignore[operator]
        return found

    def _mlp_before(self, node: fx.Node) -> fx.Node | None:
        """For the last layer of an MLP: the value its first layers read."""
        before = self.sources[node]
        if any(n.op == "placeholder" for n in before) or before & self.cores:
            return None
        inputs = {self.linears[n] for n in before if n in self.linears}
        return inputs.pop() if len(inputs) == 1 else None

    def _gated(self, down: fx.Node) -> bool:
        before = self.sources[down]
        firsts = [n for n in before if n in self.linears]
        halves = [n for n in before if n.target in _SPLITS or self._slices(n)]
        if len(firsts) < 2 and not halves:
            return False
        return any(n.target in _PRODUCTS and self._joins(n, firsts) for n in before)

    def _joins(self, product: fx.Node, firsts: list[fx.Node]) -> bool:
        operands = [n for n in product.all_input_nodes if not _is_size(n)]
        origins = [
            self._walk([n], lambda m: [] if m in self.linears or _is_size(m) else m.all_input_nodes) for n in operands
        ]
        return len(origins) == 2 and all(any(first in origin for first in firsts) for origin in origins)

    @staticmethod
    def _slices(node: fx.Node) -> bool:
        return node.target is operator.getitem and isinstance(node.args[1], tuple) and ... in node.args[1]

    def _is_attention(self, node: fx.Node) -> bool:
        if node.target in (ops.attention, F.scaled_dot_product_attention):
            return True
        softmax = node.target in _SOFTMAXES
        if node.op == "call_module":
            softmax = isinstance(interpreter.fetch(self.module, str(node.target)), nn.Softmax)
        return softmax and any(n.target in _MATMULS for n in self._after(node))

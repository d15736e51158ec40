"""The graph of one block: tracing it from a call the model makes, running it, checking it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn

from fyc.errors import TraceError
from fyc.ir import allowlist, interpreter, ops, serialize
from fyc.ir.digest import digest, target_name
from fyc.ir.proxy import CacheValue, ValueProxy
from fyc.ir.tracer import LeafRule, Marker, MarkerRefusedError, Read, ValueTracer, new_graph

_MARKER = "fyc_unnamed_arguments"
_CACHES = frozenset({"past_key_values", "past_key_value", "layer_past"})
_ALWAYS = _CACHES | {"attention_mask", "position_ids"}


@dataclass
class BlockGraph:
    """The computation of one block as a `torch.fx` graph.

    `get_attr` and `call_module` targets are paths inside the block. Equal blocks of a model share one object: edit a
    `copy()`.

    Attributes:
        graph: the graph; None when opaque.
        opaque: the block could not be traced and runs Hugging Face's own forward.
        reason: why it is opaque.
        source: module and class the graph was traced from, as `module:Class`.
        source_digest: `digest` of the graph as it was traced, before any edit.
        reads: sizes and flags that the model's code turned into plain python values.
    """

    graph: fx.Graph
    opaque: bool = False
    reason: str | None = None
    source: str = ""
    source_digest: str = ""
    reads: tuple[Read, ...] = field(default=(), compare=False)

    @property
    def digest(self) -> str:
        """Structural hash: stable across processes and node names."""
        return digest(self.graph)

    def copy(self) -> BlockGraph:
        """An independent copy that can be edited; node metadata is copied shallowly."""
        graph = new_graph()
        values: dict[fx.Node, fx.Node] = {}
        for node in self.graph.nodes:
            values[node] = graph.node_copy(node, lambda n: values[n])
        return BlockGraph(graph, self.opaque, self.reason, self.source, self.source_digest, self.reads)

    def run(
        self,
        module: nn.Module,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        on_node: Callable[[fx.Node, Any], Any] | None = None,
    ) -> Any:
        """Interpret the graph on `module`, freeing each value after its last use.

        Args:
            module: the block, with its weights.
            args: positional arguments of the block.
            kwargs: keyword arguments of the block.
            on_node: called with every node and its value; what it returns, unless None, replaces the value.

        Raises:
            TraceError: FYC-G05 when the arguments do not fit; FYC-G04 when the graph is opaque and `on_node` is given.
        """
        kwargs = {} if kwargs is None else kwargs
        if self.opaque:
            if on_node is not None:
                raise TraceError("FYC-G04", "an opaque block has no nodes to look at", why=self.reason or "")
            return module(*args, **kwargs)
        nodes = list(self.graph.nodes)
        env = interpreter.bind_arguments(self.graph, args, kwargs)
        return interpreter.run(nodes, module, env, interpreter.last_uses(nodes), on_node)

    def lint(self, module: nn.Module) -> None:
        """Check that the graph is well formed and that every module and attribute it names exists in `module`."""
        if self.opaque:
            return
        try:
            self.graph.lint()
        except RuntimeError as error:
            raise TraceError("FYC-G07", "the block's graph is not well formed", why=str(error)) from error
        for node in self.graph.nodes:
            if node.op not in ("call_module", "get_attr"):
                continue
            try:
                interpreter.fetch(module, str(node.target))
            except AttributeError as error:
                raise TraceError(
                    "FYC-G07",
                    f"the block's graph names {node.target}, which {type(module).__name__} does not have",
                    where=node.name,
                    why=str(error),
                ) from error

    def to_json(self) -> dict[str, Any]:
        """The graph as JSON data. Raises ArtifactError FYC-A07 if it calls anything that is not on the allow-list."""
        return {
            "version": serialize.VERSION,
            "signature": {"source": self.source, "digest": self.source_digest, "opaque": self.opaque, "reason": self.reason},
            "nodes": [] if self.opaque else serialize.to_json(self.graph),
        }

    @classmethod
    def from_json(cls, data: Any) -> BlockGraph:
        """The graph that `to_json` described. Safe on hostile input: anything unknown is ArtifactError FYC-A07."""
        if not isinstance(data, dict) or set(data) != {"version", "signature", "nodes"}:
            raise serialize.refuse("a graph file has the keys version, signature and nodes", "")
        if type(data["version"]) is not int or data["version"] != serialize.VERSION:
            raise serialize.refuse(f"unknown version {data['version']!r:.60}", "version")
        signature = serialize.signature(data["signature"])
        if signature["opaque"]:
            if data["nodes"] != []:
                raise serialize.refuse("an opaque graph has no nodes", "nodes")
            return cls(new_graph(), True, signature["reason"], signature["source"], signature["digest"])
        graph = serialize.from_json(data["nodes"])
        return cls(graph, False, None, signature["source"], signature["digest"])


@dataclass
class BlockTrace:
    """One trace of a block: its graph, the value it returns, and whether it depends on its layer's index."""

    graph: BlockGraph
    value: Any
    uses_layer_index: bool


def trace_block(
    layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], *, past: int, is_leaf: LeafRule | None = None
) -> BlockTrace:
    """Trace a block from one call.

    Every argument of the call becomes a placeholder. A mask, cache or position argument that is None in this call is
    traced with a value all the same, so that None is not baked in; another None is, and the graph then refuses a value.

    Args:
        layer: the block on the meta device; its `training` flag decides which mode is traced.
        args: positional arguments (meta tensors, nested tuples, python scalars, `CacheValue`, None).
        kwargs: keyword arguments, likewise.
        past: number of positions already in the cache.
        is_leaf: rule for leaf modules.
    """
    signature = inspect.signature(ValueTracer.plain_forward(layer))
    unnamed = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
    first: TraceError | None = None
    for fill in (True, False):
        for marker in (True, False) if unnamed else (False,):
            try:
                return _Attempt(layer, signature, is_leaf, past, fill=fill, marker=marker).trace(args, kwargs)
            except MarkerRefusedError:
                continue
            except TraceError as error:
                if marker and _MARKER in error.why:
                    continue
                first = first or error
                break
    assert first is not None
    raise first


class _Attempt:
    """One attempt at tracing a block."""

    def __init__(
        self, layer: nn.Module, signature: inspect.Signature, is_leaf: LeafRule | None, past: int, *, fill: bool, marker: bool
    ) -> None:
        self.layer, self.signature, self.past = layer, signature, past
        self.fill, self.marker = fill, marker
        self.tracer = ValueTracer(layer, is_leaf)
        self.fixed: list[tuple[ValueProxy, Any, str]] = []

    def trace(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> BlockTrace:
        bound = self.signature.bind(*args, **kwargs)
        given = dict(bound.arguments)
        rest_name = next((n for n, p in self.signature.parameters.items() if p.kind is p.VAR_KEYWORD), None)
        extras = given.pop(rest_name, {}) if rest_name else {}
        self.hidden = next((t for t in [*given.values(), *extras.values()] if isinstance(t, Tensor) and t.dim() == 3), None)
        call: dict[str, Any] = {}
        for name, parameter in self.signature.parameters.items():
            if parameter.kind is parameter.VAR_POSITIONAL:
                raise self.tracer.unsupported(f"the block's forward takes *{name}")
            if parameter.kind is not parameter.VAR_KEYWORD:
                self._named(call, name, parameter, given)
        for name, value in extras.items():
            value = self._filled(name, value)
            if value is not None:
                default = value if isinstance(value, bool | int | float | str) else None
                call[name] = self._placeholder(name, value, default)
        if rest_name is not None:
            proxy = self.tracer.placeholder(f"**{rest_name}", {})
            if self.marker:
                call[_MARKER] = Marker(proxy)
        value = self.tracer.record(lambda: self._forward(call))
        self._check_targets()
        graph = BlockGraph(self.tracer.graph, reads=tuple(self.tracer.reads))
        graph.source = f"{type(self.layer).__module__}:{type(self.layer).__qualname__}"
        graph.source_digest = graph.digest
        return BlockTrace(graph, value, self.tracer.uses_layer_index)

    def _check_targets(self) -> None:
        for node in self.tracer.graph.nodes:
            allowed = node.op != "call_function" or allowlist.function_name(node.target) is not None
            if not allowed or (node.op == "call_method" and node.target not in allowlist.METHODS):
                raise TraceError(
                    "FYC-G02",
                    f"the model's code calls {target_name(node.target)}, which is not on the list a graph may call",
                    where=f"{node.meta.get('path') or '(root)'} at {node.meta.get('src', '')}",
                    next="make the module a leaf with the hook fyc_trace_leaf, or convert with `opaque: keep`",
                )

    def _forward(self, call: dict[str, Any]) -> Any:
        for proxy, expected, name in self.fixed:
            self.tracer.add("call_function", ops.require, (proxy, expected, name), {}, None)
        return ValueTracer.plain_forward(self.layer)(**call)

    def _named(self, call: dict[str, Any], name: str, parameter: inspect.Parameter, given: dict[str, Any]) -> None:
        default = parameter.default
        if name not in given:
            self.fixed.append((self.tracer.placeholder(name, default, default), default, name))
            return
        value = self._filled(name, given[name])
        if value is None:
            self.fixed.append((self.tracer.placeholder(name, None, None), None, name))
            call[name] = None
        else:
            call[name] = self._placeholder(name, value, default)

    def _placeholder(self, name: str, value: Any, default: Any) -> ValueProxy:
        proxy = self.tracer.placeholder(name, value, default)
        if isinstance(value, bool | int | float | str):
            proxy.node.meta["guard"] = name
        return proxy

    def _filled(self, name: str, value: Any) -> Any:
        if value is not None or not self.fill or name not in _ALWAYS or self.hidden is None:
            return value
        batch, length = self.hidden.shape[:2]
        if name in _CACHES:
            return CacheValue(self.past)
        if name == "position_ids":
            return torch.empty(1, length, dtype=torch.long, device="meta")
        return torch.empty(batch, 1, length, self.past + length, dtype=torch.bool, device="meta")

"""Tracing one block from a call that the model makes."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from fyc.errors import ArtifactError, TraceError
from fyc.ir import allowlist, ops, refusals, serialize
from fyc.ir.absent import without
from fyc.ir.block_graph import BlockGraph
from fyc.ir.caches import CacheValue
from fyc.ir.digest import digest, target_name
from fyc.ir.marker import Marker, MarkerRefusedError
from fyc.ir.proxy import ValueProxy
from fyc.ir.tracer import LeafRule, ValueTracer

_MARKER = "fyc_unnamed_arguments"
#: Arguments that are None in one call and given in the next.
_ALWAYS = {
    "past_key_values": "cache",
    "past_key_value": "cache",
    "layer_past": "cache",
    "attention_mask": "mask",
    "position_ids": "positions",
}


@dataclass(frozen=True)
class Call:
    """A call of a block to trace.

    Attributes:
        args: positional arguments (meta tensors, nested tuples, python scalars, `CacheValue`, None).
        kwargs: keyword arguments, likewise.
        optional: ids of the values that may be None at run time (masks the model may skip).
        cache: what stands for a cache where this call passes None.
        is_leaf: rule for leaf modules.
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    optional: frozenset[int]
    cache: CacheValue
    is_leaf: LeafRule | None


@dataclass(frozen=True)
class _Way:
    """How to trace: what to try first, and what to fall back to."""

    fill: frozenset[str]
    """Which of masks, caches and positions get a value where this call passes None."""
    marker: bool = True
    """Send a marker through the block's `**kwargs` to see where unnamed arguments go."""
    optional: bool = True
    """Record `x + mask` so that it also works without a mask."""
    absent: frozenset[str] = frozenset()
    """Arguments to trace with None."""
    flipped: frozenset[str] = frozenset()
    """Flags to trace with their other value."""


@dataclass
class BlockTrace:
    """One trace of a block: its graph, the value it returns, how it was traced, and if it depends on its index."""

    graph: BlockGraph
    value: Any
    way: _Way
    uses_layer_index: bool


def trace_block(layer: nn.Module, call: Call) -> BlockTrace:
    """Trace a block from one call.

    Every argument of the call becomes a placeholder. A mask, cache or position argument that is None in this call is
    traced with a value all the same, so that None is not baked in; another None is, and the graph then refuses a value.
    Whether the graph also holds when masks and caches are None, and for the other value of `use_cache`, is checked by
    tracing those cases as well.

    Args:
        layer: the block on the meta device; its `training` flag decides which mode is traced.
        call: the arguments.

    Raises:
        TraceError: the block cannot be traced, or FYC-G05: it computes something else without a mask or a cache.
    """
    first: TraceError | None = None
    for fill in (frozenset({"mask", "cache", "positions"}), frozenset({"mask", "positions"}), frozenset()):
        for marker in (True, False):
            try:
                return _checked(_Attempt(layer, call, _Way(fill, marker)).run())
            except MarkerRefusedError:
                continue
            except TraceError as error:
                first = first or error
                break
    if first is None:
        raise AssertionError("a trace without a marker cannot meet one")
    raise first


def _checked(attempt: _Attempt) -> BlockTrace:
    """The trace, once it is known to hold without masks and caches and for both values of `use_cache`, and to be
    storable."""
    layer = attempt.layer
    if attempt.masks:
        without_masks = attempt.variant(absent=attempt.masks)
        if without_masks is None and attempt.tracer.optional_used:
            attempt = _Attempt(layer, attempt.call, replace(attempt.way, optional=False)).run()
        elif without_masks is not None and not attempt.equals(without_masks):
            raise _refusal("whether it is given a mask", layer)
    if attempt.caches:
        without_caches = attempt.variant(absent=attempt.caches)
        if without_caches is not None and not attempt.equals(without_caches):
            raise _refusal("whether it is given a cache", layer)
    if "use_cache" in attempt.tracer.guarded:
        flipped = attempt.variant(flipped=frozenset({"use_cache"}))
        if flipped is None or not attempt.equals(flipped):
            raise _refusal("its argument use_cache", layer)
        drop_guard(attempt.tracer.graph, "use_cache")
    try:
        serialize.to_json(attempt.tracer.graph)
    except ArtifactError as error:
        raise refusals.construct(f"(root) at {type(layer).__module__}", f"{error.where}: {error.why}") from error
    return attempt.result()


def retrace_block(layer: nn.Module, call: Call, way: _Way) -> BlockTrace:
    """Trace a block in the way that an earlier trace found."""
    attempt = _Attempt(layer, call, way).run()
    if "use_cache" in attempt.tracer.guarded:
        drop_guard(attempt.tracer.graph, "use_cache")
    return attempt.result()


def _refusal(what: str, layer: nn.Module) -> TraceError:
    where = f"(root) at {type(layer).__module__}"
    return refusals.sizes(f"what the block computes depends on {what}", "one graph cannot hold both ways", where)


def drop_guard(graph: fx.Graph, name: str) -> None:
    """Remove the check that an argument has the value it was traced with."""
    for node in list(graph.nodes):
        if node.target is ops.require and node.args[2] == name:
            graph.erase_node(node)


class _Attempt:
    """One trace of a block in one way."""

    def __init__(self, layer: nn.Module, call: Call, way: _Way) -> None:
        self.layer, self.call, self.way = layer, call, way
        self.tracer = ValueTracer(layer, call.is_leaf)
        self.fixed: list[tuple[ValueProxy, Any, str]] = []
        self.masks: frozenset[str] = frozenset()
        self.caches: frozenset[str] = frozenset()
        self.hidden: Tensor | None = None
        self.value: Any = None

    def run(self) -> _Attempt:
        signature = inspect.signature(ValueTracer.plain_forward(self.layer))
        given = dict(signature.bind(*self.call.args, **self.call.kwargs).arguments)
        rest = next((n for n, p in signature.parameters.items() if p.kind is p.VAR_KEYWORD), None)
        extras = given.pop(rest, {}) if rest is not None else {}
        tensors = [t for t in [*given.values(), *extras.values()] if isinstance(t, Tensor) and t.dim() == 3]
        self.hidden = tensors[0] if tensors else None
        arguments: dict[str, Any] = {}
        for name, parameter in signature.parameters.items():
            if parameter.kind is parameter.VAR_POSITIONAL:
                raise self.tracer.unsupported(f"the block's forward takes *{name}")
            if parameter.kind is not parameter.VAR_KEYWORD:
                self._named(arguments, name, parameter.default, given)
        for name, value in extras.items():
            default = value if isinstance(value, bool | int | float | str) else None
            self._given(arguments, name, value, default, keep_none=False)
        if rest is not None:
            proxy = self.tracer.placeholder(f"**{rest}", {})
            if self.way.marker:
                arguments[_MARKER] = Marker(proxy)
        self.value = self._record(arguments)
        self._check_targets()
        return self

    def variant(self, absent: frozenset[str] = frozenset(), flipped: frozenset[str] = frozenset()) -> _Attempt | None:
        """The same trace with some arguments None or flipped; None if the block's code cannot run that way."""
        try:
            return _Attempt(self.layer, self.call, replace(self.way, absent=absent, flipped=flipped)).run()
        except TraceError as error:
            if error.code == "FYC-G02" and error.__cause__ is not None:
                return None
            raise

    def equals(self, variant: _Attempt) -> bool:
        """Whether this graph, given what the variant was given, computes what the variant does."""
        own, other = self.result().graph.copy().graph, variant.result().graph.copy().graph
        for name in variant.way.flipped:
            drop_guard(own, name)
            drop_guard(other, name)
        return digest(without(own, variant.way.absent)) == digest(without(other, variant.way.absent))

    def result(self) -> BlockTrace:
        graph = BlockGraph(self.tracer.graph, reads=tuple(self.tracer.reads))
        graph.source = f"{type(self.layer).__module__}:{type(self.layer).__qualname__}"
        graph.source_digest = graph.digest
        return BlockTrace(graph, self.value, self.way, self.tracer.uses_layer_index)

    def _record(self, arguments: dict[str, Any]) -> Any:
        def forward() -> Any:
            for proxy, expected, name in self.fixed:
                self.tracer.add("call_function", ops.require, (proxy, expected, name), {}, None)
            return ValueTracer.plain_forward(self.layer)(**arguments)

        try:
            return self.tracer.record(forward)
        except TraceError as error:
            if _MARKER in error.why:
                raise MarkerRefusedError from error
            raise

    def _named(self, arguments: dict[str, Any], name: str, default: Any, given: dict[str, Any]) -> None:
        if name in given:
            self._given(arguments, name, given[name], default, keep_none=True)
        else:
            self.fixed.append((self.tracer.placeholder(name, default, default), default, name))

    def _given(self, arguments: dict[str, Any], name: str, value: Any, default: Any, *, keep_none: bool) -> None:
        value = self._filled(name, value)
        if name in self.way.absent:
            self.tracer.placeholder(name, None, default)
            arguments[name] = None
            return
        if value is None:
            if keep_none:
                self.fixed.append((self.tracer.placeholder(name, None, default), None, name))
                arguments[name] = None
            return
        proxy = self.tracer.placeholder(name, not value if name in self.way.flipped else value, default)
        arguments[name] = proxy
        if isinstance(value, bool | int | float | str):
            proxy.node.meta["guard"] = name
        elif isinstance(value, CacheValue):
            self.caches |= {name}
        elif id(value) in self.call.optional or (name == "attention_mask" and isinstance(value, Tensor)):
            self.masks |= {name}
            proxy.node.meta["optional"] = self.way.optional

    def _filled(self, name: str, value: Any) -> Any:
        kind = _ALWAYS.get(name)
        if value is not None or kind not in self.way.fill or self.hidden is None:
            return value
        batch, length = self.hidden.shape[:2]
        if kind == "cache":
            return self.call.cache
        if kind == "positions":
            return torch.empty(1, length, dtype=torch.long, device="meta")
        return torch.empty(batch, 1, length, self.call.cache.past + length, dtype=torch.bool, device="meta")

    def _check_targets(self) -> None:
        for node in self.tracer.graph.nodes:
            allowed = node.op != "call_function" or allowlist.function_name(node.target) is not None
            if not allowed or (node.op == "call_method" and node.target not in allowlist.METHODS):
                raise TraceError(
                    "FYC-G02",
                    f"the model's code calls {target_name(node.target)}, which is not on the list a graph may call",
                    where=f"{node.meta.get('path') or '(root)'} at {node.meta.get('src', '')}",
                    next=refusals.LEAF_OR_OPAQUE,
                )

"""Tracing a whole model with its blocks as single nodes, and each distinct block once."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn

from fyc.errors import TraceError
from fyc.ir import blocks as structure
from fyc.ir import ops, refusals
from fyc.ir.bind import bound_graph, is_bound
from fyc.ir.block_graph import BlockGraph
from fyc.ir.caches import CacheValue, EncoderDecoderCacheValue
from fyc.ir.digest import digest
from fyc.ir.model_graph import ALWAYS_INPUTS, OPTIONAL_INPUTS, ModelGraph, block_calls
from fyc.ir.new_graph import new_graph
from fyc.ir.order import reorder
from fyc.ir.proxy import ValueProxy
from fyc.ir.trace_block import Call, retrace_block, trace_block
from fyc.ir.tracer import LeafRule, ValueTracer

_LONGEST = 131_071
_UNKNOWN_LONGEST = 4_099
_DEPENDS = "depends on the batch size or the sequence length"


@dataclass(frozen=True)
class Phase:
    """Sizes of one trace: every block is traced at three, which must give the same graph."""

    name: str
    batch: int
    length: int
    past: int
    encoder_length: int
    training: bool


@dataclass
class _Entry:
    """One distinct block structure: its graph, how it was traced (None: it was not), what it returns in each phase."""

    graph: BlockGraph
    way: Any
    values: dict[str, Any]
    own: bool = False
    """The graph holds for one layer only: it depends on the layer's index."""


def trace_model(
    model: nn.Module, *, is_leaf: LeafRule | None = None, opaque: Literal["error", "keep"] = "error"
) -> ModelGraph:
    """Trace a model and its blocks on the meta device; `model` is not changed and needs no weights.

    Args:
        model: a transformers model, on any device.
        is_leaf: says for a module whether it becomes one node (True), is looked into (False), or the default decides.
        opaque: what to do with a block that cannot be traced: raise, or keep it as it is.

    Raises:
        TraceError: FYC-G01 control flow on data; FYC-G02 an unsupported construct; FYC-G03 a shape that depends on
            data; FYC-G04 no block found; FYC-G05 a graph that depends on batch or length.
    """
    tracer = Retracer(model, is_leaf, opaque)
    if not tracer.paths:
        raise TraceError(
            "FYC-G04",
            f"{type(model).__name__} has no repeated blocks that fyc can find",
            why="no ModuleList holds members of one class with linear layers in them",
        )
    return tracer.first()


class Retracer:
    """Traces the model graph for any set of inputs, and each distinct block once."""

    def __init__(self, model: nn.Module, is_leaf: LeafRule | None, opaque: Literal["error", "keep"]) -> None:
        self.skeleton = structure.to_meta(model).eval()
        structure.watch_layer_index(self.skeleton)
        _use_no_cache(self.skeleton)
        self.is_leaf, self.opaque = is_leaf, opaque
        self.paths = set(structure.find_blocks(self.skeleton))
        self.parameters = inspect.signature(self.skeleton.forward).parameters
        self.entries: dict[str, _Entry] = {}
        self.by_path: dict[str, _Entry] = {}
        self.block_error: TraceError | None = None
        self.encoder_decoder = "decoder_input_ids" in self.parameters
        longest = _longest(self.skeleton)
        decode = (1, 8) if "past_key_values" in self.parameters else (7, 0)
        self.phases = (
            Phase("prefill", 2, 5, 0, 6, training=True),
            Phase("decode", 3, *decode, 11, training=False),
            Phase("longest", 2, longest, 0, longest, training=False),
        )

    def first(self) -> ModelGraph:
        """The model graph for the usual inputs, with the blocks it calls."""
        graph = self(frozenset(n for n in ALWAYS_INPUTS if n in self.parameters))
        called = [c.path for c in block_calls(graph, self.paths)]
        if not called:
            raise TraceError(
                "FYC-G04",
                "the model's forward calls none of its repeated blocks",
                where=", ".join(sorted(self.paths)[:3]),
                why="they are not called as modules (`block(...)`), so nothing can be bound to them",
            )
        return ModelGraph(graph, {path: self.by_path[path].graph for path in dict.fromkeys(called)}, self)

    def __call__(self, names: frozenset[str]) -> fx.Graph:
        """The model graph for a set of inputs; it must be the same at all sizes."""
        unknown = names - (self.parameters.keys() & {*ALWAYS_INPUTS, *OPTIONAL_INPUTS})
        if unknown:
            raise TraceError("FYC-G05", f"the model graph has no input {', '.join(sorted(unknown))}")
        graph, *others = [self.trace(names, phase) for phase in self.phases]
        if any(digest(graph, ignore_dropout=True) != digest(other, ignore_dropout=True) for other in others):
            raise refusals.sizes(f"the model's graph {_DEPENDS}")
        return reorder(graph)

    def trace(self, names: frozenset[str], phase: Phase) -> fx.Graph:
        """The model graph for the inputs `names` at the sizes of `phase`."""
        tracer = ModelTracer(self, phase)
        order = [n for n in (*ALWAYS_INPUTS, *OPTIONAL_INPUTS) if n in names]
        call: dict[str, Any] = {n: tracer.placeholder(n, self._example(n, phase)) for n in order}
        if "use_cache" in self.parameters:
            call["use_cache"] = False
        try:
            tracer.record(lambda: _named_outputs(ValueTracer.plain_forward(self.skeleton)(**call)))
        except TraceError as error:
            if error is self.block_error:
                raise
            outside = "this code lies outside the model's blocks: make its module a leaf with the hook fyc_trace_leaf"
            raise TraceError(error.code, error.what, where=error.where, why=error.why, next=outside) from error
        return tracer.graph

    def cache(self, phase: Phase) -> CacheValue:
        """What stands for a cache."""
        return (EncoderDecoderCacheValue if self.encoder_decoder else CacheValue)(phase.past)

    def _example(self, name: str, phase: Phase) -> Any:
        if name == "past_key_values":
            return self.cache(phase)
        length = phase.length
        if self.encoder_decoder and not name.startswith("decoder_"):
            length = phase.encoder_length
        elif name.endswith("attention_mask"):
            length += phase.past
        return torch.empty(phase.batch, length, dtype=torch.long, device="meta")

    def block(self, path: str, layer: nn.Module, call: Call, phase: Phase) -> Any:
        """The value a block call returns; traces the block if its structure has not been seen in this phase."""
        known = self.by_path.get(path)
        if known is None:
            key = structure.structure(layer) + repr(_pattern(call.args)) + repr(_pattern(call.kwargs))
            known = self.entries.get(key)
            if known is None:
                known = self._new_entry(path, layer, call, phase)
                if not known.own:
                    self.entries[key] = known
            self.by_path[path] = known
        elif phase.name not in known.values:
            known.values[phase.name] = self._other_phase(known, path, layer, call, phase)
        return known.values[phase.name]

    def _new_entry(self, path: str, layer: nn.Module, call: Call, phase: Phase) -> _Entry:
        if is_bound(layer):
            return _Entry(bound_graph(layer), None, {phase.name: _untraced_value(layer, call)}, own=True)
        structure.forget_layer_index(layer)
        layer.train(phase.training)
        try:
            trace = trace_block(layer, call)
        except TraceError as error:
            reason = self._refusal(error, path)
            layer.eval()
            graph = BlockGraph(new_graph(), opaque=True, reason=reason)
            return _Entry(graph, None, {phase.name: _untraced_value(layer, call)})
        finally:
            layer.eval()
        own = trace.uses_layer_index or structure.depends_on_layer_index(layer)
        return _Entry(trace.graph, trace.way, {phase.name: trace.value}, own)

    def _other_phase(self, entry: _Entry, path: str, layer: nn.Module, call: Call, phase: Phase) -> Any:
        """Trace a known block at the other sizes; the graph must be the same."""
        if entry.way is None:
            return _untraced_value(layer, call)
        layer.train(phase.training)
        try:
            trace = retrace_block(layer, call, entry.way)
            if digest(trace.graph.graph, ignore_dropout=True) != digest(entry.graph.graph, ignore_dropout=True):
                raise _difference(entry.graph, trace.graph)
        except TraceError as error:
            entry.graph.opaque, entry.graph.reason, entry.way = True, self._refusal(error, path), None
            layer.eval()
            return _untraced_value(layer, call)
        finally:
            layer.eval()
        return trace.value

    def _refusal(self, error: TraceError, path: str) -> str:
        """Why the block at `path` stays opaque; raises instead if it may not."""
        located = _located(error, path)
        if self.opaque == "error":
            self.block_error = located
            raise located from error
        return str(located)


class ModelTracer(ValueTracer):
    """Traces the whole model; a block call becomes one node."""

    def __init__(self, owner: Retracer, phase: Phase) -> None:
        super().__init__(owner.skeleton, owner.is_leaf)
        self.owner, self.phase = owner, phase

    def call(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Record the call of a block; look into every other module that is no leaf."""
        path = self.paths.get(id(module))
        if path is None or path not in self.owner.paths:
            return super().call(module, args, kwargs)
        values, options = self.values(args), self.values(kwargs)
        proxies = [a for a in (*args, *kwargs.values()) if type(a) is ValueProxy]
        masks = frozenset(id(p.fyc_value) for p in proxies if p.node.target is ops.mask)
        with self.paused():
            call = Call(values, options, masks, self.owner.cache(self.phase), self.owner.is_leaf)
            result = self.owner.block(path, module, call, self.phase)
        return self.add("call_module", path, args, kwargs, result)

    def foreign_argument(self, a: Any) -> Any:
        """A model's graph is not stored: it may hold functions, for example those that shape a mask."""
        return a if callable(a) else super().foreign_argument(a)


def _longest(model: nn.Module) -> int:
    """The longest sequence the model is made for, to see what its code does beyond windows and thresholds."""
    # Configurations do not agree on the name; MPT has the second.
    names = ("max_position_embeddings", "max_seq_len")
    known = next((value for name in names if isinstance(value := getattr(model.config, name, None), int)), 0)
    return min(known, _LONGEST) if known > 8 else _UNKNOWN_LONGEST


def _use_no_cache(model: nn.Module) -> None:
    """Keep the model from making a cache of its own: only the caller's is traced."""
    for module in model.modules():
        config = getattr(module, "config", None)
        if config is not None and getattr(config, "use_cache", None):
            config.use_cache = False


def _named_outputs(result: Any) -> dict[str, Any]:
    if type(result) is ValueProxy and isinstance(result.fyc_value, Tensor):
        return {"output": result}
    items = result.items() if hasattr(result, "items") else ((str(i), v) for i, v in enumerate(result))
    return {name: v for name, v in items if type(v) is ValueProxy and isinstance(v.fyc_value, Tensor)}


def _pattern(value: Any) -> Any:
    """What of a call's arguments may change the block's graph: names, shapes, dtypes, and which ones are None."""
    if isinstance(value, Tensor):
        return tuple(value.shape), str(value.dtype)
    if isinstance(value, tuple | list):
        return [_pattern(v) for v in value]
    if isinstance(value, dict):
        return {k: _pattern(v) for k, v in value.items()}
    return type(value).__name__ if isinstance(value, CacheValue) else value


def _untraced_value(layer: nn.Module, call: Call) -> Any:
    """What a block that is not traced returns on meta tensors; if that needs data, the shape of its first argument."""
    try:
        with torch.no_grad():
            return layer(*call.args, **call.kwargs)
    except Exception:
        hidden = next(v for v in (*call.args, *call.kwargs.values()) if isinstance(v, Tensor))
        return torch.empty_like(hidden)


def _located(error: TraceError, path: str) -> TraceError:
    """The error of a block's trace with the block's path before the path inside the block."""
    inside, at, line = error.where.partition(" at ")
    where = path if inside in ("", "(root)") else f"{path}.{inside}"
    return TraceError(error.code, error.what, where=where + at + line, why=error.why, next=error.next)


def _difference(first: BlockGraph, second: BlockGraph) -> TraceError:
    reads = zip(first.reads, second.reads, strict=False)
    read = next((a for a, b in reads if (a.what, a.where) != (b.what, b.where) or a.value != b.value), None)
    if read is not None:
        return refusals.sizes(f"the block's graph {_DEPENDS}", f"{read.what} gives {read.value!r}", read.where)
    return refusals.sizes(f"the block's graph {_DEPENDS}, or on the training flag", where="(root)")

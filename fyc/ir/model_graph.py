"""The graph of a whole model with its blocks as single nodes, and running it one block at a time.

    graph = trace_model(model)                      # the model may be on the meta device
    state = graph.start(model, {"input_ids": ids, "attention_mask": mask})
    for call in graph.calls:
        args, kwargs = graph.block_inputs(state, call.index)
        output = graph.blocks[call.path].run(block_with_weights, args, kwargs)
        graph.advance(model, state, call.index, output)
    logits = state.output["logits"]
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, fx, nn

from fyc.errors import TraceError
from fyc.ir import blocks as structure
from fyc.ir import interpreter
from fyc.ir.block_graph import BlockGraph, trace_block
from fyc.ir.digest import digest
from fyc.ir.proxy import CacheValue
from fyc.ir.state import State
from fyc.ir.tracer import LeafRule, ValueTracer

#: Inputs that a model graph takes when the model's forward has them. The second group is None unless given.
ALWAYS_INPUTS = ("input_ids", "attention_mask", "past_key_values", "decoder_input_ids")
OPTIONAL_INPUTS = ("token_type_ids", "position_ids", "decoder_attention_mask")


@dataclass(frozen=True)
class Phase:
    """Sizes of one trace: every block is traced at two, which must give the same graph."""

    name: str
    batch: int
    length: int
    past: int
    encoder_length: int
    training: bool


@dataclass(frozen=True)
class BlockCall:
    """One call of a block: position in execution order, module path, name of its node in the model graph."""

    index: int
    path: str
    node: str


@dataclass
class _Entry:
    """One distinct block structure: where it was first met, its graph, and what it returns in each phase."""

    path: str
    graph: BlockGraph
    values: dict[str, Any] = field(default_factory=dict)


class ModelGraph:
    """A model as a graph whose blocks are single nodes.

    Attributes:
        graph: the `torch.fx` graph for the inputs `input_ids`, `attention_mask` and `past_key_values`.
        calls: the block calls in execution order.
        blocks: module path -> block graph; equal blocks share one object.
    """

    def __init__(self, graph: fx.Graph, blocks: dict[str, BlockGraph], retrace: _Retrace) -> None:
        self.graph = graph
        self.blocks = blocks
        self.calls = _calls(graph, set(blocks))
        self._variants: dict[frozenset[str], fx.Graph] = {_inputs(graph): graph}
        self._retrace = retrace

    def start(self, model: nn.Module, inputs: Mapping[str, Any]) -> State:
        """Run everything before the first block call.

        Args:
            model: the model; its blocks may be on the meta device.
            inputs: any of the model's inputs by name, for example `input_ids` `[batch, length]` int64; None is absent.
        """
        given = {name: value for name, value in inputs.items() if value is not None}
        names = frozenset(given) | ({"past_key_values"} & _inputs(self.graph))
        graph = self._variant(names)
        state = State(sorted(names), {name: given.get(name) for name in names}, 0)
        self._run(model, graph, state, 0)
        return state

    def block_inputs(self, state: State, i: int) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Positional and keyword arguments of block call `i`."""
        node = self._call_node(state, i)

        def load(argument: Any) -> Any:
            return interpreter.thaw(fx.node.map_arg(argument, lambda n: state.values[n.name]))

        return load(node.args), load(node.kwargs)

    def advance(self, model: nn.Module, state: State, i: int, output: Any) -> None:
        """Store what block call `i` returned, drop what nobody needs any more, run up to the next call or the end."""
        node = self._call_node(state, i)
        state.values[node.name] = output
        state.position = i + 1
        graph = self._variants[frozenset(state.inputs)]
        nodes = list(graph.nodes)
        for dead in interpreter.last_uses(nodes).get(node, ()):
            state.values.pop(dead.name, None)
        self._run(model, graph, state, nodes.index(node) + 1)

    def run(self, model: nn.Module, inputs: Mapping[str, Any]) -> Any:
        """Run the whole model through its block graphs; returns the named outputs."""
        state = self.start(model, inputs)
        for call in self.calls:
            args, kwargs = self.block_inputs(state, call.index)
            block = interpreter.fetch(model, call.path)
            self.advance(model, state, call.index, self.blocks[call.path].run(block, args, kwargs))
        return state.output

    def _variant(self, names: frozenset[str]) -> fx.Graph:
        if names not in self._variants:
            graph = self._retrace(names)
            calls = _calls(graph, set(self.blocks))
            if [c.path for c in calls] != [c.path for c in self.calls]:
                raise TraceError("FYC-G05", "the model calls other blocks for these inputs", where=", ".join(sorted(names)))
            self._variants[names] = graph
        return self._variants[names]

    def _call_node(self, state: State, i: int) -> fx.Node:
        if i != state.position or i >= len(self.calls):
            raise IndexError(f"the state waits for block call {state.position} of {len(self.calls)}, not {i}")
        graph = self._variant(frozenset(state.inputs))
        calls = [n for n in graph.nodes if n.op == "call_module" and n.target in self.blocks]
        return calls[i]

    def _run(self, model: nn.Module, graph: fx.Graph, state: State, begin: int) -> None:
        nodes = list(graph.nodes)
        stop = begin
        while stop < len(nodes) and not (nodes[stop].op == "call_module" and nodes[stop].target in self.blocks):
            stop += 1
        state.output = interpreter.run(nodes[begin:stop], model, state.values, interpreter.last_uses(nodes))


def _calls(graph: fx.Graph, blocks: set[str]) -> list[BlockCall]:
    nodes = [n for n in graph.nodes if n.op == "call_module" and n.target in blocks]
    return [BlockCall(i, str(n.target), n.name) for i, n in enumerate(nodes)]


def _inputs(graph: fx.Graph) -> frozenset[str]:
    return frozenset(str(n.target) for n in graph.nodes if n.op == "placeholder")


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
    tracer = _Retrace(model, is_leaf, opaque)
    if not tracer.paths:
        raise TraceError(
            "FYC-G04",
            f"{type(model).__name__} has no repeated blocks that fyc can find",
            why="no ModuleList holds members of one class with linear layers in them",
        )
    return tracer.first()


class _Retrace:
    """Traces the model graph for any set of inputs, and each distinct block once."""

    def __init__(self, model: nn.Module, is_leaf: LeafRule | None, opaque: Literal["error", "keep"]) -> None:
        self.skeleton = structure.to_meta(model).eval()
        structure.watch_layer_index(self.skeleton)
        self.is_leaf, self.opaque = is_leaf, opaque
        self.paths = set(structure.find_blocks(self.skeleton))
        self.parameters = inspect.signature(self.skeleton.forward).parameters
        self.entries: dict[str, _Entry] = {}
        self.keys: dict[str, str] = {}
        self.by_path: dict[str, _Entry] = {}
        cached = "past_key_values" in self.parameters
        self.prefill = Phase("prefill", 2, 5, 0, 6, training=True)
        self.decode = Phase("decode", 3, 1, 8, 11, training=False) if cached else Phase("longer", 3, 7, 0, 11, training=False)

    def first(self) -> ModelGraph:
        names = frozenset(n for n in ALWAYS_INPUTS if n in self.parameters)
        graph = self.trace(names, self.prefill)
        other = self.trace(names, self.decode)
        if digest(graph, ignore_dropout=True) != digest(other, ignore_dropout=True):
            raise _size_error("the model's graph", "")
        called = [c.path for c in _calls(graph, self.paths)]
        if not called:
            raise TraceError("FYC-G04", "the model's forward calls none of its repeated blocks")
        return ModelGraph(graph, {path: self.by_path[path].graph for path in dict.fromkeys(called)}, self)

    def __call__(self, names: frozenset[str]) -> fx.Graph:
        unknown = names - set(self.parameters)
        if unknown or not names <= {*ALWAYS_INPUTS, *OPTIONAL_INPUTS}:
            raise TraceError("FYC-G05", f"the model graph does not take {sorted(unknown or names)}")
        return self.trace(names, self.prefill)

    def trace(self, names: frozenset[str], phase: Phase) -> fx.Graph:
        """The model graph for the inputs `names` at the sizes of `phase`."""
        tracer = _ModelTracer(self, phase)
        order = [n for n in (*ALWAYS_INPUTS, *OPTIONAL_INPUTS) if n in names]
        call: dict[str, Any] = {n: tracer.placeholder(n, _example(n, phase, "decoder_input_ids" in names)) for n in order}
        if "use_cache" in self.parameters:
            call["use_cache"] = False
        tracer.record(lambda: _named_outputs(ValueTracer.plain_forward(self.skeleton)(**call)))
        return tracer.graph

    def block(self, path: str, layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], phase: Phase) -> Any:
        """The value a block call returns; traces the block if its structure has not been seen in this phase."""
        known = self.by_path.get(path)
        if known is not None and phase.name in known.values:
            return known.values[phase.name]
        if known is None:
            key = structure.structure(layer) + repr(_pattern(args)) + repr(_pattern(kwargs))
            known = self.entries.get(key)
            if known is not None:
                self.by_path[path] = known
                return known.values[phase.name]
            known = self._new_entry(path, layer, args, kwargs, phase)
            self.by_path[path] = known
            if not structure.depends_on_layer_index(layer):
                self.entries[key] = known
            return known.values[phase.name]
        return self._check(known, path, layer, args, kwargs, phase)

    def _new_entry(self, path: str, layer: nn.Module, args: Any, kwargs: Any, phase: Phase) -> _Entry:
        structure.forget_layer_index(layer)
        layer.train(phase.training)
        try:
            trace = trace_block(layer, args, kwargs, past=phase.past, is_leaf=self.is_leaf)
        except TraceError as error:
            located = _located(error, path)
            if self.opaque == "error":
                raise located from error
            graph = BlockGraph(fx.Graph(), opaque=True, reason=str(located))
            return _Entry(path, graph, {phase.name: _opaque_value(layer, args, kwargs)})
        finally:
            layer.eval()
        return _Entry(path, trace.graph, {phase.name: trace.value})

    def _check(self, entry: _Entry, path: str, layer: nn.Module, args: Any, kwargs: Any, phase: Phase) -> Any:
        """Trace a known block at the other sizes; the graph must be the same."""
        if entry.graph.opaque:
            entry.values[phase.name] = _opaque_value(layer, args, kwargs)
            return entry.values[phase.name]
        layer.train(phase.training)
        try:
            trace = trace_block(layer, args, kwargs, past=phase.past, is_leaf=self.is_leaf)
        finally:
            layer.eval()
        same = digest(trace.graph.graph, ignore_dropout=True) == digest(entry.graph.graph, ignore_dropout=True)
        if not same:
            error = _difference(entry.graph, trace.graph, path)
            if self.opaque == "error":
                raise error
            entry.graph.opaque, entry.graph.reason = True, str(error)
        entry.values[phase.name] = trace.value
        return trace.value


class _ModelTracer(ValueTracer):
    """Traces the whole model; a block call becomes one node."""

    def __init__(self, owner: _Retrace, phase: Phase) -> None:
        super().__init__(owner.skeleton, owner.is_leaf)
        self.owner, self.phase = owner, phase

    def call(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        path = self.paths.get(id(module))
        if path is None or path not in self.owner.paths:
            return super().call(module, args, kwargs)
        values, options = self.values(args), self.values(kwargs)
        with self.paused():
            result = self.owner.block(path, module, values, options, self.phase)
        return self.add("call_module", path, args, kwargs, result)

    def foreign_argument(self, a: Any) -> Any:
        return a if callable(a) else super().foreign_argument(a)


def _example(name: str, phase: Phase, encoder_decoder: bool) -> Any:
    length = phase.encoder_length if encoder_decoder else phase.length
    if name == "past_key_values":
        return CacheValue(phase.past)
    if name == "attention_mask" and not encoder_decoder:
        length += phase.past
    if name.startswith("decoder_"):
        length = phase.length + (phase.past if name == "decoder_attention_mask" else 0)
    return torch.empty(phase.batch, length, dtype=torch.long, device="meta")


def _named_outputs(result: Any) -> dict[str, Any]:
    if isinstance(result, Tensor):
        return {"output": result}
    items = result.items() if hasattr(result, "items") else ((str(i), v) for i, v in enumerate(result))
    return {name: value for name, value in items if isinstance(value, Tensor)}


def _pattern(value: Any) -> Any:
    """What of a call's arguments may change the block's graph: names, shapes, dtypes, and which ones are None."""
    if isinstance(value, Tensor):
        return tuple(value.shape), str(value.dtype)
    if isinstance(value, tuple | list):
        return [_pattern(v) for v in value]
    if isinstance(value, dict):
        return {k: _pattern(v) for k, v in value.items()}
    return type(value).__name__ if isinstance(value, CacheValue) else value


def _opaque_value(layer: nn.Module, args: Any, kwargs: Any) -> Any:
    """What an opaque block returns on meta tensors; if that needs data, something like its first argument."""
    plain = {k: None if isinstance(v, CacheValue) else v for k, v in kwargs.items()}
    positional = tuple(None if isinstance(v, CacheValue) else v for v in args)
    try:
        with torch.no_grad():
            return layer(*positional, **plain)
    except Exception:  # noqa: BLE001 - any failure means that the shape needs data
        hidden = next(v for v in (*args, *kwargs.values()) if isinstance(v, Tensor))
        return torch.empty_like(hidden)


def _located(error: TraceError, path: str) -> TraceError:
    where = error.where if error.where.startswith("(root)") is False else error.where.removeprefix("(root) ")
    return TraceError(error.code, error.what, where=f"{path}: {where}", why=error.why, next=error.next)


def _difference(first: BlockGraph, second: BlockGraph, path: str) -> TraceError:
    reads = zip(first.reads, second.reads, strict=False)
    read = next((a for a, b in reads if a != b), None)
    if read is not None:
        return _size_error(f"the graph of {path}", f"{read.what} gives {read.value!r} at {read.where}")
    return TraceError(
        "FYC-G05",
        f"the graph of {path} depends on the batch size, the sequence length, or the training flag",
        where=path,
        next="make the module a leaf with the hook fyc_trace_leaf, or convert with `opaque: keep`",
    )


def _size_error(what: str, why: str) -> TraceError:
    return TraceError(
        "FYC-G05",
        f"{what} depends on the batch size or the sequence length",
        why=why,
        next="make the module a leaf with the hook fyc_trace_leaf, or convert with `opaque: keep`",
    )

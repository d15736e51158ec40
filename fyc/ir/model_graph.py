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

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import fx, nn

from fyc.errors import TraceError
from fyc.ir import interpreter
from fyc.ir.block_graph import BlockGraph
from fyc.ir.state import State

#: Inputs that a model graph takes when the model's forward has them. The second group is None unless given.
ALWAYS_INPUTS = ("input_ids", "attention_mask", "past_key_values", "decoder_input_ids")
OPTIONAL_INPUTS = ("token_type_ids", "position_ids", "decoder_attention_mask")


@dataclass(frozen=True)
class BlockCall:
    """One call of a block: position in execution order, module path, name of its node in the model graph."""

    index: int
    path: str
    node: str


class ModelGraph:
    """A model as a graph whose blocks are single nodes.

    Attributes:
        graph: the `torch.fx` graph for the inputs `input_ids`, `attention_mask` and `past_key_values`.
        calls: the block calls in execution order.
        blocks: module path -> block graph; equal blocks share one object.
    """

    def __init__(
        self, graph: fx.Graph, blocks: dict[str, BlockGraph], retrace: Callable[[frozenset[str]], fx.Graph]
    ) -> None:
        self.graph = graph
        self.blocks = blocks
        self.calls = block_calls(graph, set(blocks))
        self._variants: dict[frozenset[str], fx.Graph] = {_inputs(graph): graph}
        self._retrace = retrace

    def start(self, model: nn.Module, inputs: Mapping[str, Any]) -> State:
        """Run everything before the first block call.

        Args:
            model: the model; its blocks may be on the meta device.
            inputs: any of the model's inputs by name, for example `input_ids` `[batch, length]` int64; None is absent.
        """
        given = {name: value for name, value in inputs.items() if value is not None}
        graph = self.variant(frozenset(given))
        state = State(sorted(given), given, 0)
        self._run(model, graph, state, 0)
        return state

    def variant(self, names: frozenset[str]) -> fx.Graph:
        """The model graph for a set of inputs.

        Raises:
            TraceError: FYC-G02 when the model cannot run on these inputs alone; FYC-G05 when it calls other blocks.
        """
        if names not in self._variants:
            graph = self._retrace(names)
            calls = block_calls(graph, set(self.blocks))
            if [c.path for c in calls] != [c.path for c in self.calls]:
                raise TraceError(
                    "FYC-G05", "the model calls other blocks for these inputs", where=", ".join(sorted(names))
                )
            self._variants[names] = graph
        return self._variants[names]

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

    def _call_node(self, state: State, i: int) -> fx.Node:
        if i != state.position or i >= len(self.calls):
            raise IndexError(f"the state waits for block call {state.position} of {len(self.calls)}, not {i}")
        graph = self.variant(frozenset(state.inputs))
        calls: list[fx.Node] = [n for n in graph.nodes if n.op == "call_module" and n.target in self.blocks]
        return calls[i]

    def _run(self, model: nn.Module, graph: fx.Graph, state: State, begin: int) -> None:
        nodes = list(graph.nodes)
        stop = begin
        while stop < len(nodes) and not (nodes[stop].op == "call_module" and nodes[stop].target in self.blocks):
            stop += 1
        state.output = interpreter.run(nodes[begin:stop], model, state.values, interpreter.last_uses(nodes))
        if stop == len(nodes):
            state.values.clear()
        for name in [name for name, value in state.values.items() if isinstance(value, nn.Module)]:
            del state.values[name]


def block_calls(graph: fx.Graph, blocks: set[str]) -> list[BlockCall]:
    """The calls of the modules at the paths `blocks`, in execution order."""
    nodes = [n for n in graph.nodes if n.op == "call_module" and n.target in blocks]
    return [BlockCall(i, str(n.target), n.name) for i, n in enumerate(nodes)]


def _inputs(graph: fx.Graph) -> frozenset[str]:
    return frozenset(str(n.target) for n in graph.nodes if n.op == "placeholder")

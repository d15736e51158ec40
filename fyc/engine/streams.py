"""Calibration windows on their way through the model, one block at a time."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fyc import ir
from fyc.engine.units import Unit
from fyc.errors import ModelError
from fyc.passes import Block

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Call = tuple[tuple[Any, ...], dict[str, Any]]

#: What fyc feeds to a model.
STREAM_INPUTS = frozenset({"input_ids"})
#: Rows of logits that are compared at once; bounds the memory of the log-softmax.
_ROWS = 128


def runner(block: Block) -> Callable[..., Any]:
    """The block as something to call: its own copy of the graph bound to it, or transformers' code if opaque."""
    if not block.graph.opaque:
        ir.bind(block.module, block.graph)
    return block.module


@dataclass
class Stream:
    """Windows that travel together: calibration, held-out, the sample, or one branch.

    Attributes:
        tokens: int64 [windows, length].
        ending: what to do with the output of the last block: drop it, score it through the head, or keep it so
            that it can be compared with other streams.
        states: one state a window; empty before `start`.
        kept: the last block's output of each window, if kept.
        losses: mean next-token NLL (nats) of each window, if scored.
        computed: outputs of the next block, if something ran it on this stream already; `through` takes them.
    """

    tokens: Tensor
    ending: Literal["drop", "score", "keep"]
    states: list[ir.State] = field(default_factory=list)
    kept: list[Any] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    computed: list[Any] = field(default_factory=list)

    def start(self, graph: ir.ModelGraph, model: PreTrainedModel, device: torch.device) -> None:
        """Run everything before the first block."""
        with torch.no_grad():
            for row in self.tokens:
                self.states.append(graph.start(model, {"input_ids": row.unsqueeze(0).to(device)}))

    def through(self, graph: ir.ModelGraph, model: nn.Module, unit: Unit, block: Callable[..., Any]) -> None:
        """Run all calls of a block; after the model's last block, end as `ending` says."""
        final = graph.calls[-1].index
        with torch.no_grad():
            ready, self.computed = self.computed, []
            for window, state in enumerate(self.states):
                for call in unit.calls:
                    args, kwargs = graph.block_inputs(state, call)
                    output = ready[window] if ready else block(*args, **kwargs)
                    _check_finite(output, unit.path)
                    if call != final:
                        graph.advance(model, state, call, output)
                    elif self.ending == "keep":
                        self.kept.append(output)
                    elif self.ending == "score":
                        logits = _head(graph, model, state, output)
                        self.losses.append(_loss(logits, self.tokens[window]))

    def calls(
        self, graph: ir.ModelGraph, model: nn.Module, unit: Unit, block: Callable[..., Any] | None
    ) -> Iterator[Call]:
        """The inputs of every call of a unit; `block` computes what later calls of the same unit are fed with."""
        for state in self.states:
            travelling = state if len(unit.calls) == 1 else _copy(state)
            for call in unit.calls:
                args, kwargs = graph.block_inputs(travelling, call)
                yield args, kwargs  # outside `no_grad`, which would hold in the caller's loop too
                if block is not None and call != unit.calls[-1]:
                    with torch.no_grad():
                        graph.advance(model, travelling, call, block(*args, **kwargs))

    def branch(
        self, graph: ir.ModelGraph, model: nn.Module, unit: Unit, block: Callable[..., Any], windows: int
    ) -> Stream:
        """A copy of the first windows that went through a changed copy of the block."""
        copied = Stream(self.tokens[:windows], "keep", [_copy(state) for state in self.states[:windows]])
        copied.through(graph, model, unit, block)
        return copied

    @property
    def loss(self) -> float:
        """Mean next-token NLL (nats) over the windows."""
        return sum(self.losses) / len(self.losses)


@dataclass(frozen=True)
class BranchScores:
    """How branches ended; names as the pass gave them, "" is the untouched model.

    Attributes:
        loss: mean next-token NLL (nats).
        divergence: mean over tokens of KL(untouched || branch) (nats); far less noisy than a difference of losses.
    """

    loss: Mapping[str, float] = field(default_factory=dict)
    divergence: Mapping[str, float] = field(default_factory=dict)


def score_branches(
    graph: ir.ModelGraph, model: nn.Module, untouched: Stream, branches: Mapping[str, Stream]
) -> BranchScores:
    """Run the head for every branch; one window's logits of the untouched model are in memory at a time."""
    streams = {"": untouched, **branches}
    losses = dict.fromkeys(streams, 0.0)
    divergences = dict.fromkeys(branches, 0.0)
    windows = len(untouched.tokens)
    with torch.no_grad():
        for window, row in enumerate(untouched.tokens):
            reference = _head(graph, model, untouched.states[window], untouched.kept[window])
            losses[""] += _loss(reference, row) / windows
            for name, branch in branches.items():
                logits = _head(graph, model, branch.states[window], branch.kept[window])
                losses[name] += _loss(logits, row) / windows
                divergences[name] += _divergence(reference, logits) / windows
    return BranchScores(losses, divergences)


def _head(graph: ir.ModelGraph, model: nn.Module, state: ir.State, output: Any) -> Tensor:
    """Logits [1, length, vocabulary] from the last block's output."""
    ended = _copy(state)
    graph.advance(model, ended, graph.calls[-1].index, output)
    logits: Tensor = ended.output["logits"]
    return logits


def _copy(state: ir.State) -> ir.State:
    return replace(state, values=dict(state.values))


def _divergence(reference: Tensor, logits: Tensor) -> float:
    """Mean over tokens of KL(reference || logits), nats; both [1, length, vocabulary]."""
    total = torch.zeros((), dtype=torch.float64)
    for i in range(0, reference.shape[1], _ROWS):
        expected = F.log_softmax(reference[0, i : i + _ROWS].float(), -1)
        found = F.log_softmax(logits[0, i : i + _ROWS].float(), -1)
        total += F.kl_div(found, expected, reduction="sum", log_target=True).double().cpu()
    return float(total) / reference.shape[1]


def _loss(logits: Tensor, row: Tensor) -> float:
    """Mean next-token NLL (nats) of one window; logits [1, length, vocabulary]."""
    rows, target = logits[0, :-1], row[1:].to(logits.device)
    pieces = [
        F.cross_entropy(rows[i : i + _ROWS].float(), target[i : i + _ROWS], reduction="sum").double()
        for i in range(0, len(target), _ROWS)
    ]
    loss = float(torch.stack(pieces).sum()) / len(target)
    if not math.isfinite(loss):
        raise _overflow("the output of the model's head")
    return loss


def stored_call(value: Any) -> Any:
    """The tensor of a block's output: some blocks return a tuple whose first item is the hidden state."""
    return value[0] if isinstance(value, tuple) else value


def middle_modules(graph: ir.ModelGraph) -> list[str]:
    """Outer modules that are used between two blocks and so must stay in memory during a sweep."""
    # The graph that the streams run: with other inputs, an encoder-decoder does its work at other places.
    nodes = list(graph.variant(STREAM_INPUTS).nodes)
    positions = [i for i, node in enumerate(nodes) if node.op == "call_module" and node.target in graph.blocks]
    between = nodes[positions[0] : positions[-1] + 1]
    blocks = {call.path for call in graph.calls}
    return sorted({str(node.target) for node in between if node.op in {"call_module", "get_attr"}} - blocks)


def _check_finite(output: Any, path: str) -> None:
    tensor = stored_call(output)
    if isinstance(tensor, Tensor) and not all_finite(tensor):
        raise _overflow(f"the output of {path}")


def all_finite(tensor: Tensor) -> bool:
    """Whether no value is NaN or infinite.

    NaN and infinity survive a sum, which is far cheaper than looking at every value; a sum that is not finite may also
    have overflowed, and only then every value is looked at.
    """
    if tensor.is_floating_point() and bool(torch.isfinite(tensor.sum(dtype=torch.float32))):
        return True
    return bool(torch.isfinite(tensor).all())


def _overflow(where: str) -> ModelError:
    return ModelError(
        "FYC-M04",
        "an activation is NaN or infinite",
        where=where,
        why="it overflowed on the calibration text, or the weights are damaged",
        next="try another dtype (model: {dtype: float32}), and check the source with `fyc eval`",
    )

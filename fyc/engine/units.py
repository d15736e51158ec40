"""Units of work: a block with the places where the model calls it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from fyc.errors import TraceError
from fyc.ir import ModelGraph


@dataclass(frozen=True)
class Unit:
    """One block and its calls, in execution order. ALBERT calls one block many times in a row.

    Attributes:
        index: position among the units.
        path: module path of the block.
        calls: indexes into `ModelGraph.calls`.
    """

    index: int
    path: str
    calls: tuple[int, ...]


def units_of(graph: ModelGraph) -> Sequence[Unit]:
    """Group consecutive calls of one block.

    Raises:
        TraceError: FYC-G09 when a block is called again after another one, because a block is converted once and
            its inputs must be known by then.
    """
    runs: list[tuple[str, list[int]]] = []
    for call in graph.calls:
        if runs and runs[-1][0] == call.path:
            runs[-1][1].append(call.index)
        else:
            runs.append((call.path, [call.index]))
    paths = [path for path, _ in runs]
    for path in paths:
        if paths.count(path) > 1:
            raise TraceError(
                "FYC-G09",
                "a block is called again after other blocks",
                where=path,
                why="blocks are converted one after the other, each once",
                next="exclude this architecture, or report it as an issue with the model's config",
            )
    return [Unit(index, path, tuple(calls)) for index, (path, calls) in enumerate(runs)]

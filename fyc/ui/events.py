"""Events: how the engine tells the outside what it is doing, without printing.

Kinds and their data (the same objects `--progress json` writes, one a line):

========= ==========================================================================================
run       recipe, model, output, passes
sweep     pass, phase ("survey", "run", "evaluate"), blocks (how many), unit ("blocks" if it is not there)
block     pass, phase, index, total, path, seconds, eta_seconds (both null: not known yet), peak_memory_bytes
metric    name, value
warning   message, where
note      message
done      output, seconds, peak_memory_bytes
plan      model, gpus, gpu, backend, trials (how many at most), done (by an earlier run), output
trying    index, total, layout, expected_s (null: not known)
trial     index, total, layout, status, iteration_s, simulated, best, best_s, gain (over the customary setting)
decision  reasoner, choice, rationale, options (how many), tokens (of all decisions so far)
========= ==========================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Event:
    """One thing that happened: its kind, and JSON-able data."""

    kind: str
    data: Mapping[str, Any] = field(default_factory=dict)


EventSink = Callable[[Event], None]


def ignore(event: Event) -> None:
    """An `EventSink` for callers who do not watch."""
    del event

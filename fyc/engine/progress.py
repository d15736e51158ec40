"""Turns finished blocks into events with time left and peak memory."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from fyc.models import peak_memory_bytes
from fyc.ui.events import Event, EventSink


@dataclass
class Progress:
    """Times the blocks of one sweep.

    Attributes:
        events: where events go.
        pass_name, phase: of the sweep.
        total: how many blocks it has.
    """

    events: EventSink
    pass_name: str
    phase: str
    total: int
    _times: list[float] = field(default_factory=list)
    _started: float = field(default_factory=time.monotonic)

    def start(self) -> None:
        """Announce the sweep."""
        self.events(Event("sweep", {"pass": self.pass_name, "phase": self.phase, "blocks": self.total}))
        self._started = time.monotonic()

    def block(self, index: int, path: str) -> None:
        """Announce a finished block."""
        now = time.monotonic()
        self._times.append(now - self._started)
        self._started = now
        recent = self._times[-8:]
        left = (self.total - index - 1) * sum(recent) / len(recent)
        data = {
            "pass": self.pass_name,
            "phase": self.phase,
            "index": index,
            "total": self.total,
            "path": path,
            "seconds": self._times[-1],
            "eta_seconds": left,
            "peak_memory_bytes": peak_memory_bytes(),
        }
        self.events(Event("block", data))

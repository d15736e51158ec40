"""Three ways to show events on stderr: bars on a terminal, plain lines elsewhere, JSON lines for programs."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Literal, Protocol, Self, TextIO

from fyc.ui.events import Event
from fyc.ui.text import human_bytes, human_seconds

Mode = Literal["auto", "plain", "json", "none"]


class Progress(Protocol):
    """An `EventSink` that is used as a context manager around the work."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def __call__(self, event: Event) -> None:
        """Show an event."""


def progress(
    mode: Mode, stream: TextIO | None = None, terminal: Callable[[TextIO], Progress] | None = None
) -> Progress:
    """The renderer for a mode.

    Args:
        mode: `auto` draws when `stream` is a terminal and `CI` is not set, and writes lines otherwise.
        stream: where to write; stderr by default.
        terminal: what draws on a terminal; `BarProgress` by default.
    """
    stream = stream or sys.stderr
    if mode == "json":
        return JsonProgress(stream)
    if mode == "none":
        return QuietProgress(stream)
    if mode == "auto" and stream.isatty() and not os.environ.get("CI"):
        return (terminal or BarProgress)(stream)
    return PlainProgress(stream)


class _Base:
    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del kind, error, trace

    def write(self, text: str) -> None:
        self.stream.write(text + "\n")
        self.stream.flush()


class JsonProgress(_Base):
    """One JSON object a line: `{"kind": ..., ...data}`."""

    def __call__(self, event: Event) -> None:
        """Show an event."""
        self.write(json.dumps({"kind": event.kind, **event.data}))


class QuietProgress(_Base):
    """Shows warnings only."""

    def __call__(self, event: Event) -> None:
        """Show an event."""
        if event.kind == "warning":
            self.write(line(event))


class PlainProgress(_Base):
    """One line an event, for logs; of blocks that finish within `interval` seconds of the last line, only the last."""

    def __init__(self, stream: TextIO, interval: float = 1.0) -> None:
        super().__init__(stream)
        self.interval = interval
        self._last = -interval

    def __call__(self, event: Event) -> None:
        """Show an event."""
        now = time.monotonic()
        if event.kind == "block":
            last = event.data["index"] + 1 == event.data["total"]
            if not last and now - self._last < self.interval:
                return
            self._last = now
        if text := line(event):
            self.write(text)


class BarProgress(_Base):
    """One bar a sweep, with the time left and the peak memory."""

    def __init__(self, stream: TextIO) -> None:
        from rich import progress as bars
        from rich.console import Console

        super().__init__(stream)
        columns = [
            bars.TextColumn("{task.description}"),
            bars.BarColumn(),
            bars.MofNCompleteColumn(),
            bars.TimeElapsedColumn(),
            bars.TextColumn("{task.fields[state]}"),
        ]
        self._bars = bars.Progress(*columns, console=Console(file=stream, highlight=False))
        self._task: bars.TaskID | None = None

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def __call__(self, event: Event) -> None:
        """Show an event."""
        if event.kind == "sweep":
            self._finish()
            label = " ".join(part for part in (event.data["pass"], event.data["phase"]) if part)
            self._task = self._bars.add_task(label, total=event.data["blocks"], state="")
        elif event.kind == "block" and self._task is not None:
            self._bars.update(self._task, completed=event.data["index"] + 1, state=_block_state(event.data))
        elif text := line(event):
            self._bars.console.print(text, markup=False)

    def _finish(self) -> None:
        if self._task is not None:
            self._bars.update(self._task, state="")


def line(event: Event) -> str:
    """An event as one line of text; events of unknown kinds give none."""
    write = _LINES.get(event.kind)
    return write(event.data) if write is not None else ""


def _block_state(data: Mapping[str, Any]) -> str:
    parts = [] if data["seconds"] is None else [human_seconds(data["seconds"])]
    if data.get("eta_seconds") is not None:
        parts.append(f"{human_seconds(data['eta_seconds'])} left")
    if data.get("peak_memory_bytes"):
        parts.append(f"peak {human_bytes(data['peak_memory_bytes'])}")
    return ", ".join(parts)


def _done(data: Mapping[str, Any]) -> str:
    memory = human_bytes(data["peak_memory_bytes"])
    return f"done in {human_seconds(data['seconds'])}, peak memory {memory}: {data['output']}"


def _warning(data: Mapping[str, Any]) -> str:
    where = f" ({data['where']})" if data.get("where") else ""
    return f"warning: {data['message']}{where}"


def plan_text(data: Mapping[str, Any]) -> str:
    """What is planned, from a `plan` event."""
    return f"{data['model']} on {data['gpus']} x {data['gpu']}, {data['backend']}"


def result_text(data: Mapping[str, Any]) -> str:
    """The best so far, from a `trial` event."""
    if data["best_s"] is None:
        return "nothing has run yet"
    gain = "" if data["gain"] is None else f", {data['gain']:+.1%} over the customary setting"
    return f"{data['best_s']:.3f} s a step{gain}"


def _trial(data: Mapping[str, Any]) -> str:
    seconds = data["status"] if data["iteration_s"] is None else f"{data['iteration_s']:.3f} s"
    return f"  {data['index'] + 1}/{data['total']} {data['layout']}: {seconds}; best so far: {result_text(data)}"


def _decision(data: Mapping[str, Any]) -> str:
    text = "".join(c if c.isprintable() else " " for c in data["rationale"])
    return f"{data['reasoner']}: {text}"


_LINES: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "run": lambda data: f"{data['model']}: {', '.join(data['passes'])} -> {data['output']}",
    "sweep": lambda data: f"{data['pass']} {data['phase']}: {data['blocks']} {data.get('unit', 'blocks')}".lstrip(),
    "block": lambda data: f"  {data['index'] + 1}/{data['total']} {data['path']}: {_block_state(data)}",
    "metric": lambda data: f"{data['name']}: {data['value']:.6g}",
    "warning": _warning,
    "note": lambda data: str(data["message"]),
    "done": _done,
    "plan": lambda data: f"{plan_text(data)}: {data['trials']} trials at most",
    "trial": _trial,
    "decision": _decision,
}

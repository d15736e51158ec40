"""The live view of `fyc plan` on a terminal: the trial at work, the best so far, who decided what, the last results."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TextIO

from fyc.ui.events import Event
from fyc.ui.progress import line, plan_text, result_text
from fyc.ui.text import human_seconds

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_ROWS = 8  # trials that are shown
_DECISION = 320  # characters of a decision that are shown
_PER_SECOND = 8


class PlanView:
    """A panel that is drawn again several times a second; what it says last stays on the screen.

    Args:
        stream: the terminal.
        console: to draw on; one on `stream` by default.
    """

    def __init__(self, stream: TextIO, console: Console | None = None) -> None:
        from rich.console import Console
        from rich.live import Live

        self._console = console or Console(file=stream, highlight=False)
        self._started = time.monotonic()
        self._title, self._state, self._decision, self._tokens = "", "starting", "", 0
        self._plan: Mapping[str, Any] = {}
        self._last: Mapping[str, Any] = {}
        self._rows: deque[Mapping[str, Any]] = deque(maxlen=_ROWS)
        self._live = Live(
            console=self._console, get_renderable=self._draw, refresh_per_second=_PER_SECOND, redirect_stdout=False
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the terminal back; before an error the panel goes away, after Ctrl-C it stays."""
        stopped = kind is not None and issubclass(kind, KeyboardInterrupt)
        self._live.transient = kind is not None and not stopped
        self._state = "stopped" if stopped else self._state
        self._live.stop()

    def __call__(self, event: Event) -> None:
        """Show an event."""
        data = event.data
        if event.kind == "plan":
            self._plan = data
        elif event.kind == "trying":
            expected = "" if data["expected_s"] is None else f" ({data['expected_s']:.3f} s expected)"
            self._state = f"{data['layout']}{expected}"
        elif event.kind == "trial":
            self._last, self._state = data, ""
            self._rows.append(data)
        elif event.kind == "decision":
            self._decision, self._tokens = line(event), data["tokens"]
        elif event.kind == "done":
            self._state = "done"
        elif event.kind == "note":
            self._state = str(data["message"])
        elif event.kind == "warning":
            self._console.print(line(event), markup=False, style="yellow")

    def _draw(self) -> RenderableType:
        from rich.console import Group
        from rich.panel import Panel
        from rich.text import Text

        title = Text(plan_text(self._plan)) if self._plan else Text("fyc plan")
        width = max(20, self._console.width - len("^C") - 1)  # room for what a terminal shows of Ctrl-C
        title.truncate(width - 6, overflow="ellipsis")  # a longer one would widen the panel
        facts = Group(self._facts(), *self._results())
        return Panel(facts, title=title, title_align="left", border_style="dim", width=width)

    def _facts(self) -> RenderableType:
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 2))
        table.add_column(style="dim", no_wrap=True)
        table.add_column(overflow="fold")
        if self._plan:
            done = self._last["index"] + 1 if self._last else self._plan["done"]
            table.add_row("trials", Text(f"{done} of {self._plan['trials']}"))
        table.add_row("at work", Text(self._state or "deciding what to try"))
        if self._last and self._last["best"] is not None:
            table.add_row("best", Text.assemble((result_text(self._last), "bold"), f"\n{self._last['best']}"))
        if self._decision:
            text = self._decision if len(self._decision) <= _DECISION else f"{self._decision[: _DECISION - 3]}..."
            table.add_row("decision", Text(text))
        spent = human_seconds(time.monotonic() - self._started)
        table.add_row("spent", Text(f"{spent}, {self._tokens:,} tokens" if self._tokens else spent))
        return table

    def _results(self) -> list[RenderableType]:
        """The last trials, the newest below."""
        from rich.table import Table
        from rich.text import Text

        if not self._rows:
            return []
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        table.add_column("trial", justify="right")
        table.add_column("step", justify="right", no_wrap=True)
        table.add_column("layout", overflow="fold")
        for row in self._rows:
            ran = row["iteration_s"] is not None
            best = row["layout"] == self._last["best"]
            style = "bold" if best else "" if ran else "red"
            seconds = f"{row['iteration_s']:.3f} s" if ran else row["status"]
            table.add_row(Text(str(row["index"] + 1)), Text(seconds, style), Text(row["layout"], style))
        return [Text(""), table]

"""Following a run of the team: messages of the pool as events that a live view, a log or a program can show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from statistics import median
from typing import Any

from fyc.plan.layout import Layout
from fyc.plan.messages import Decision, Failure, Message, Proposal, Trial, Validation
from fyc.ui.events import Event, EventSink


class Follower:
    """Turns messages into the events `trying`, `trial`, `decision`, `note` and `warning` (`fyc.ui.events`).

    Args:
        events: where they go.
        budget: trials in all.
        before: messages of an earlier run that is gone on with; they are counted and not shown.
    """

    def __init__(self, events: EventSink, budget: int, before: Iterable[Message] = ()) -> None:
        self._events, self._budget = events, budget
        self._layouts: dict[str, Layout] = {}
        self._times: dict[str, list[float]] = {}
        self._tokens: Counter[str] = Counter()
        self._expert = ""
        self._count = 0
        self._known: set[str] = set()
        self._silent = True
        for message in before:
            self(message)
        self._silent = False

    @property
    def count(self) -> int:
        """Trials so far."""
        return self._count

    def __call__(self, message: Message) -> None:
        """Take note of a message, and tell what a person would want to know of it; of one that was told before, no."""
        if message.id in self._known:
            return
        self._known.add(message.id)
        payload = message.payload
        if isinstance(payload, Proposal):
            self._layouts[message.id] = payload.layout
            self._expert = message.id if payload.origin == "expert" else self._expert
        elif isinstance(payload, Validation):
            self._validated(payload)
        elif isinstance(payload, Trial):
            self._tried(payload)
        elif isinstance(payload, Decision):
            self._tokens[message.reasoner] += message.tokens
            self._tell("decision", reasoner=message.reasoner, choice=payload.choice, rationale=message.rationale,
                       options=len(payload.options), tokens=self._tokens.total())  # fmt: skip
        elif isinstance(payload, Failure):
            what = f"{payload.attempted_by} failed ({payload.what}{': ' if payload.why else ''}{payload.why})"
            self._tell("warning", message=f"{what}; {payload.fallback} decide", where=payload.where)

    def _validated(self, payload: Validation) -> None:
        layout = str(self._layouts.get(payload.proposal, ""))
        if payload.ok or payload.proposal == self._expert:
            expected = payload.estimate.get("iteration_s")
            self._tell("trying", index=self._count, total=self._budget, layout=layout, expected_s=expected)
        else:
            self._tell("note", message=f"the validator refuses {layout}: {'; '.join(payload.reasons)}")

    def _tried(self, payload: Trial) -> None:
        index = self._count
        self._count += 1
        if payload.iteration_s is not None:
            self._times.setdefault(payload.proposal, []).append(payload.iteration_s)
        medians = {proposal: median(times) for proposal, times in self._times.items()}
        best = min(medians, key=medians.__getitem__, default=None)
        expert = medians.get(self._expert)
        gain = None if best is None or expert is None else expert / medians[best] - 1
        self._tell(
            "trial", index=index, total=self._budget, layout=str(self._layouts.get(payload.proposal, "")),
            status=payload.status, iteration_s=payload.iteration_s, simulated=payload.simulated,
            best=None if best is None else str(self._layouts.get(best, "")),
            best_s=None if best is None else medians[best], gain=gain,
        )  # fmt: skip

    def _tell(self, kind: str, **data: Any) -> None:
        if not self._silent:
            self._events(Event(kind, data))

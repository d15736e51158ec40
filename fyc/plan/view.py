"""What one role sees of the pool: its subscriptions, and a view of them that fits a budget."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from fyc.plan.layout import Layout
from fyc.plan.messages import (
    Decision,
    Diagnosis,
    Fact,
    Failure,
    Message,
    MessageType,
    Proposal,
    Report,
    Trial,
    Validation,
)
from fyc.plan.pool import PoolContent


@dataclass(frozen=True)
class Subscription:
    """Which messages a role sees: those of these types, and, unless `roles` is empty, from these roles."""

    types: frozenset[MessageType]
    roles: frozenset[str] = frozenset()

    def covers(self, message: Message) -> bool:
        """Whether the role sees this message."""
        return message.type in self.types and (not self.roles or message.role in self.roles)


def subscribe(*types: MessageType, roles: Iterable[str] = ()) -> Subscription:
    """A subscription to these types, from these roles or from all."""
    return Subscription(frozenset(types), frozenset(roles))


#: What the roles of the reconstruction see; a plugin brings its own.
SUBSCRIPTIONS: Mapping[str, Subscription] = {
    "coordinator": subscribe("fact", "proposal", "validation", "trial", "diagnosis", "decision", "error"),
    "analyst": subscribe("fact"),
    "strategist": subscribe("fact", "proposal", "validation", "trial", "diagnosis"),
    "validator": subscribe("fact", "proposal"),
    "executor": subscribe("proposal", "validation"),
    "bottleneck": subscribe("fact", "proposal", "trial", "diagnosis"),
    "failure": subscribe("fact", "proposal", "trial", "diagnosis"),
    "reporter": subscribe("fact", "proposal", "validation", "trial", "diagnosis", "decision", "error", "report"),
}


def inbox(content: PoolContent, subscription: Subscription, *, after: str | None = None) -> list[Message]:
    """The messages a role sees, oldest first; with `after`, those that came later than that message."""
    start = 0 if after is None else int(content[after].id.removeprefix("m"))
    return [message for message in list(content)[start:] if subscription.covers(message)]


@dataclass(frozen=True)
class ViewBudget:
    """How much a view may hold: `best` and `last` trials, and characters of its text."""

    best: int = 3
    last: int = 5
    characters: int = 6_000


@dataclass(frozen=True)
class View:
    """A part of the pool as one role sees it, oldest first.

    Attributes:
        messages: facts, the best and the last trials with their diagnoses, and failures, as far as the budget goes.
        lines: one line of text for each of them.
        left_out: messages that the budget had no room for.
        tried: keys of all layouts that were tried, whether or not their trials are in the view.
    """

    messages: tuple[Message, ...] = ()
    lines: tuple[str, ...] = ()
    left_out: int = 0
    tried: frozenset[str] = field(default_factory=frozenset)

    @property
    def ids(self) -> tuple[str, ...]:
        """What a reasoner may cite."""
        return tuple(message.id for message in self.messages)

    def text(self) -> str:
        """The view for a prompt: a line a message, each with its id."""
        note = (f"({self.left_out} older messages are not shown)",) if self.left_out else ()
        return "\n".join((*self.lines, *note))


def view(content: PoolContent, subscription: Subscription, budget: ViewBudget | None = None) -> View:
    """The compressed context of a role: facts, the best and the last trials, all failures.

    What matters most comes first into the budget: facts, the best trials, the newest failures and trials. Failures
    that do not fit are counted, with everything else that was left out.
    """
    budget = budget or ViewBudget()
    seen = {message.id for message in content if subscription.covers(message)}
    chosen: dict[str, str] = {}
    room = budget.characters
    wanted = [message for message in _ranked(content, budget) if message.id in seen]
    for message in wanted:
        line = render(content, message, layouts=_layouts(subscription))
        if len(line) < room:
            chosen[message.id] = line
            room -= len(line) + 1
    shown = [message for message in content if message.id in chosen]
    trials = [message for message in content.of_type("trial") if message.id in seen]
    tried = frozenset(layout.key() for trial in trials if (layout := content.layout_of(trial)) is not None)
    return View(tuple(shown), tuple(chosen[message.id] for message in shown), len(wanted) - len(shown), tried)


def _layouts(subscription: Subscription) -> bool:
    return "proposal" in subscription.types


def _ranked(content: PoolContent, budget: ViewBudget) -> Iterator[Message]:
    """What a view may hold, the most important first, each once."""
    about: dict[str, list[Message]] = defaultdict(list)
    for message in content.of_type("diagnosis"):
        about[message.subject or ""].append(message)
    trials = content.of_type("trial")
    last = list(reversed(trials[-budget.last :])) if budget.last else []
    failures = list(reversed(content.failures()))
    done: set[str] = set()
    for message in (*content.of_type("fact"), *content.best_trials(budget.best), *last[:1], *failures, *last):
        for found in (message, *about[message.id]):
            if found.id not in done:
                done.add(found.id)
                yield found


def render(content: PoolContent, message: Message, *, layouts: bool = True) -> str:
    """A message as one line of at most 400 characters; `layouts` says whether the reader may know the layouts."""
    layout = content.layout_of(message) if layouts else None
    what = _what(message, layout)
    rationale = f" because {message.rationale}" if message.rationale else ""
    return _one_line(f"{message.id} {message.type} by {message.role}: {what}{rationale}", 400)


def _what(message: Message, layout: Layout | None) -> str:
    payload, of = message.payload, f" of {layout}" if layout else ""
    match payload:
        case Fact():
            text = f"{payload.name} = {payload.value}{payload.unit and ' ' + payload.unit}"
        case Proposal():
            text = f"{payload.origin} {payload.layout}{payload.edit and f' ({payload.edit})'}"
        case Validation():
            text = f"{'accepted' if payload.ok else 'rejected'}{of}: {'; '.join(payload.reasons) or 'legal, and fits'}"
        case Trial():
            text = f"{_outcome(payload)}{of} ({payload.executor}{', simulated' if payload.simulated else ''})"
        case Diagnosis():
            said = [payload.cause, payload.detail, *payload.evidence]
            text = f"{payload.trial}: {'; '.join(part for part in said if part)}"
        case Decision():
            text = payload.choice or "declined every option"
        case Failure():
            text = f"{payload.code} {payload.what}"
        case Report():
            text = payload.text
    return text


def _outcome(trial: Trial) -> str:
    if trial.iteration_s is None:
        return trial.status
    memory = f", {trial.peak_memory_gib:.1f} GiB" if trial.peak_memory_gib is not None else ""
    parts = sorted(trial.breakdown.items(), key=lambda item: -item[1])[:4]
    spent = "".join(f", {name} {seconds:.3g} s" for name, seconds in parts)
    return f"{trial.iteration_s:.4g} s a step{memory}{spent}"


def _one_line(text: str, width: int) -> str:
    flat = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return flat if len(flat) <= width else flat[: width - 3] + "..."

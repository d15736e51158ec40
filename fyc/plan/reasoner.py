"""Reasoners: who chooses among the edits that the validator allows, by rules or with a language model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from fyc.errors import EndpointError, PlanError
from fyc.plan.edits import BOTTLENECKS, FAILURES, Direction, Edit, Task
from fyc.plan.layout import Recompute
from fyc.plan.llm.client import LLMClient
from fyc.plan.llm.prompts import (
    DECLINE,
    PromptStyle,
    choice_model,
    choice_turns,
    neutral_turns,
    option_text,
    ranking_turns,
)
from fyc.plan.llm.ranking import Question, Ranking
from fyc.plan.view import View


@dataclass(frozen=True)
class Choice:
    """What a reasoner chose.

    Attributes:
        index: of the edit in the options; None when all were declined.
        rationale: why, for people.
        refs: ids of the messages of the pool that it rests on.
        reasoner: `rules`, or `llm:` or `llm-rank:` and the model.
        tokens, prompt_sha: what a language model read and wrote for it, and the hash of what it was asked.
    """

    index: int | None
    rationale: str
    refs: tuple[str, ...]
    reasoner: str
    tokens: int = 0
    prompt_sha: str = ""


class Reasoner(Protocol):
    """Chooses one of the edits it is given, or none. It cannot make one up."""

    @property
    def name(self) -> str:
        """What messages of the pool call it."""

    def choose(self, role: str, task: Task, view: View, options: Sequence[Edit]) -> Choice:
        """One of the options, or none, with reasons.

        Args:
            role: who asks: the role of the pool whose view this is.
            task: what the choice is for.
            view: what the role sees of the pool.
            options: edits that the validator has approved.

        Raises:
            EndpointError: a language model could not be asked, or said nothing usable. That is no choice.
        """


# Rules.


@dataclass(frozen=True)
class Rung:
    """One kind of edit: a field that moves in a direction, and how far at most."""

    field: str
    direction: Direction
    recompute: Recompute | None = None

    def takes(self, edit: Edit) -> bool:
        """Whether an edit is of this kind."""
        fits = self.recompute is None or edit.layout.recompute == self.recompute
        return fits and edit.moves(self.field, self.direction)


def _rungs(*steps: str) -> tuple[Rung, ...]:
    """Rungs from text: `+tp` raises tp, `-tp` lowers it."""
    return tuple(Rung(step[1:], "up" if step[0] == "+" else "down") for step in steps)


#: For every failure that an edit can mend, what is tried, the cheapest in speed first.
RECOVERY: dict[str, tuple[Rung, ...]] = {
    "oom": (
        *_rungs("-micro_batch", "+sequence_parallel"),
        Rung("recompute", "up", "selective"),
        *_rungs("+zero"),
        Rung("recompute", "up", "full"),
        *_rungs("+tp", "+pp", "+cp", "+ep", "+shard_size"),
    ),
    "divisibility": _rungs("-tp", "-pp", "-vpp", "-cp", "-ep"),
    "batch": _rungs("-micro_batch", "+micro_batch"),
}

#: For every bottleneck, what relieves it, the most direct first.
RELIEF: dict[str, tuple[Rung, ...]] = {
    "pipeline_bubble": _rungs("+vpp", "-micro_batch", "-pp"),
    "tensor_comm": _rungs("+sequence_parallel", "-tp"),
    "data_comm": _rungs("-zero", "-shard_size", "+micro_batch", "-dp"),
    "context_comm": _rungs("-cp"),
    "expert_comm": _rungs("-ep"),
    "recompute": _rungs("-recompute"),
    "small_kernels": _rungs("+micro_batch", "-tp"),
    "compute": _rungs("-recompute", "+micro_batch", "-tp"),
    "memory_slack": _rungs("-recompute", "-zero", "+micro_batch", "-tp", "-pp"),
}


class RuleReasoner:
    """Chooses by fixed rules: from the cause to the kinds of edit that mend it, in their order. Deterministic.

    Within a kind, the edit that the cost model expects to be fastest is taken, of equal ones the smallest step. What
    was tried is not tried again. Which edits are worth a trial at all is for the caller to say.
    """

    name = "rules"

    def choose(self, role: str, task: Task, view: View, options: Sequence[Edit]) -> Choice:
        """See `Reasoner.choose`; never raises."""
        del role
        fresh = [i for i, edit in enumerate(options) if edit.layout.key() not in view.tried]
        ladder = (RECOVERY if task.goal == "runnable" else RELIEF).get(task.cause, ())
        for rung in ladder:
            found = [i for i in fresh if rung.takes(options[i])]
            if found:
                best = min(found, key=lambda i: _order(options[i]))
                return self._chosen(task, best, f"{_words(task)}: {options[best].name}", options[best])
        expected = [i for i in fresh if options[i].iteration_s is not None] if task.goal == "faster" else []
        if expected and task.iteration_s is not None:
            best = min(expected, key=lambda i: _order(options[i]))
            return self._chosen(
                task, best, f"expected to be the fastest of what is left: {options[best].name}", options[best]
            )
        why = f"{_words(task)}, and none of the {len(options)} options that is new mends that"
        return Choice(None, why, task.refs, self.name)

    def _chosen(self, task: Task, index: int, why: str, edit: Edit) -> Choice:
        if edit.iteration_s is not None:
            instead = f" instead of {task.iteration_s:.4g} s" if task.iteration_s is not None else ""
            why += f"; the cost model expects {edit.iteration_s:.4g} s a step{instead}"
        return Choice(index, why, task.refs, self.name)


def _order(edit: Edit) -> tuple[float, float, str]:
    return (edit.iteration_s if edit.iteration_s is not None else float("inf"), edit.size(), edit.name)


def _words(task: Task) -> str:
    return {**BOTTLENECKS, **FAILURES}.get(task.cause, task.cause or "nothing is known about the layout")


# Language models.


class _Endurance:
    """How long a reasoner goes on asking an endpoint that fails.

    One that refuses the key or the request, or whose budget is spent, is not asked again, and one that was down twice
    in a row neither: `asking` then raises the same error at once.
    """

    def __init__(self) -> None:
        self._given_up: EndpointError | None = None
        self._down = 0

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Around a question: remembers how it went."""
        if self._given_up is not None:
            error = self._given_up
            raise EndpointError(error.code, error.what, where=error.where, why=error.why, next=error.next)
        try:
            yield
        except EndpointError as error:
            self._down = self._down + 1 if error.code == "FYC-L20" else 0
            if error.code in {"FYC-L21", "FYC-L22", "FYC-L28"} or self._down >= 2:
                self._given_up = error
            raise
        self._down = 0


class LLMReasoner:
    """Lets a language model choose. What it may answer is the labels of the options and ids of the view."""

    def __init__(self, client: LLMClient, style: PromptStyle | None = None) -> None:
        self._client = client
        self._style = style if style is not None else PromptStyle()
        self._endurance = _Endurance()

    @property
    def name(self) -> str:
        """`llm:` and the model."""
        return f"llm:{self._client.endpoint.model}"

    def choose(self, role: str, task: Task, view: View, options: Sequence[Edit]) -> Choice:
        """See `Reasoner.choose`.

        Raises:
            EndpointError: FYC-L20 to L23 and L28.
        """
        _require(options, role)
        turns = choice_turns(role, task, view, options, self._style)
        model = choice_model(options, view, self._style)
        with self._endurance.asking():
            answer = self._client.ask(turns, model, check=_check, purpose=f"{role}: choose")
        value: Any = answer.value
        index = None if value.choice == DECLINE else int(value.choice[1:]) - 1
        cited = tuple(getattr(value, "refs", ()))
        refs = tuple(dict.fromkeys((*cited, *task.refs)))
        return Choice(index, _clean(value.rationale), refs, self.name, answer.tokens, answer.prompt_sha)


class RankingReasoner:
    """Takes the option that a language model finds likeliest, by log-probability.

    It writes nothing, so that the smallest model can take part and be measured. It never declines.

    Args:
        client: the language model.
        style: what its prompts are made of; there is no room for a chain of thought.
        orders: how many orders of the options are averaged; each costs two calls.
    """

    def __init__(self, client: LLMClient, style: PromptStyle | None = None, *, orders: int = 3) -> None:
        self._client, self._orders = client, orders
        self._style = style if style is not None else PromptStyle()
        self._endurance = _Endurance()

    @property
    def name(self) -> str:
        """`llm-rank:` and the model."""
        return f"llm-rank:{self._client.endpoint.model}"

    def choose(self, role: str, task: Task, view: View, options: Sequence[Edit]) -> Choice:
        """See `Reasoner.choose`.

        Raises:
            EndpointError: FYC-L20 to L22; FYC-L28 when the endpoint gives no log-probabilities, FYC-L23 when it gives
                none for these options.
        """
        _require(options, role)
        with self._endurance.asking():
            ranking = self.rank(role, task, view, options)
            if ranking.method == "none":
                raise self._without(ranking)
        first, *others = ranking.order
        return Choice(
            first, _margin(ranking, options, first, others), task.refs, self.name, ranking.tokens, ranking.prompt_sha
        )

    def rank(self, role: str, task: Task, view: View, options: Sequence[Edit]) -> Ranking:
        """The options by how likely the model is to name them; `Ranking.method` is "none" if it cannot tell.

        Raises:
            EndpointError: FYC-L20 to L22.
        """
        question = Question(
            ranking_turns(role, task, view, self._style),
            [edit.name for edit in options],
            [option_text(edit) for edit in options],
            neutral_turns(role, self._style),
            self._orders,
        )
        return self._client.rank(question, purpose=f"{role}: rank")

    def _without(self, ranking: Ranking) -> EndpointError:
        where = f"{self._client.endpoint.model} at {self._client.endpoint.address}"
        if ranking.lasting:
            what, advice = "the endpoint gives no log-probabilities", "let the model choose with `--reasoner llm`"
            return EndpointError("FYC-L28", what, where=where, why=ranking.why, next=advice)
        what = "the language model ranks none of the options"
        advice = "a larger model may do better; the rules decide without one"
        return EndpointError("FYC-L23", what, where=where, why=ranking.why, next=advice)


def _require(options: Sequence[Edit], role: str) -> None:
    if not options:
        raise PlanError("FYC-L27", "there is nothing to choose from", where=role)


def _margin(ranking: Ranking, options: Sequence[Edit], first: int, others: Sequence[int]) -> str:
    """Why a ranking chose what it chose, with how far the next option is behind."""
    text = f"{options[first].name}: the likeliest of {len(options)} by log-probability"
    best = ranking.scores[first]
    second = ranking.scores[others[0]] if others else None
    return text if best is None or second is None else f"{text}, {best - second:.3f} ahead of {options[others[0]].name}"


def _check(value: Any) -> str | None:
    """What is wrong with a choice of the right form."""
    if not value.rationale.strip():
        return "rationale is empty"
    if value.choice != DECLINE and not getattr(value, "refs", True):
        return "refs is empty: cite the pool messages that the choice rests on"
    return None


def _clean(text: str) -> str:
    """What a model wrote, as one line without control characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:2_000]

"""Deciding: asks a reasoner, falls back to the rules when it fails, and puts both on record."""

from __future__ import annotations

from collections.abc import Sequence

from fyc.errors import EndpointError
from fyc.plan.edits import Edit, Task
from fyc.plan.messages import Decision, Failure, Message
from fyc.plan.pool import MessagePool
from fyc.plan.reasoner import Choice, Reasoner, RuleReasoner
from fyc.plan.view import View


def decide(
    pool: MessagePool,
    reasoner: Reasoner,
    task: Task,
    view: View,
    options: Sequence[Edit],
    *,
    role: str,
    iteration: int,
) -> tuple[Message, Edit | None]:
    """The decision among some edits, as a message of the pool, and the edit; None when all were declined.

    When the reasoner fails, an `error` message says so, and the decision is the rules' and is called theirs: a call
    that failed is never reported as what a language model decided.
    """
    refs: tuple[str, ...] = ()
    rules = RuleReasoner()
    try:
        choice = reasoner.choose(role, task, view, options) if options else rules.choose(role, task, view, options)
    except EndpointError as error:
        failure = Failure(
            code=error.code, what=error.what[:2000], where=error.where[:2000], why=error.why[:2000],
            next=error.next[:2000], attempted_by=reasoner.name, fallback=rules.name,
        )  # fmt: skip
        refs = (pool.append(failure, iteration=iteration, role=role, refs=task.refs).id,)
        choice = rules.choose(role, task, view, options)
    edit = options[choice.index] if choice.index is not None else None
    return _record(pool, choice, edit, options, refs, role=role, iteration=iteration), edit


def _record(
    pool: MessagePool,
    choice: Choice,
    edit: Edit | None,
    options: Sequence[Edit],
    refs: tuple[str, ...],
    *,
    role: str,
    iteration: int,
) -> Message:
    names = tuple(option.name for option in options)
    decision = Decision(
        choice=edit.name if edit is not None else "", layout=edit.layout if edit is not None else None, options=names
    )
    return pool.append(
        decision, iteration=iteration, role=role, refs=(*choice.refs, *refs), rationale=choice.rationale,
        reasoner=choice.reasoner, tokens=choice.tokens, prompt_sha=choice.prompt_sha,
    )  # fmt: skip

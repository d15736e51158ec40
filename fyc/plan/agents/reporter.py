"""The reporter: writes report.md from the pool, so that every number in it is one that a message holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fyc.plan.agents.coordinator import Outcome
from fyc.plan.agents.record import Record
from fyc.plan.agents.space import Space
from fyc.plan.estimate import Estimate
from fyc.plan.layout import Layout
from fyc.plan.messages import Decision, Diagnosis, Message, Trial
from fyc.plan.pool import MessagePool

#: What the causes of time are called where people read them.
PART_NAMES = {
    "product": "matrix products",
    "attention": "attention",
    "streaming": "memory-bound kernels",
    "head": "output projection and loss",
    "tensor": "tensor parallel traffic",
    "context": "context parallel traffic",
    "expert": "expert parallel traffic",
    "host": "waiting for the host",
    "boundary": "sending between stages",
    "bubble": "pipeline bubble",
    "data": "gradient reduction",
    "shard": "gathering parameters",
    "optimizer": "optimizer",
}


@dataclass(frozen=True)
class Reason:
    """One field of the chosen layout with what the next best value of it would cost: a counterfactual estimate."""

    field: str
    value: int | str
    other: int | str
    other_s: float
    other_gib: float
    fits: bool


def counterfactuals(space: Space, best: Layout) -> list[Reason]:
    """For every field of a layout, the fastest legal layout that differs in this field (and what must follow it)."""
    found: list[Reason] = []
    for edit in space.edits(best, frozenset({best.key()}), 40):
        first = edit.changes[0]
        if len([c for c in edit.changes if c.field not in ("dp", "shard_size", "sequence_parallel")]) != 1:
            continue
        if first.field not in {reason.field for reason in found}:
            one = space.expected(edit.layout)
            found.append(Reason(first.field, first.before, first.after, one.iteration_s, one.peak_memory_gib, one.fits))
    return found


def write_report(
    pool: MessagePool,
    space: Space,
    outcome: Outcome,
    considered: int,
    rejected: dict[str, int],
    pictures: Mapping[str, str] | None = None,
) -> str:
    """The report as Markdown. The figures it needs and the pool does not hold yet are put there first.

    Args:
        pool: what the team said.
        space: what it moved in.
        outcome: how it ended.
        considered: legal layouts in all.
        rejected: how many of them were left out, by reason.
        pictures: Markdown to add, by part of the report (`fyc.plan.pictures.draw`).
    """
    pictures = pictures or {}
    record = Record(pool, iteration=max((m.iteration for m in pool.content), default=0))
    parts = [f"# Plan for {space.job.model.name} on {space.job.cluster.gpus} x {space.job.cluster.gpu.name}", ""]
    if outcome.best is None:
        return "\n".join([*parts, f"No layout ran: {outcome.reason}.", ""])
    best = space.expected(outcome.best)
    message = record.report(
        "the chosen layout",
        {"iteration_s": best.iteration_s, "low_s": best.iteration_low_s, "high_s": best.iteration_high_s,
         "tokens_per_s_per_gpu": best.tokens_per_s_per_gpu, "mfu": best.mfu, "peak_memory_gib": best.peak_memory_gib,
         "considered": float(considered), **{f"time_{k}": v for k, v in best.time_s.items()},
         **{f"memory_{k}": v for k, v in best.memory_gib.items()},
         **{f"rejected_{i}": float(n) for i, n in enumerate(rejected.values())}},
        [m.id for m in pool.content.trials(outcome.best)[:1]],
    )  # fmt: skip
    parts += _summary(pool, outcome, best, message) + _lines(pictures, "summary")
    parts += _breakdown(best, message, pictures)
    parts += _frontier(record, space, outcome, message, pictures)
    parts += _why(record, space, outcome.best, best)
    parts += _rejections(considered, rejected, message)
    parts += _history(pool, pictures)
    return "\n".join(parts) + "\n"


def _summary(pool: MessagePool, outcome: Outcome, best: Estimate, message: Message) -> list[str]:
    trials = pool.content.trials(outcome.best) if outcome.best else []
    simulated = any(isinstance(m.payload, Trial) and m.payload.simulated for m in trials)
    lines = [
        f"**{outcome.best}**",
        "",
        f"- step: {best.iteration_s:.3f} s expected, in 8 of 10 cases "
        f"{best.iteration_low_s:.3f} to {best.iteration_high_s:.3f} s [{message.id}]",
        f"- {best.tokens_per_s_per_gpu:.0f} tokens/s on a GPU, {best.mfu:.3f} of the 16-bit peak [{message.id}]",
        f"- memory: {best.peak_memory_gib:.1f} GiB on the fullest GPU [{message.id}]",
    ]
    if outcome.expert_s is not None and outcome.best_s is not None and outcome.gain is not None:
        kind = "simulated" if simulated else "measured"
        gain = f"{outcome.gain:+.2%}" if outcome.best != outcome.expert else "the customary setting stands"
        refs = ", ".join(m.id for m in (*pool.content.trials(outcome.expert)[:1], *trials[:1]))
        lines.append(
            f"- against the customary setting ({outcome.expert}): {outcome.expert_s:.3f} s to {outcome.best_s:.3f} s, "
            f"{kind}: {gain} [{refs}]"
        )
    who = sorted({m.reasoner for m in pool.content.of_type("decision")})
    lines.append(f"- {outcome.trials} trials; {outcome.reason}; decisions by {', '.join(who) or 'nobody'}")
    failed = pool.content.of_type("error")
    if failed:
        refs = ", ".join(m.id for m in failed)
        lines.append(f"- {len(failed)} times a language model failed and the rules decided instead [{refs}]")
    return [*lines, ""]


def _lines(pictures: Mapping[str, str], part: str) -> list[str]:
    return [pictures[part], ""] if part in pictures else []


def _frontier(
    record: Record, space: Space, outcome: Outcome, message: Message, pictures: Mapping[str, str]
) -> list[str]:
    """The picture of time against memory, and where the figures of all pictures stand."""
    if "frontier" not in pictures:
        return []
    expert = space.expected(outcome.expert)
    other = record.report(
        "the customary setting",
        {"iteration_s": expert.iteration_s, "peak_memory_gib": expert.peak_memory_gib,
         **{f"time_{k}": v for k, v in expert.time_s.items()},
         **{f"memory_{k}": v for k, v in expert.memory_gib.items()}},
        [m.id for m in record.pool.content.trials(outcome.expert)[:1]],
    )  # fmt: skip
    lines = ["## Time against memory", "", pictures["frontier"], ""]
    sources = f"the chosen layout [{message.id}], the customary setting [{other.id}], the trials below"
    return [*lines, f"The figures in the pictures are those of {sources} and the frontier in `plan.json`.", ""]


def _breakdown(best: Estimate, message: Message, pictures: Mapping[str, str]) -> list[str]:
    lines = [f"## Where the time goes [{message.id}]", "", "| part | seconds | share |", "|---|---|---|"]
    for name, seconds in sorted(best.time_s.items(), key=lambda item: -item[1]):
        if seconds > 0.0005 * best.iteration_s:
            lines.append(f"| {PART_NAMES[name]} | {seconds:.3f} | {seconds / best.iteration_s:.1%} |")
    lines += ["", *_lines(pictures, "time")]
    lines += [f"## Where the memory goes [{message.id}]", "", "| part | GiB |", "|---|---|"]
    for name, size in sorted(best.memory_gib.items(), key=lambda item: -item[1]):
        if size >= 0.05:
            lines.append(f"| {name} | {size:.1f} |")
    return [*lines, "", *_lines(pictures, "memory")]


def _why(record: Record, space: Space, layout: Layout, best: Estimate) -> list[str]:
    """What each field's next best value would cost; every figure goes into the pool."""
    lines = ["## Why this layout", ""]
    for reason in counterfactuals(space, layout):
        figures = {"iteration_s": reason.other_s, "peak_memory_gib": reason.other_gib}
        message = record.report(f"{reason.field} {reason.other} instead of {reason.value}", figures, [])
        slower = reason.other_s / best.iteration_s - 1
        verdict = (
            f"{slower:+.1%} on the step" if slower >= 0 else f"{-slower:.1%} faster on paper, but it measured slower"
        )
        lines.append(
            f"- `{reason.field}` is {reason.value} because {reason.other} would need {reason.other_s:.3f} s "
            f"({verdict}) and {reason.other_gib:.1f} GiB [{message.id}]"
        )
    return [*lines, ""]


def _rejections(considered: int, rejected: dict[str, int], message: Message) -> list[str]:
    lines = ["## What was rejected", "", f"{considered} legal layouts were looked at [{message.id}]:", ""]
    return [*lines, *(f"- {count}: {why}" for why, count in rejected.items()), ""]


def _history(pool: MessagePool, pictures: Mapping[str, str]) -> list[str]:
    lines = [
        "## What was tried",
        "",
        *_lines(pictures, "history"),
        "| | layout | result | limited by | who, why |",
        "|---|---|---|---|---|",
    ]
    content = pool.content
    for trial in content.of_type("trial"):
        payload = trial.payload
        if not isinstance(payload, Trial):
            continue
        layout = content.layout_of(trial)
        diagnosis = next((m.payload for m in content.of_type("diagnosis") if m.subject == trial.id), None)
        cause = diagnosis.cause.replace("_", " ") if isinstance(diagnosis, Diagnosis) else ""
        decision = _decision_for(pool, trial)
        why = f"{decision.reasoner}: {decision.rationale}" if decision else "the customary setting"
        result = f"{payload.iteration_s:.3f} s" if payload.iteration_s is not None else payload.status
        lines.append(f"| {trial.id} | {layout} | {result} | {cause} | {_cell(why)} |")
    return [*lines, ""]


def _decision_for(pool: MessagePool, trial: Message) -> Message | None:
    proposal = pool.content[trial.subject] if trial.subject else None
    refs = proposal.refs if proposal else ()
    return next((pool.content[ref] for ref in refs if isinstance(pool.content[ref].payload, Decision)), None)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")[:300]

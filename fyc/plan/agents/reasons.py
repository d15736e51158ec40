"""Why a layout: for every field, what the cost model expects of the best other value of it, all else equal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from fyc.plan.agents.record import Record
from fyc.plan.agents.space import Space
from fyc.plan.estimate import Estimate, estimate
from fyc.plan.job import Job
from fyc.plan.layout import Layout, Layouts
from fyc.plan.legal import Limits, dimension_values, violations
from fyc.plan.messages import Trial

FIELDS = ("tp", "pp", "vpp", "cp", "ep", "micro_batch", "recompute", "zero")


@dataclass(frozen=True)
class Reason:
    """One field of a layout, and what another value of it would cost: a counterfactual estimate."""

    field: str
    value: int | str
    other: int | str
    estimate: Estimate


def counterfactuals(space: Space, best: Layout) -> list[Reason]:
    """For every field, the fastest legal layout that differs in it alone; where none fits, the one that needs least.

    What follows from a field changes with it: dp from tp, pp and cp, sequence parallelism from tp, interleaving from
    pp. Limits of the user's are not looked at: what they cost is told too.
    """
    found = []
    for field in FIELDS:
        others = [layout for layout in _others(space.job, best, field) if not violations(space.job, layout)]
        if not others:
            continue
        estimates = estimate(space.job, Layouts.of(others), space.correction)
        ones = [estimates.one(index) for index in range(len(others))]
        fitting = [one for one in ones if one.fits]
        if fitting:
            chosen = min(fitting, key=lambda one: one.iteration_s)
        else:
            chosen = min(ones, key=lambda one: one.peak_memory_gib)
        found.append(Reason(field, getattr(best, field), getattr(chosen.layout, field), chosen))
    return found


def _others(job: Job, best: Layout, field: str) -> list[Layout]:
    """The layout with every other value of a field, legal or not."""
    found, values = [], dimension_values(job)
    for value in values[field]:
        layout = best.model_copy(update={field: value})
        rest, left = divmod(job.cluster.gpus, layout.tp * layout.pp * layout.cp)
        if value == getattr(best, field) or left:
            continue
        for chunks in values["vpp"] if field == "pp" else [layout.vpp]:
            follows = {"dp": rest, "sequence_parallel": layout.tp > 1, "vpp": chunks, "shard_size": 0}
            found.append(layout.model_copy(update=follows))
    return found


def reason_lines(record: Record, space: Space, best: Estimate, limits: Limits | None) -> list[str]:
    """A line for every field; its figures go into the pool first."""
    fixed = [] if limits is None else limits.names
    return [_line(record, space, best, reason, fixed) for reason in counterfactuals(space, best.layout)]


def _line(record: Record, space: Space, best: Estimate, reason: Reason, fixed: Sequence[str]) -> str:
    one = reason.estimate
    limit = space.job.cluster.gpu.memory_gib.value - space.job.cluster.reserve_gib
    figures = {"iteration_s": one.iteration_s, "peak_memory_gib": one.peak_memory_gib, "limit_gib": limit,
               "chosen_s": best.iteration_s}  # fmt: skip
    trials = record.pool.content.trials(one.layout)
    refs = [trial.id for trial in trials]
    text = f"{one.layout}: {reason.field} {reason.other} instead of {reason.value}"
    message = record.report(text, figures, refs)
    cited = ", ".join([message.id, *refs])
    slower = one.iteration_s / best.iteration_s - 1
    start = f"- `{reason.field}` is {reason.value} "
    other = str(reason.other)
    if reason.field == "pp" and one.layout.vpp != best.layout.vpp:
        other += f", with vpp {one.layout.vpp},"
    if not one.fits:
        need = f"{other} would need {one.peak_memory_gib:.1f} GiB; {limit:.1f} GiB may be used"
        return f"{start}because {need} [{cited}]"
    costs = f"{one.iteration_s:.3f} s ({slower:+.1%}) and {one.peak_memory_gib:.1f} GiB"
    if slower >= 0:
        return f"{start}because {other} would take {costs} [{cited}]"
    costs = f"{start}although {other} is expected to take {costs}"
    if reason.field in fixed:
        return f"{costs}: you asked for it with `--fix` [{cited}]"
    seconds = [t.payload.iteration_s for t in trials if isinstance(t.payload, Trial) and t.payload.iteration_s]
    if seconds:
        return f"{costs}: tried, it took {median(seconds):.3f} s [{cited}]"
    return f"{costs}: {'tried, it failed' if trials else 'it was not tried'} [{cited}]"

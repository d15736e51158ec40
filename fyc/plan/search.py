"""The search: every legal layout, those that fit, the fastest, and the trade of time against memory headroom."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from fyc.plan.constraints import nothing_fits, nothing_legal
from fyc.plan.cost.memory import memory_use
from fyc.plan.cost.rates import Correction
from fyc.plan.estimate import Estimate, Estimates, estimate
from fyc.plan.job import Job
from fyc.plan.layout import Ints, Layouts
from fyc.plan.legal import Limits, legal_layouts


@dataclass(frozen=True)
class Search:
    """What a search found.

    Attributes:
        best: the fastest layouts that fit, fastest first.
        frontier: layouts that nothing beats both in time and in memory headroom, fastest first.
        rejected: how many layouts were left out, by reason.
        considered: how many legal layouts there were.
    """

    job: Job
    best: list[Estimate]
    frontier: list[Estimate]
    rejected: Counter[str] = field(default_factory=Counter)
    considered: int = 0


def search(job: Job, limits: Limits | None = None, *, keep: int = 20, correction: Correction | None = None) -> Search:
    """Look at every legal layout of a job.

    Args:
        job: what is trained.
        limits: values that the layouts may take.
        keep: how many of the fastest to return.
        correction: a calibration.

    Raises:
        NothingFitsError: FYC-L08, no legal layout fits; it says which one comes closest and what would do.
        PlanError: FYC-L16, the limits exclude each other.
    """
    rows = legal_layouts(job, limits)
    if not rows:
        raise nothing_legal(job, limits)
    layouts = Layouts.of(rows)
    memory = memory_use(job, layouts, correction)
    limit = job.cluster.gpu.memory_gib.value - job.cluster.reserve_gib
    fits = memory.device <= limit
    rejected = Counter({"does not fit in memory": int((~fits).sum())})
    if not fits.any():
        closest = int(np.argmin(memory.device))
        raise nothing_fits(job, limits, correction, layouts[closest], float(memory.device[closest]))
    estimates = estimate(job, layouts.select(fits), correction)
    frontier = _frontier(estimates)
    order = np.argsort(estimates.seconds, kind="stable")[:keep]
    rejected["slower and larger than another"] = len(estimates.seconds) - len(frontier)
    return Search(
        job,
        best=[estimates.one(int(i)) for i in order],
        frontier=[estimates.one(int(i)) for i in frontier],
        rejected=rejected,
        considered=len(rows),
    )


def _frontier(estimates: Estimates) -> Ints:
    """Indices of the layouts that nothing beats in both, fastest first."""
    memory = estimates.memory.device
    order = np.lexsort((memory, estimates.seconds))
    lowest = np.minimum.accumulate(memory[order])
    first = np.r_[True, memory[order][1:] < lowest[:-1]]
    return np.asarray(order[first])

"""The search: every legal layout, those that fit, the fastest, and the trade of time against memory headroom."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from fyc.errors import NothingFitsError
from fyc.plan.cost.memory import memory_use
from fyc.plan.cost.rates import Correction
from fyc.plan.estimate import Estimate, Estimates, estimate
from fyc.plan.job import Job
from fyc.plan.layout import Floats, Ints, Layouts
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
    """
    rows = legal_layouts(job, limits)
    if not rows:
        raise NothingFitsError(
            "FYC-L08",
            "no layout is legal for this model, cluster and batch",
            why=f"{job.cluster.gpus} GPUs, batch {job.global_batch}, sequence {job.sequence}",
            next=f"take a batch that is a multiple of the GPUs over a power of two, such as {_near_batch(job)}",
        )
    layouts = Layouts.of(rows)
    memory = memory_use(job, layouts, correction)
    limit = job.cluster.gpu.memory_gib.value - job.cluster.reserve_gib
    fits = memory.device <= limit
    rejected = Counter({"does not fit in memory": int((~fits).sum())})
    if not fits.any():
        raise _nothing_fits(job, layouts, memory.device, limit)
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


def _nothing_fits(job: Job, layouts: Layouts, device: Floats, limit: float) -> NothingFitsError:
    closest = int(np.argmin(device))
    need = float(device[closest])
    return NothingFitsError(
        "FYC-L08",
        "no layout fits in the memory of these GPUs",
        where=f"{job.model.name} on {job.cluster.gpus} x {job.cluster.gpu.name}",
        why=f"the smallest, {layouts[closest]}, needs {need:.1f} GiB on a GPU; {limit:.1f} GiB may be used",
        next=f"take about {int(np.ceil(job.cluster.gpus * need / limit))} GPUs, "
        f"or GPUs with {need + job.cluster.reserve_gib:.0f} GiB",
    )


def _near_batch(job: Job) -> int:
    gpus = job.cluster.gpus
    return max(gpus, round(job.global_batch / gpus) * gpus)

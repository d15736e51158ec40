"""The customary setting: what an experienced engineer takes before anything is measured, as fixed rules.

Written down from the public advice of the frameworks: tensor parallelism inside a machine and only as much as memory
asks for, then pipeline stages, data parallelism for the rest; the least recomputation and the largest micro-batch that
fit, as long as a pipeline has enough of them (Megatron-LM and NeMo guides; takeaways 1 to 3 of arXiv 2104.04473).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fyc.plan.cost.memory import memory_use
from fyc.plan.job import Job
from fyc.plan.layout import RECOMPUTE, Layout, Layouts
from fyc.plan.legal import legal_layouts


def expert_layout(job: Job, among: Sequence[Layout] | None = None) -> Layout | None:
    """The customary setting of a job: the first by `_custom` of the layouts that fit; None if none fits.

    Only memory is looked at, never time: these are rules that need no measurement.
    """
    layouts = list(among) if among is not None else legal_layouts(job)
    if not layouts:
        return None
    limit = job.cluster.gpu.memory_gib.value - job.cluster.reserve_gib
    fits = np.flatnonzero(memory_use(job, Layouts.of(layouts)).device <= limit)
    if among is not None and len(fits) == 0:
        fits = np.arange(len(layouts))  # they were measured, so they did fit
    return min((layouts[int(i)] for i in fits), key=lambda layout: _custom(job, layout), default=None)


def _custom(job: Job, layout: Layout) -> tuple[float, ...]:
    """Order of preference, smaller first."""
    domain = job.cluster.nvlink_domain
    return (
        float(layout.tp * layout.cp > domain) + float(layout.ep > domain),
        float(layout.cp > 1 and job.sequence // layout.cp < 4096),  # sequences are cut only when they are long
        float(layout.recompute == "full"),  # the last resort
        float(layout.tp * layout.pp * layout.cp),
        float(layout.pp),
        float(layout.vpp),
        float(RECOMPUTE.index(layout.recompute)),
        float(abs(layout.zero - (1 if layout.pp > 1 else max(min(job.stack.zero), 1)))),
        _batch_preference(job, layout),
        -float(layout.ep),
    )


def _batch_preference(job: Job, layout: Layout) -> float:
    """The largest micro-batch that fits; in a pipeline, the largest that leaves eight micro-batches a stage."""
    count = job.global_batch // (layout.micro_batch * layout.dp)
    if layout.pp > 1 and count < 8 * layout.pp:
        return float(layout.micro_batch)
    return -float(layout.micro_batch)

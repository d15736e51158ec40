"""Bottlenecks: what a step is bound by, from its time by cause and its memory."""

from __future__ import annotations

from collections.abc import Mapping

from fyc.plan.layout import Layout

#: Parts of a step (`fyc.plan.cost.step.StepTime`) that each bottleneck is made of.
PARTS: dict[str, tuple[str, ...]] = {
    "pipeline_bubble": ("bubble", "boundary"),
    "tensor_comm": ("tensor",),
    "data_comm": ("data", "shard"),
    "context_comm": ("context",),
    "expert_comm": ("expert",),
    "small_kernels": ("host", "streaming"),
}
#: A part smaller than this share of the step is not worth an edit.
NOTICEABLE = 0.02
#: Memory that is left over is a bottleneck when this share of the GPU is free: a larger micro-batch or less
#: recomputation could use it.
SLACK = 0.25
#: Share of the layer's work that full and selective recomputation repeat.
REPEATED = {"none": 0.0, "selective": 0.06, "full": 0.25}


def bottlenecks(layout: Layout, breakdown: Mapping[str, float], free_share: float) -> list[tuple[str, float]]:
    """Causes with their share of the step, largest first.

    Args:
        layout: of the step.
        breakdown: seconds by cause.
        free_share: share of a GPU's memory that the step leaves unused.

    Returns:
        Keys of `fyc.plan.edits.BOTTLENECKS`; never empty: at least `compute`.
    """
    total = sum(breakdown.values())
    if total <= 0:
        return [("compute", 1.0)]
    shares = {name: sum(breakdown.get(part, 0.0) for part in parts) / total for name, parts in PARTS.items()}
    work = sum(breakdown.get(part, 0.0) for part in ("product", "attention", "streaming")) / total
    shares["recompute"] = REPEATED[layout.recompute] * work
    if free_share > SLACK:
        shares["memory_slack"] = NOTICEABLE + 0.1 * (free_share - SLACK)
    found = sorted(((name, share) for name, share in shares.items() if share >= NOTICEABLE), key=lambda x: -x[1])
    return [*found, ("compute", work)]

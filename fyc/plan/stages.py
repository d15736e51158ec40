"""Memory by pipeline stage: GPUs of different stages hold different things."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from fyc.plan.cost.memory import MemoryUse, stage_layers, stage_use
from fyc.plan.cost.rates import Correction
from fyc.plan.job import Job
from fyc.plan.layout import Layout, Layouts


@dataclass(frozen=True)
class StageMemory:
    """What a GPU of one stage holds, by cause. GiB; stages are counted from 1."""

    number: int
    layers: int
    memory_gib: dict[str, float]

    @property
    def total_gib(self) -> float:
        """Everything on one GPU of the stage."""
        return sum(self.memory_gib.values())


def memory_by_stage(job: Job, layout: Layout, correction: Correction | None = None) -> list[StageMemory]:
    """The stages of a layout, first to last."""
    copies, stages = Layouts.of([layout] * layout.pp), np.arange(layout.pp)
    use, layers = stage_use(job, copies, stages, correction), stage_layers(job.model.layers, copies, stages)
    names = [field.name for field in fields(MemoryUse)]
    return [
        StageMemory(stage + 1, int(layers[stage]), {name: float(getattr(use, name)[stage]) for name in names})
        for stage in range(layout.pp)
    ]


def some_stages(stages: list[StageMemory], most: int) -> list[StageMemory]:
    """At most so many of the stages: the first, the last, and others evenly between."""
    if len(stages) <= most:
        return stages
    return [stages[round(index * (len(stages) - 1) / (most - 1))] for index in range(most)]

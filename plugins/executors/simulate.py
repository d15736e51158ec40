"""The executor `model`: the cost model itself, or a cluster that differs from it, with the noise of measurements."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fyc.plan.cost.rates import Correction
from fyc.plan.estimate import estimate
from fyc.plan.executor import TrialResult
from fyc.plan.job import Job
from fyc.plan.layout import Layout, Layouts


@dataclass(frozen=True)
class ModelExecutor:
    """Answers from the cost model; nothing runs.

    Args:
        noise: standard deviation of the logarithm of a measured time.
        seed: of the noise; the same repeat of the same layout always measures the same.
        truth: how the simulated cluster differs from the hardware files; None is not at all.
    """

    noise: float = 0.0
    seed: int = 0
    truth: Correction | None = None
    name: str = "model"

    def candidates(self, job: Job) -> list[Layout] | None:
        """Every legal layout can be tried."""
        del job

    def run(self, job: Job, layout: Layout, repeat: int = 0) -> TrialResult:
        """The estimate of a layout, with noise; out of memory where it passes the memory of the GPU."""
        one = estimate(job, Layouts.of([layout]), self.truth).one(0)
        memory = one.peak_memory_gib
        if memory > job.cluster.gpu.memory_gib.value:
            return TrialResult(status="oom", simulated=True, peak_memory_gib=memory, cause="oom")
        factor = 1.0
        if self.noise:
            rng = np.random.default_rng([self.seed, repeat, int(layout.key(), 16)])
            factor = float(np.exp(rng.normal(0.0, self.noise)))
        return TrialResult(
            status="ok",
            simulated=True,
            iteration_s=one.iteration_s * factor,
            tokens_per_s_per_gpu=one.tokens_per_s_per_gpu / factor,
            peak_memory_gib=memory,
            breakdown=one.time_s,
        )

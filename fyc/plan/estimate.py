"""Estimates: time, throughput and memory of layouts, with intervals, for one job."""

from __future__ import annotations

from dataclasses import dataclass, fields
from statistics import NormalDist

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from fyc.plan.cost.memory import MemoryUse, memory_use
from fyc.plan.cost.rates import Correction, Rates
from fyc.plan.cost.step import StepTime, step_time
from fyc.plan.job import Job
from fyc.plan.layout import Bools, Floats, Layout, Layouts

# Standard deviation of the logarithm of a part's error, and of what all parts share: fitted so that the 80 % interval
# holds 80 % of the rows the constants were not fitted on (docs/plan.md).
SPREAD = {"compute": 0.08, "traffic": 0.35, "host": 0.30, "common": 0.05}
CALIBRATED = 0.9  # what is left of the spread after a calibration
MEMORY_SPREAD = 0.07  # standard deviation of the logarithm of peak memory, about what the rows show
Z80 = 1.2816
_PARTS = {
    "compute": ("product", "attention", "streaming", "head", "optimizer"),
    "traffic": ("tensor", "context", "expert", "boundary", "data", "shard"),
    "host": ("host",),
}


@dataclass(frozen=True)
class Estimates:
    """What many layouts cost; arrays over layouts. Seconds, GiB.

    `low` and `high` bound the time with a probability of 80 %.
    """

    job: Job
    layouts: Layouts
    time: StepTime
    memory: MemoryUse
    low: Floats
    high: Floats

    @property
    def seconds(self) -> Floats:
        """Time of an optimizer step."""
        return self.time.total

    @property
    def fits(self) -> Bools:
        """Whether the expected peak leaves the cluster's reserve free."""
        cluster = self.job.cluster
        return np.asarray(self.memory.device <= cluster.gpu.memory_gib.value - cluster.reserve_gib)

    def one(self, index: int) -> Estimate:
        """The estimate of one layout."""
        job, layout = self.job, self.layouts[index]
        seconds = float(self.seconds[index])
        model_flops = job.model.flops_per_token(job.sequence) * job.tokens
        per_gpu = model_flops / seconds / layout.world_size
        return Estimate(
            layout=layout,
            iteration_s=seconds,
            iteration_low_s=float(self.low[index]),
            iteration_high_s=float(self.high[index]),
            tokens_per_s_per_gpu=job.tokens / seconds / layout.world_size,
            tflops_per_gpu=per_gpu / 1e12,
            mfu=per_gpu / (job.cluster.gpu.peak_16.value * 1e12),
            peak_memory_gib=float(self.memory.device[index]),
            reserved_memory_gib=float(self.memory.reserved[index]),
            fits=bool(self.fits[index]),
            fit_probability=self._fit_probability(index),
            time_s={field.name: float(getattr(self.time, field.name)[index]) for field in fields(self.time)},
            memory_gib={field.name: float(getattr(self.memory, field.name)[index]) for field in fields(self.memory)},
        )

    def _fit_probability(self, index: int) -> float:
        room = np.log(self.job.cluster.gpu.memory_gib.value / self.memory.device[index])
        return NormalDist(sigma=MEMORY_SPREAD).cdf(float(room))


class Estimate(BaseModel):
    """What one layout costs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    layout: Layout
    iteration_s: float = Field(description="Seconds of an optimizer step.")
    iteration_low_s: float = Field(description="Lower end of the 80 % interval of it.")
    iteration_high_s: float = Field(description="Upper end of the 80 % interval of it.")
    tokens_per_s_per_gpu: float = Field(description="Tokens in a second on one GPU.")
    tflops_per_gpu: float = Field(description="Model TFLOP/s of one GPU, recomputation not counted.")
    mfu: float = Field(description="Share of the 16-bit peak that these are.")
    peak_memory_gib: float = Field(description="Peak memory of the fullest GPU as nvidia-smi shows it, GiB.")
    reserved_memory_gib: float = Field(description="Peak memory as torch's allocator reports it (reserved), GiB.")
    fits: bool = Field(description="Whether the peak leaves the reserve of the cluster free.")
    fit_probability: float = Field(description="Probability that the peak stays within the GPU, reserve and all.")
    time_s: dict[str, float] = Field(description="Seconds by cause.")
    memory_gib: dict[str, float] = Field(description="GiB by cause.")


def estimate(job: Job, layouts: Layouts, correction: Correction | None = None) -> Estimates:
    """Time and memory of every layout; legality is not looked at (`fyc.plan.legal`)."""
    rates = Rates.of(job.cluster, job.stack, job.precision)
    if correction is not None:
        rates = rates.corrected(correction)
    time = step_time(job, layouts, rates)
    memory = memory_use(job, layouts, correction)
    spread = Z80 * log_error(time) * (CALIBRATED if correction is not None else 1.0)
    return Estimates(job, layouts, time, memory, time.total * np.exp(-spread), time.total * np.exp(spread))


def log_error(time: StepTime) -> Floats:
    """How far predicted times may be off: the standard deviation of their logarithm, from what they are made of."""
    variance = np.full(len(time.product), SPREAD["common"] ** 2)
    for part, names in _PARTS.items():
        variance = variance + (SPREAD[part] * time.share(*names)) ** 2
    return np.asarray(np.sqrt(variance))

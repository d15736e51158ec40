"""Executors: what tries a layout, on a model of the cluster, on published measurements, or on real machines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field

from fyc.plan.job import Job
from fyc.plan.layout import Layout


class TrialResult(BaseModel):
    """What a trial found. Seconds, GiB."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    status: Literal["ok", "oom", "failed", "timeout"]
    simulated: bool = Field(description="True where no training ran.")
    iteration_s: float | None = Field(None, gt=0, description="Median time of a step; present exactly when it is ok.")
    spread_s: float | None = Field(None, ge=0, description="Half the range of the steps that count.")
    tokens_per_s_per_gpu: float | None = Field(None, gt=0)
    peak_memory_gib: float | None = Field(None, ge=0)
    breakdown: Mapping[str, float] = Field({}, description="Seconds of a step by cause, where it is known.")
    cause: str = Field("", description="Why it failed, a key of `fyc.plan.edits.FAILURES`.")
    log: str = Field("", description="End of what the run printed.")


@runtime_checkable
class Executor(Protocol):
    """Tries layouts. A plugin registers one with `fyc_register_executors`.

    Attributes:
        name: what `--executor` calls it.
    """

    name: str

    def candidates(self, job: Job) -> list[Layout] | None:
        """The only layouts it can try, or None when it can try every legal one."""
        ...

    def run(self, job: Job, layout: Layout, repeat: int = 0) -> TrialResult:
        """Try a layout; a layout that fails is a result, not an exception.

        Args:
            job: what is trained.
            layout: how.
            repeat: how often this layout was tried before.
        """
        ...

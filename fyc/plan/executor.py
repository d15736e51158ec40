"""Executors: what tries a layout, on a model of the cluster, on published measurements, or on real machines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field

from fyc.plan.job import Job
from fyc.plan.launch import Launcher
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


@dataclass(frozen=True)
class Trials:
    """What an executor gets to know that runs training.

    Attributes:
        folder: of the plan; the executor may write below `folder/trials`.
        config: Hugging Face configuration of the model.
        launcher: of the job's backend; None where it has none.
        steps: optimizer steps of a trial.
        timeout_s: seconds after which a trial is ended.
    """

    folder: Path
    config: Mapping[str, Any]
    launcher: Launcher | None
    steps: int = 8
    timeout_s: float = 600.0


@runtime_checkable
class RunningExecutor(Executor, Protocol):
    """An executor that runs training: its times scatter, so that the best layout is tried again at the end."""

    def prepare(self, job: Job, trials: Trials) -> Executor:
        """Called once, before anything else: the executor of this plan, whose `run` trains.

        Raises:
            PlanError: FYC-L19, this job cannot be tried here.
        """
        ...

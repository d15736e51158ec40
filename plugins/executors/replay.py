"""The executor `replay`: answers with published measurements of the same job; it can try nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from statistics import median

from fyc.errors import PlanError
from fyc.plan.executor import TrialResult
from fyc.plan.job import Job
from fyc.plan.layout import Layout
from fyc.plan.rows import Case


@dataclass(frozen=True)
class ReplayExecutor:
    """Measured rows of one job: a layout measured several times answers with the median.

    Args:
        cases: rows of one job (`fyc.plan.validate.job_key`).
    """

    cases: Iterable[Case]
    name: str = "replay"
    _times: dict[str, list[float]] = field(init=False, repr=False)
    _layouts: dict[str, Layout] = field(init=False, repr=False)
    _oom: set[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        times: dict[str, list[float]] = {}
        layouts: dict[str, Layout] = {}
        oom: set[str] = set()
        for case in self.cases:
            key = case.layout.key()
            layouts[key] = case.layout
            if case.seconds is not None:
                times.setdefault(key, []).append(case.seconds)
            elif case.row.metric == "oom":
                oom.add(key)
        object.__setattr__(self, "_times", times)
        object.__setattr__(self, "_layouts", layouts)
        object.__setattr__(self, "_oom", oom)

    def candidates(self, job: Job) -> list[Layout] | None:
        """The layouts that were measured."""
        del job
        return [self._layouts[key] for key in [*self._times, *self._oom]]

    def run(self, job: Job, layout: Layout, repeat: int = 0) -> TrialResult:
        """What was measured.

        Raises:
            PlanError: FYC-L11, nobody measured this layout.
        """
        del repeat
        key = layout.key()
        if key in self._oom and key not in self._times:
            return TrialResult(status="oom", simulated=True, cause="oom")
        if key not in self._times:
            raise PlanError("FYC-L11", "no row measures this layout", where=str(layout))
        times = self._times[key]
        seconds = median(times)
        return TrialResult(
            status="ok",
            simulated=True,
            iteration_s=seconds,
            spread_s=(max(times) - min(times)) / 2,
            tokens_per_s_per_gpu=job.tokens / seconds / layout.world_size,
        )

"""Planning a job: search, team, and the folder with everything that comes of it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fyc.errors import PlanError, resource_error
from fyc.plan.agents.coordinator import Coordinator, Outcome
from fyc.plan.agents.reporter import Story, write_report
from fyc.plan.agents.space import Space
from fyc.plan.cost.rates import Correction
from fyc.plan.executor import Executor, RunningExecutor
from fyc.plan.expert import expert_layout
from fyc.plan.job import Job
from fyc.plan.legal import Limits, legal_layouts
from fyc.plan.messages import Message, describe
from fyc.plan.pictures import Scene, draw
from fyc.plan.pool import MessagePool
from fyc.plan.reasoner import Reasoner
from fyc.plan.search import search

PLAN_FORMAT = 1
CONFIRM = 4  # trials kept for measuring the best layout and the customary setting again, where times scatter


class TriedBy(BaseModel):
    """What tries the layouts: an executor by name, and how long a trial is, where training runs."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    executor: str = "model"
    steps: int | None = Field(None, ge=1, description="Optimizer steps of a trial.")
    timeout_s: float | None = Field(None, gt=0, description="Seconds after which a trial is ended.")


@dataclass(frozen=True)
class Request:
    """What is asked for: a job, what is fixed of its layout, a calibration, how many layouts to try, and what tries
    them."""

    job: Job
    limits: Limits | None = None
    correction: Correction | None = None
    trials: int = 20
    tried_by: TriedBy = field(default_factory=TriedBy)

    def as_dict(self) -> dict[str, Any]:
        """What job.json holds, for `fyc plan resume`: all but the number of trials."""
        limits = {} if self.limits is None else {name: getattr(self.limits, name) for name in self.limits.names}
        calibration = None if self.correction is None else self.correction.model_dump()
        job = self.job.model_dump(exclude_none=True, mode="json")
        return {"format": PLAN_FORMAT, "job": job, "limits": limits, "calibration": calibration,
                "tried_by": self.tried_by.model_dump(exclude_none=True)}  # fmt: skip

    @classmethod
    def from_dict(cls, data: dict[str, Any], trials: int) -> Self:
        """The request of a job.json; ValueError, KeyError or TypeError where it is none."""
        if data["format"] != PLAN_FORMAT:
            raise ValueError(f"its format is {data['format']}, this fyc reads {PLAN_FORMAT}")
        limits = {str(name): tuple(values) for name, values in data["limits"].items()}
        correction = None if data["calibration"] is None else Correction.model_validate(data["calibration"])
        tried_by = TriedBy.model_validate(data.get("tried_by", {}))  # plans of the first release name none
        job = Job.model_validate(data["job"])
        return cls(job, Limits(**limits) if limits else None, correction, trials, tried_by)


def make_plan(
    request: Request,
    executor: Executor,
    reasoner: Reasoner,
    folder: Path,
    watch: Callable[[Message], None] = lambda _: None,
) -> Outcome:
    """Plan a job and write plan.json, report.md and pool.jsonl.

    A folder that holds the pool of the same job is gone on with: what was tried is not tried again.

    Raises:
        NothingFitsError: FYC-L08, no layout is legal or fits.
        PlanError: FYC-L12, the folder holds another plan; FYC-L16, the limits exclude each other; FYC-L18, the folder
            cannot be written.
        ResourceError: FYC-S01 the disk is full, FYC-S03 another process plans there.
    """
    found = search(request.job, request.limits, correction=request.correction)
    _claim(request, folder)
    candidates = executor.candidates(request.job)
    within = candidates
    if request.limits is not None:
        within = [one for one in candidates or legal_layouts(request.job) if request.limits.allow(one)]
        candidates = within if candidates is not None else None
    space = Space.of(request.job, candidates, request.limits, request.correction)
    expert = expert_layout(request.job, within) or found.best[0].layout
    confirm = min(CONFIRM, request.trials // 4) if isinstance(executor, RunningExecutor) else 0
    with MessagePool(folder / "pool.jsonl") as pool:
        outcome = Coordinator(space, executor, reasoner, pool, budget=request.trials, confirm=confirm, watch=watch).run(
            expert
        )
        pictures = draw(Scene.of(space, outcome, found.frontier, pool.content), folder)
        report = write_report(Story(pool, space, outcome, found, request.limits, pictures))
    frontier = [e.model_dump() for e in found.frontier]
    best = None if outcome.best is None else space.expected(outcome.best).model_dump()
    data: dict[str, Any] = {
        **request.as_dict(),
        "best": best,
        "outcome": {
            "expert": outcome.expert.model_dump(),
            "expert_s": outcome.expert_s,
            "best_s": outcome.best_s,
            "gain": outcome.gain,
            "trials": outcome.trials,
            "reason": outcome.reason,
        },
        "considered": found.considered,
        "rejected": dict(found.rejected),
        "frontier": frontier,
    }
    _write(folder / "report.md", report)
    _write(folder / "plan.json", json.dumps(data, indent=1) + "\n")
    return outcome


def read_request(folder: Path, trials: int = 20) -> Request:
    """What was asked for when the plan of a folder was begun.

    Raises:
        PlanError: FYC-L12, the folder holds no plan.
    """
    try:
        return Request.from_dict(json.loads((folder / "job.json").read_text(encoding="utf-8")), trials)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        why = error.strerror if isinstance(error, OSError) else str(error).splitlines()[0]
        why = describe(list(error.errors())) if isinstance(error, ValidationError) else why
        why = f"job.json: {f'there is no key {error}' if isinstance(error, KeyError) else why}"
        advice = "give a folder that `fyc plan -o` wrote"
        what = "the folder holds no plan to go on with"
        raise PlanError("FYC-L12", what, where=str(folder), why=why, next=advice) from error


def read_job(folder: Path) -> Job:
    """The job of a plan folder; raises what `read_request` raises."""
    return read_request(folder).job


def _claim(request: Request, folder: Path) -> None:
    """Write the request into the folder, or see that it is the one that is there."""
    place = folder / "job.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not place.exists():
            if any(not path.name.startswith(".") for path in folder.iterdir()):
                what, advice = "the folder is not empty and holds no plan", "take another"
                raise PlanError("FYC-L12", what, where=str(folder), next=advice)
            _write(place, json.dumps(request.as_dict(), indent=1) + "\n")
    except OSError as error:
        full = resource_error(error, where=str(folder), next="repeat the command")
        why = "it is a file" if isinstance(error, FileExistsError) else error.strerror or str(error)
        advice = "give a folder that you may write"
        raise full or PlanError(
            "FYC-L18", "the plan cannot be written", where=str(folder), why=why, next=advice
        ) from error
    known = read_request(folder)
    if known.as_dict() != request.as_dict():
        parts = [name for name, value in request.as_dict().items() if known.as_dict()[name] != value]
        names = {"limits": "--fix", "calibration": "--calibration", "tried_by": "--executor"}
        raise PlanError(
            "FYC-L12", "the folder holds the plan of another job", where=str(folder),
            why=f"they differ in {', '.join(names.get(part, part) for part in parts)}",
            next="take another folder, or delete this one",
        )  # fmt: skip


def _write(path: Path, text: str) -> None:
    """Write by rename, so that a file is there whole or not at all."""
    temporary = path.with_name(f".{path.name}.new")
    with temporary.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)

"""Planning a job: search, team, and the folder with everything that comes of it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fyc.errors import PlanError
from fyc.plan.agents.coordinator import Coordinator, Outcome
from fyc.plan.agents.reporter import Story, write_report
from fyc.plan.agents.space import Space
from fyc.plan.cost.rates import Correction
from fyc.plan.executor import Executor
from fyc.plan.expert import expert_layout
from fyc.plan.job import Job
from fyc.plan.legal import Limits
from fyc.plan.messages import Message
from fyc.plan.pictures import Scene, draw
from fyc.plan.pool import MessagePool
from fyc.plan.reasoner import Reasoner
from fyc.plan.search import search

PLAN_FORMAT = 1


@dataclass(frozen=True)
class Request:
    """What is asked for: a job, and how to plan it."""

    job: Job
    limits: Limits | None = None
    correction: Correction | None = None
    trials: int = 20


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
        PlanError: FYC-L12, the folder holds another plan.
        ResourceError: FYC-S01 the disk is full, FYC-S03 another process plans there.
    """
    found = search(request.job, request.limits, correction=request.correction)
    _claim(request.job, folder)
    space = Space.of(request.job, executor.candidates(request.job), request.limits, request.correction)
    expert = expert_layout(request.job) or found.best[0].layout
    with MessagePool(folder / "pool.jsonl") as pool:
        outcome = Coordinator(space, executor, reasoner, pool, budget=request.trials, watch=watch).run(expert)
        pictures = draw(Scene.of(space, outcome, found.frontier, pool.content), folder)
        report = write_report(Story(pool, space, outcome, found, request.limits, pictures))
    frontier = [e.model_dump() for e in found.frontier]
    best = None if outcome.best is None else space.expected(outcome.best).model_dump()
    data: dict[str, Any] = {
        "format": PLAN_FORMAT,
        "job": request.job.model_dump(exclude_none=True),
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


def read_job(folder: Path) -> Job:
    """The job of a plan folder.

    Raises:
        PlanError: FYC-L12, the folder holds no plan.
    """
    try:
        return Job.model_validate_json((folder / "job.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        why = str(error).splitlines()[0]
        raise PlanError("FYC-L12", "the folder holds no plan to go on with", where=str(folder), why=why) from error


def _claim(job: Job, folder: Path) -> None:
    """Write the job into the folder, or see that it is the one that is there."""
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / "job.json"
    text = job.model_dump_json(indent=1, exclude_none=True) + "\n"
    if not place.exists():
        if any(not path.name.startswith(".") for path in folder.iterdir()):
            raise PlanError(
                "FYC-L12", "the folder is not empty and holds no plan", where=str(folder), next="take another"
            )
        _write(place, text)
    elif read_job(folder) != job:
        advice = "take another folder, or delete this one"
        raise PlanError("FYC-L12", "the folder holds the plan of another job", where=str(folder), next=advice)


def _write(path: Path, text: str) -> None:
    """Write by rename, so that a file is there whole or not at all."""
    temporary = path.with_name(f".{path.name}.new")
    with temporary.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)

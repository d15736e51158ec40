"""What executors share that run training: the folder of a trial, and what its log says."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from fyc.errors import PlanError
from fyc.plan.diagnosis.diagnose import diagnose
from fyc.plan.diagnosis.progress import parse_progress
from fyc.plan.diagnosis.report import Diagnosis
from fyc.plan.executor import TrialResult, Trials
from fyc.plan.job import Job
from fyc.plan.launch import Launcher, Target, write_launch
from fyc.plan.layout import Layout
from fyc.plan.legal import legal_layouts

WARM_UP = 3  # steps that do not count: those that the reader of progress leaves out
_TAIL = 4_000
_RATE = re.compile(r"step:\s*(\d+)\s.*?\btps:\s*([\d,]*[1-9][\d,]*(?:\.\d+)?)")


def usable_launcher(job: Job, trials: Trials) -> Launcher:
    """The launcher of the job's backend.

    Raises:
        PlanError: FYC-L19, there is none, or too few steps are asked for.
    """
    if trials.launcher is None:
        raise refused(f"there is no launcher for {job.stack.name}", "take a backend that has one, such as fsdp2")
    if trials.steps < WARM_UP + 2:
        raise refused(f"{trials.steps} steps leave too few after {WARM_UP} to warm up", f"take {WARM_UP + 2} or more")
    return trials.launcher


def runnable(job: Job, trials: Trials) -> list[Layout] | None:
    """Legal layouts that the backend runs; None when these are all.

    Raises:
        PlanError: FYC-L14, it runs none of them.
    """
    launcher, legal = usable_launcher(job, trials), legal_layouts(job)
    reasons = [launcher.refusal(Target(job, layout, trials.config)) for layout in legal]
    if legal and all(reasons):
        raise PlanError("FYC-L14", f"{launcher.name} cannot run any layout of this job", why=reasons[0] or "")
    return [layout for layout, reason in zip(legal, reasons, strict=True) if reason is None] if any(reasons) else None


def refused(why: str, advice: str) -> PlanError:
    """The job cannot be tried by this executor."""
    return PlanError("FYC-L19", "the executor cannot try this job here", why=why, next=advice)


def new_trial(job: Job, layout: Layout, trials: Trials) -> Path:
    """A new folder `trials/NNN-key` with the launch files of a layout; a trial that was killed keeps its own."""
    parent = trials.folder / "trials"
    parent.mkdir(parents=True, exist_ok=True)
    taken = [int(path.name[:3]) for path in parent.iterdir() if path.name[:3].isdigit()]
    folder = parent / f"{max(taken, default=0) + 1:03d}-{layout.key()}"
    folder.mkdir()
    write_launch(usable_launcher(job, trials), Target(job, layout, trials.config), folder, "A trial of `fyc plan`.")
    return folder


def environment(trials: Trials) -> dict[str, str]:
    """The environment of a trial: this one, with the torchrun of this Python first."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    return {**os.environ, "PATH": path, "STEPS": str(trials.steps), "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}


def judge(job: Job, log: Path, *, code: int, late: bool = False, on_cpu: bool = False, cause: str = "") -> TrialResult:
    """What a trial found, from its log.

    Args:
        job: what was trained.
        log: what the run printed.
        code: exit code of the run.
        late: the run was ended because it took too long.
        on_cpu: processes stand for GPUs, so that memory of the host is the memory of a GPU.
        cause: what a scheduler says, for a log that says nothing.
    """
    tail = _end_of(log)
    if code == 0 and not late:
        return _measured(job, log) or TrialResult(
            status="failed", simulated=False, cause="unknown", log=f"{tail}\nno step was measured"[-_TAIL:]
        )
    found = _diagnosis(log)
    category = str(found.category) if found and found.category else ""
    if on_cpu and category == "host_oom":
        category = "oom"
    if category in ("", "unknown"):
        category = cause or "unknown"
    if category == "oom":
        return TrialResult(status="oom", simulated=False, cause="oom", log=_with_evidence(found, tail))
    if late:
        return TrialResult(status="timeout", simulated=False, cause="timeout", log=tail)
    return TrialResult(status="failed", simulated=False, cause=category, log=_with_evidence(found, tail))


def _measured(job: Job, log: Path) -> TrialResult | None:
    """Medians over the steps after the first three; None where no step was logged."""
    progress = parse_progress(log) if _end_of(log).strip() else None
    if progress is None:
        return None
    rate, step, gpus = progress.tokens_per_s_per_gpu, progress.step_s, job.cluster.gpus
    if step is None and rate is not None:
        step = job.tokens / rate / gpus
    if step is None:
        return None
    times = _step_times(job, log)
    return TrialResult(
        status="ok", simulated=False, iteration_s=step, spread_s=(max(times) - min(times)) / 2 if times else None,
        tokens_per_s_per_gpu=job.tokens / step / gpus,
        peak_memory_gib=progress.peak_reserved_gib or progress.peak_allocated_gib,
    )  # fmt: skip


def _step_times(job: Job, log: Path) -> list[float]:
    """Seconds of the steps that count, where the log has one line a step with its rate."""
    found: dict[int, float] = {}
    for number, rate in _RATE.findall(log.read_text(encoding="utf-8", errors="replace")):
        found.setdefault(int(number), job.tokens / float(rate.replace(",", "")) / job.cluster.gpus)
    return [seconds for _, seconds in sorted(found.items())[WARM_UP:]]


def _diagnosis(log: Path) -> Diagnosis | None:
    """What the log says about a failure; None for an empty one."""
    try:
        return diagnose(log)
    except PlanError:
        return None  # no text to read: the caller says `unknown`


def _with_evidence(found: Diagnosis | None, tail: str) -> str:
    """The lines that name the cause, below the end of the log: what counts stands last."""
    evidence = found.evidence[:3] if found else ()
    lines = [one.text if one.rank is None else f"rank {one.rank}: {one.text}" for one in evidence]
    return "\n".join([tail[-_TAIL // 2 :], *lines[::-1]])[-_TAIL:]


def _end_of(log: Path) -> str:
    """The last characters of a log."""
    if not log.is_file():
        return ""
    with log.open("rb") as stream:
        stream.seek(max(log.stat().st_size - _TAIL, 0))
        return stream.read().decode("utf-8", "replace")

"""The executor `slurm`: trains for a few steps in a Slurm job of its own for every layout."""

from __future__ import annotations

import math
import shutil
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from fyc_plugins.executors.trial import environment, judge, new_trial, refused, runnable, usable_launcher

from fyc.artifact.files import write_text
from fyc.errors import PlanError
from fyc.plan.executor import TrialResult, Trials
from fyc.plan.job import Job
from fyc.plan.layout import Layout

COMMANDS = ("sbatch", "squeue", "sacct", "scancel")
JOB_FILE = "slurm-job"  # holds the id of a trial's job for as long as it may be queued or run
_CALL_S = 60.0

WAITS = {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "RESV_DEL_HOLD"}
RUNS = {"RUNNING", "COMPLETING", "STAGE_OUT", "SUSPENDED", "STOPPED", "SIGNALING", "RESIZING"}
LOST = {"PREEMPTED", "NODE_FAIL", "BOOT_FAIL"}  # says nothing about the layout: the job is handed in again
SUBMISSIONS = 3
#: What a state means for a trial whose log does not say more; every other state is an end of cause `unknown`.
CAUSES = {"OUT_OF_MEMORY": "host_oom", "NODE_FAIL": "network", "BOOT_FAIL": "network"}


@dataclass(frozen=True)
class SlurmExecutor:
    """Submits launch.sbatch of every layout from a folder of its own, `trials/NNN-key`, which all machines must see.

    Args:
        poll_s: seconds between two looks at the queue.
        patience_s: seconds that Slurm may fail to answer before the plan is given up.
    """

    trials: Trials | None = None
    poll_s: float = 5.0
    patience_s: float = 600.0
    name: str = "slurm"

    def prepare(self, job: Job, trials: Trials) -> SlurmExecutor:
        """The executor of one plan. Jobs that a killed planner left are cancelled.

        Raises:
            PlanError: FYC-L19, there is no Slurm here; FYC-L14, the backend runs no layout.
        """
        usable_launcher(job, trials)
        missing = [name for name in COMMANDS if shutil.which(name) is None]
        if missing:
            raise refused(
                f"there is no {', '.join(missing)}", "run it where jobs are submitted, or use --executor local"
            )
        for left in sorted(trials.folder.glob(f"trials/*/{JOB_FILE}")):
            number = left.read_text(encoding="utf-8").strip()
            if not _cancelled(number, left.parent):
                raise refused(f"job {number} of an earlier run cannot be cancelled", f"try `scancel {number}`")
        return replace(self, trials=trials)

    def candidates(self, job: Job) -> list[Layout] | None:
        """The layouts that the backend runs."""
        return runnable(job, self._prepared())

    def run(self, job: Job, layout: Layout, repeat: int = 0) -> TrialResult:
        """Train with a layout; the time in the queue does not count.

        Raises:
            PlanError: FYC-L19, sbatch refuses the job, or Slurm does not answer any more.
        """
        del repeat
        trials = self._prepared()
        folder = new_trial(job, layout, trials)
        for _ in range(SUBMISSIONS):
            number = self._submit(folder, trials)
            try:
                state = self._wait(number, folder, trials.timeout_s)
            except BaseException:
                _cancelled(number, folder)
                raise
            if state not in LOST:
                break
        late = state == "TIMEOUT"
        code = 0 if state == "COMPLETED" else 1
        log = folder / f"slurm-{number}.log"
        result = judge(job, log, code=code, late=late, cause=CAUSES.get(state, "unknown"))
        return result if code == 0 else result.model_copy(update={"log": f"{result.log}\nSlurm: {state}".strip()})

    def _submit(self, folder: Path, trials: Trials) -> str:
        """Hand the job in; Slurm's own limit of time ends it also when nobody watches any more."""
        minutes = math.ceil(trials.timeout_s / 60) + 2
        options = ["--parsable", "--no-requeue", f"--time={minutes}", "--export=ALL"]
        done = _call("sbatch", *options, "launch.sbatch", folder=folder, variables=environment(trials))
        number = done.stdout.strip().splitlines()[-1].partition(";")[0] if done.stdout.strip() else ""
        if done.returncode != 0 or not number.isdigit():
            why = (done.stderr or done.stdout).strip()[-500:] or f"sbatch ended with {done.returncode}"
            raise refused(f"sbatch refuses it: {why}", f"try it by hand: cd {folder} && sbatch launch.sbatch")
        write_text(folder / JOB_FILE, f"{number}\n")
        return number

    def _wait(self, number: str, folder: Path, timeout_s: float) -> str:
        """The state in which a job ended; TIMEOUT where it was cancelled for its time."""
        started: float | None = None
        answered = time.monotonic()
        while True:
            state, now = job_state(number), time.monotonic()
            if state:
                answered = now
            elif now - answered > self.patience_s:
                why = f"neither squeue nor sacct said what became of job {number} for {self.patience_s:.0f} s"
                raise refused(why, "go on with `fyc plan resume` when Slurm answers again")
            if state and state not in WAITS | RUNS:
                (folder / JOB_FILE).unlink(missing_ok=True)
                return state
            if state in RUNS:
                started = now if started is None else started
                if now - started > timeout_s:
                    _cancelled(number, folder)
                    return "TIMEOUT"
            time.sleep(self.poll_s)

    def _prepared(self) -> Trials:
        if self.trials is None:
            raise refused("it does not know the model's configuration", "call `prepare` before `run`")
        return self.trials


def _cancelled(number: str, folder: Path) -> bool:
    """Cancel a job. Where that fails the folder goes on naming it, so that the next run of the plan tries again."""
    if _call("scancel", number).returncode != 0:
        return False
    (folder / JOB_FILE).unlink(missing_ok=True)
    return True


def job_state(number: str) -> str:
    """State of a job: from the queue, which knows it for some minutes after its end, or from accounting; empty where
    neither answers."""
    queue = _call("squeue", "--noheader", "--states=all", "--jobs", number, "--format=%T")
    state = _word(queue.stdout) if queue.returncode == 0 else ""
    if state in WAITS | RUNS:
        return state
    history = _call("sacct", "--noheader", "--allocations", "--parsable2", "--jobs", number, "--format=State")
    return (_word(history.stdout) if history.returncode == 0 else "") or state


def _word(text: str) -> str:
    """The state in a line such as `CANCELLED by 1000`."""
    return text.split(maxsplit=1)[0].rstrip("+") if text.split() else ""


def _call(
    command: str, *arguments: str, folder: Path | None = None, variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """A command of Slurm; one that does not answer in a minute failed."""
    words = [command, *arguments]
    try:
        return subprocess.run(
            words, cwd=folder, env=variables, capture_output=True, text=True, timeout=_CALL_S, check=False
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(words, 1, "", f"{command} did not answer in {_CALL_S:.0f} s")
    except OSError as error:
        raise PlanError("FYC-L19", "the executor cannot try this job here", where=command, why=str(error)) from error

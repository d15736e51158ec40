"""The executor `local`: trains for a few steps on this machine, on its GPUs or on one CPU process for each GPU."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from fyc_plugins.executors.trial import environment, judge, new_trial, refused, runnable, usable_launcher

from fyc.plan.executor import TrialResult, Trials
from fyc.plan.job import Job
from fyc.plan.layout import Layout

_GUARD = Path(__file__).with_name("guard.py")
_END_S = 30.0  # until the guard has ended everything


@dataclass(frozen=True)
class LocalExecutor:
    """Runs launch.sh of every layout in a folder of its own, `trials/NNN-key`, and keeps its log there.

    Where the hardware file says `device: cpu`, processes with gloo stand for GPUs, and each may allocate the memory
    of the file.
    """

    trials: Trials | None = None
    name: str = "local"

    def prepare(self, job: Job, trials: Trials) -> LocalExecutor:
        """The executor of one plan.

        Raises:
            PlanError: FYC-L19, the cluster of the job is not this machine; FYC-L14, the backend runs no layout.
        """
        if platform.system() != "Linux":
            raise refused(f"this is {platform.system()}", "`local` needs Linux; use `--executor model`")
        usable_launcher(job, trials)
        cluster = job.cluster
        if cluster.nodes != 1:
            raise refused(f"the cluster has {cluster.nodes} machines", "use --executor slurm, or a cluster of one")
        cpu = cluster.gpu.device == "cpu"
        have, what = (len(os.sched_getaffinity(0)), "CPU cores") if cpu else (_gpus(), "GPUs that torch sees")
        if cluster.gpus_per_node > have:
            why = f"the cluster has {cluster.gpus_per_node} a machine, this one has {have} {what}"
            raise refused(why, "change gpus_per_node of the cluster, or run it where they are")
        return replace(self, trials=trials)

    def candidates(self, job: Job) -> list[Layout] | None:
        """The layouts that the backend runs."""
        return runnable(job, self._prepared())

    def run(self, job: Job, layout: Layout, repeat: int = 0) -> TrialResult:
        """Train with a layout."""
        del repeat
        trials, cpu = self._prepared(), job.cluster.gpu.device == "cpu"
        folder = new_trial(job, layout, trials)
        variables = environment(trials)
        limit = 0
        if cpu:
            threads = max(len(os.sched_getaffinity(0)) // job.cluster.gpus_per_node, 1)
            variables |= {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": str(threads)}
            limit = int(job.cluster.gpu.memory_gib.value * 2**30)
        log = folder / "train.log"
        code = run_guarded([str(folder / "launch.sh")], log, variables, trials.timeout_s, limit)
        return judge(job, log, code=code or 0, late=code is None, on_cpu=cpu)

    def _prepared(self) -> Trials:
        if self.trials is None:
            raise refused("it does not know the model's configuration", "call `prepare` before `run`")
        return self.trials


def run_guarded(command: list[str], log: Path, variables: dict[str, str], timeout_s: float, limit: int) -> int | None:
    """Run a command; nothing that it started is left when this returns, raises, or is killed.

    Args:
        command: what to run.
        log: where its output goes.
        variables: its environment.
        timeout_s: seconds that it may take.
        limit: bytes that each process may allocate; 0 is no limit.

    Returns:
        Its exit code, None where it took too long.
    """
    guard = [sys.executable, "-I", "-S", str(_GUARD), str(limit), *command]
    with log.open("wb") as output:
        process = subprocess.Popen(
            guard, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT, env=variables,
            cwd=log.parent, start_new_session=True,
        )  # fmt: skip
    assert process.stdin is not None
    try:
        return process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        return None
    finally:
        process.stdin.close()  # the guard ends everything and itself
        process.wait(_END_S)


def _gpus() -> int:
    """GPUs of this machine."""
    import torch

    return torch.cuda.device_count()

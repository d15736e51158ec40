"""The executor `local`: what it refuses, and plans of two CPU processes that really train."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fyc_plugins.executors.guard import descendants
from fyc_plugins.executors.local import LocalExecutor
from fyc_plugins.executors.trial import judge
from fyc_plugins.launchers.fsdp2 import Fsdp2Launcher

from fyc.errors import PlanError
from fyc.plan.cluster import Cluster, read_cluster
from fyc.plan.executor import Trials
from fyc.plan.inputs import make_job
from fyc.plan.job import Job
from fyc.plan.layout import Layout
from fyc.plan.pool import replay
from tests.plan.command import ARGUMENTS, EXAMPLES, run

CPU = EXAMPLES / "cpu"
CONFIG = json.loads((CPU / "tiny-llama" / "config.json").read_text(encoding="utf-8"))
PLAN = [
    "--model", str(CPU / "tiny-llama"), "--cluster", str(CPU / "two.yaml"), "--global-batch", "16",
    "--backend", "fsdp2", "--executor", "local", "--reasoner", "rules", "--trial-steps", "5",
]  # fmt: skip
OOM = "[rank1]: RuntimeError: [enforce fail at alloc_cpu.cpp:128] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 268435456 bytes. Error code 12 (Cannot allocate memory)"  # noqa: E501


@pytest.fixture(autouse=True)
def at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the example's cluster names its hardware file from."""
    monkeypatch.chdir(EXAMPLES.parents[1])


def _job(sequence: int = 128, batch: int = 16, **cluster: object) -> Job:
    job = make_job(str(CPU / "tiny-llama"), CPU / "two.yaml", sequence, batch, "fsdp2", "bf16", offline=True)
    return job.model_copy(update={"cluster": job.cluster.model_copy(update=cluster)})


def _trials(folder: Path, **more: object) -> Trials:
    return Trials(folder, CONFIG, more.pop("launcher", Fsdp2Launcher()), **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("cluster", "more", "why"),
    [
        ({"nodes": 2}, {}, "the cluster has 2 machines"),
        ({"gpus_per_node": 1000}, {}, "CPU cores"),
        ({}, {"launcher": None}, "there is no launcher for fsdp2"),
        ({}, {"steps": 4}, "leave too few"),
    ],
)
def test_what_this_machine_is_not_is_refused(
    cluster: dict[str, object], more: dict[str, object], why: str, tmp_path: Path
) -> None:
    with pytest.raises(PlanError, match=why) as caught:
        LocalExecutor().prepare(_job(**cluster), _trials(tmp_path, **more))
    assert caught.value.code == "FYC-L19"


def test_gpus_that_are_not_there_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fyc_plugins.executors.local._gpus", lambda: 1)
    h100 = Cluster.model_validate({"gpu": "h100-sxm", "nodes": 1, "gpus_per_node": 2, "network_gbs": 50})
    job = _job().model_copy(update={"cluster": h100})
    with pytest.raises(PlanError, match="2 a machine, this one has 1 GPUs that torch sees"):
        LocalExecutor().prepare(job, _trials(tmp_path))


def test_options_of_trials_need_an_executor_that_has_them(tmp_path: Path) -> None:
    done = run(*ARGUMENTS, "-o", str(tmp_path / "plan"), "--trial-steps", "6")
    assert done.returncode == 2
    assert "--executor model runs no training" in done.stderr
    assert not (tmp_path / "plan").exists()


def test_a_plan_keeps_its_executor(tmp_path: Path) -> None:
    place = tmp_path / "plan"
    assert run(*ARGUMENTS, "-o", str(place), "--trials", "1", "--reasoner", "rules").returncode == 0
    assert json.loads((place / "job.json").read_text(encoding="utf-8"))["tried_by"] == {"executor": "model"}
    data = json.loads((place / "job.json").read_text(encoding="utf-8"))
    (place / "job.json").write_text(json.dumps(data | {"tried_by": {"executor": "local"}}), encoding="utf-8")
    done = run("resume", str(place))
    assert "FYC-L19" in done.stderr, done.stderr  # `local` was asked: the cluster of 64 machines is not this one
    done = run(*ARGUMENTS, "-o", str(place), "--trials", "1", "--reasoner", "rules")
    assert "they differ in --executor" in done.stderr


@pytest.mark.parametrize(
    ("log", "code", "late", "status", "cause"),
    [
        (OOM, 1, False, "oom", "oom"),
        (OOM, 1, True, "oom", "oom"),
        ("", 1, False, "failed", "unknown"),
        ("", 0, True, "timeout", "timeout"),
        ("Traceback\nSystemExit: nothing", 1, False, "failed", "unknown"),
        ("", 0, False, "failed", "unknown"),
    ],
)
def test_logs_become_results(log: str, code: int, late: bool, status: str, cause: str, tmp_path: Path) -> None:
    (tmp_path / "train.log").write_text(log)
    found = judge(_job(), tmp_path / "train.log", code=code, late=late, on_cpu=True)
    assert (found.status, found.cause, found.simulated) == (status, cause, False)
    assert not log or log.splitlines()[-1][:40] in found.log


@pytest.mark.slow
def test_too_little_memory_really_runs_out_and_a_smaller_micro_batch_fits(tmp_path: Path) -> None:
    gpu = read_cluster(CPU / "two.yaml").gpu
    small = gpu.model_copy(update={"memory_gib": gpu.memory_gib.model_copy(update={"value": 0.75})})
    job = _job(sequence=512, batch=32, gpu=small)
    executor = LocalExecutor().prepare(job, _trials(tmp_path, steps=5))
    large = executor.run(job, Layout(dp=2, zero=3, micro_batch=16))
    assert (large.status, large.cause) == ("oom", "oom"), large.log
    assert "allocate" in large.log
    fits = executor.run(job, Layout(dp=2, zero=3, micro_batch=1))
    assert fits.status == "ok", fits.log
    assert fits.peak_memory_gib is not None
    assert 0.3 < fits.peak_memory_gib < 1.2
    assert sorted(path.name[:3] for path in (tmp_path / "trials").iterdir()) == ["001", "002"]


@pytest.mark.slow
def test_a_plan_is_interrupted_killed_and_gone_on_with(tmp_path: Path) -> None:
    place = tmp_path / "plan"
    fyc = [str(Path(sys.executable).parent / "fyc"), "plan"]
    begin = [*fyc, *PLAN, "--seq", "128", "--trials", "2", "-o", str(place)]
    resume = [*fyc, "resume", str(place), "--trials", "2", "--reasoner", "rules"]
    for command, how in ((begin, signal.SIGKILL), (resume, signal.SIGINT)):
        before = len(list(place.glob("trials/*")))
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as planner:
            _wait_for(lambda before=before: len(list(place.glob("trials/*/train.log"))) > before, planner)
            _wait_for(lambda planner=planner: len(descendants(planner.pid)) >= 4, planner)  # guard, torchrun, workers
            below = descendants(planner.pid)
            planner.send_signal(how)
            _, err = planner.communicate(timeout=30)
        _wait_for(lambda below=below: not any(Path(f"/proc/{process}").exists() for process in below))
        if how == signal.SIGINT:
            assert planner.returncode == 130, err
            assert f"fyc plan resume {place}" in err
    assert not replay(place / "pool.jsonl").of_type("trial")
    done = subprocess.run(resume, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    trials = replay(place / "pool.jsonl").of_type("trial")
    assert len(trials) == 2
    assert {(trial.payload.executor, trial.payload.simulated) for trial in trials} == {("local", False)}  # type: ignore[union-attr]
    assert (place / "launch.sh").exists()


def _wait_for(condition: object, planner: subprocess.Popen[str] | None = None, seconds: float = 90.0) -> None:
    end = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert planner is None or planner.poll() is None, planner.communicate()
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.1)


def test_the_processes_of_this_test_are_found() -> None:
    assert os.getpid() in descendants(os.getppid())

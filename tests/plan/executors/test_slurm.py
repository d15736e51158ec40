"""The executor `slurm` against a fake Slurm on PATH, which really runs the jobs in the background."""

import os
import sys
import time
from pathlib import Path

import pytest
from fyc_plugins.executors.slurm import JOB_FILE, SlurmExecutor

from fyc.errors import PlanError
from fyc.plan.executor import Trials
from fyc.plan.job import Job
from fyc.plan.launch import Program, Target
from fyc.plan.layout import Layout
from tests.plan.jobs import LLAMA_8B, make_job

#: State of a job is a file; sbatch runs the script in the background after the seconds that QUEUE says.
SLURM = {
    "sbatch": """
[ -z "${REFUSE:-}" ] || { echo "sbatch: error: $REFUSE" >&2; exit 1; }
id=$(( $(ls "$SLURM_FAKE" | grep -c state) + 101 ))
printf '%s\\n' "$@" > "$SLURM_FAKE/$id.arguments"
echo PENDING > "$SLURM_FAKE/$id.state"
setsid bash -c '
  sleep "${QUEUE:-0}"; echo $$ > "$SLURM_FAKE/$0.pid"; echo RUNNING > "$SLURM_FAKE/$0.state"
  export SLURM_JOB_ID=$0 SLURM_JOB_NODELIST=node
  if bash launch.sbatch > "slurm-$0.log" 2>&1; then end=COMPLETED; else end=FAILED; fi
  [ "$0" -gt "${LOSES:-0}" ] || end=PREEMPTED
  echo "${END:-$end}" > "$SLURM_FAKE/$0.state"' "$id" > /dev/null 2>&1 &
echo "$id;cluster"
""",
    "squeue": """
echo x >> "$SLURM_FAKE/asked"
[ "$(wc -l < "$SLURM_FAKE/asked")" -gt "${DEAF:-0}" ] || { echo "slurm_load_jobs error" >&2; exit 1; }
state=$(cat "$SLURM_FAKE/$4.state")
case "${FORGETS:-yes} $state" in *PENDING|*RUNNING|no*) echo "$state";; esac
""",
    "sacct": """
[ "$(wc -l < "$SLURM_FAKE/asked")" -gt "${DEAF:-0}" ] && [ -z "${NO_ACCOUNTING:-}" ] || exit 1
cat "$SLURM_FAKE/$5.state"
""",
    "scancel": """
echo "$1" >> "$SLURM_FAKE/cancelled"
[ -z "${KEEPS:-}" ] || exit 1
[ -f "$SLURM_FAKE/$1.pid" ] && kill -9 -- "-$(cat "$SLURM_FAKE/$1.pid")"
echo "CANCELLED by 1000" > "$SLURM_FAKE/$1.state"
""",
    "srun": 'shift; exec "$@"',
    "scontrol": "echo node",
    "torchrun": "exec bash ${PROGRAM:?}",
}
STEPS = "".join(
    f"step: {n}  loss: 5.0  memory: {20 + n / 10:.2f}GiB(30.00%)  tps: {rate}  tflops: 1.0\n"
    for n, rate in enumerate(("100", "500", "900", "1,000.00", "1,024.00", "2,000"), 1)
)
OOM = "[rank1]: torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB."


class Launcher:
    name = stack = "fsdp2"

    def refusal(self, target: Target) -> str | None:
        return None

    def program(self, target: Target) -> Program:
        return Program(command=("train.py",), install="nothing")


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    state = tmp_path / "slurm"
    state.mkdir()
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in SLURM.items():
        (programs / name).write_text(f"#!/usr/bin/env bash\n{text}")
        (programs / name).chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(programs / "python"))  # its torchrun is ours
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_FAKE", str(state))
    monkeypatch.setenv("PROGRAM", str(tmp_path / "program.sh"))
    return state


def _job() -> Job:
    return make_job(LLAMA_8B, backend="fsdp2", nodes=1, sequence=32, batch=16)


LAYOUT = Layout(dp=8, zero=3)


def _executor(folder: Path, program: str, timeout_s: float = 30.0, **more: float) -> SlurmExecutor:
    (folder / "program.sh").write_text(program)
    trials = Trials(folder, {}, Launcher(), steps=6, timeout_s=timeout_s)  # type: ignore[arg-type]
    return SlurmExecutor(poll_s=0.05, **more).prepare(_job(), trials)  # type: ignore[arg-type]


def test_a_job_is_measured_from_its_log(fake: Path, tmp_path: Path) -> None:
    result = _executor(tmp_path, f"cat <<'E'\n{STEPS}E\n").run(_job(), LAYOUT)
    assert (result.status, result.simulated) == ("ok", False)
    assert result.tokens_per_s_per_gpu == pytest.approx(1024.0)
    assert result.iteration_s == pytest.approx(16 * 32 / 1024 / 8)
    assert result.spread_s == pytest.approx((16 * 32 / 1000 - 16 * 32 / 2000) / 8 / 2)
    assert result.peak_memory_gib == 20.6
    arguments = (fake / "101.arguments").read_text().split()
    assert {"--parsable", "--no-requeue", "--time=3"} <= set(arguments)
    assert not list(tmp_path.glob(f"trials/*/{JOB_FILE}"))
    assert len(list(tmp_path.glob("trials/001-*/slurm-101.log"))) == 1


@pytest.mark.parametrize(
    ("program", "end", "status", "cause"),
    [
        (f"echo '{OOM}'; exit 1", "FAILED", "oom", "oom"),
        ("exit 1", "OUT_OF_MEMORY", "failed", "host_oom"),
        ("exit 1", "NODE_FAIL", "failed", "network"),
        ("exit 1", "PREEMPTED", "failed", "unknown"),
        ("exit 1", "CANCELLED by 0", "failed", "unknown"),
        ("exit 1", "TIMEOUT", "timeout", "timeout"),
        ("exit 0", "COMPLETED", "failed", "unknown"),
    ],
)
def test_states_become_results(
    program: str, end: str, status: str, cause: str, fake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("END", end)
    result = _executor(tmp_path, program).run(_job(), LAYOUT)
    assert (result.status, result.cause) == (status, cause), result.log
    if end != "COMPLETED":
        assert result.log.endswith(f"Slurm: {end.split(maxsplit=1)[0]}")


def test_a_job_that_was_preempted_is_handed_in_again(
    fake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOSES", "102")
    result = _executor(tmp_path, f"cat <<'E'\n{STEPS}E\n").run(_job(), LAYOUT)
    assert result.status == "ok"
    assert sorted(path.name for path in tmp_path.glob("trials/001-*/slurm-*.log")) == [
        "slurm-101.log", "slurm-102.log", "slurm-103.log"
    ]  # fmt: skip


def test_without_accounting_the_queue_says_how_a_job_ended(
    fake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_ACCOUNTING", "1")
    monkeypatch.setenv("FORGETS", "no")
    assert _executor(tmp_path, f"cat <<'E'\n{STEPS}E\n").run(_job(), LAYOUT).status == "ok"


def test_a_job_that_cannot_be_cancelled_is_not_forgotten(
    fake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KEEPS", "1")
    assert _executor(tmp_path, "sleep 3", timeout_s=0.2).run(_job(), LAYOUT).status == "timeout"
    assert [path.read_text() for path in tmp_path.glob(f"trials/*/{JOB_FILE}")] == ["101\n"]
    with pytest.raises(PlanError, match="job 101 of an earlier run cannot be cancelled"):
        _executor(tmp_path, "exit 0")


def test_the_queue_does_not_count_and_a_run_that_takes_too_long_is_cancelled(
    fake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUEUE", "0.6")
    start = time.monotonic()
    result = _executor(tmp_path, "sleep 60", timeout_s=0.4).run(_job(), LAYOUT)
    assert result.status == "timeout"
    assert time.monotonic() - start > 1.0
    assert (fake / "cancelled").read_text().split() == ["101"]


def test_a_queue_that_fails_for_a_while_is_asked_again(
    fake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEAF", "4")
    assert _executor(tmp_path, f"cat <<'E'\n{STEPS}E\n").run(_job(), LAYOUT).status == "ok"
    assert len((fake / "asked").read_text().split()) > 4


def test_a_queue_that_stays_silent_ends_the_plan(fake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEAF", "100000")
    with pytest.raises(PlanError, match="neither squeue nor sacct") as caught:
        _executor(tmp_path, "sleep 60", patience_s=0.3).run(_job(), LAYOUT)
    assert caught.value.code == "FYC-L19"
    assert (fake / "cancelled").read_text().split() == ["101"]


def test_an_interruption_cancels_the_job(fake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    executor = _executor(tmp_path, "sleep 60")

    def interrupt(number: str) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("fyc_plugins.executors.slurm.job_state", interrupt)
    with pytest.raises(KeyboardInterrupt):
        executor.run(_job(), LAYOUT)
    assert (fake / "cancelled").read_text().split() == ["101"]


def test_jobs_that_a_killed_planner_left_are_cancelled(fake: Path, tmp_path: Path) -> None:
    left = tmp_path / "trials" / "001-abc" / JOB_FILE
    left.parent.mkdir(parents=True)
    left.write_text("77\n")
    _executor(tmp_path, "exit 0")
    assert (fake / "cancelled").read_text().split() == ["77"]
    assert not left.exists()


def test_what_sbatch_refuses_is_an_error(fake: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFUSE", "Invalid partition name specified")
    with pytest.raises(PlanError, match="Invalid partition") as caught:
        _executor(tmp_path, "exit 0").run(_job(), LAYOUT)
    assert caught.value.code == "FYC-L19"


def test_without_slurm_it_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PlanError, match="there is no sbatch, squeue, sacct, scancel"):
        _executor(tmp_path, "exit 0")

"""Following a run: the events of the team's messages, through the coordinator and through the real command."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fyc_plugins.executors.simulate import ModelExecutor

from fyc.errors import EndpointError
from fyc.plan.follow import Follower
from fyc.plan.planning import Request, make_plan
from fyc.plan.pool import replay
from fyc.plan.reasoner import RuleReasoner
from fyc.ui.events import Event
from tests.plan.command import ARGUMENTS, run
from tests.plan.jobs import LLAMA_70B, make_job

JOB = make_job(LLAMA_70B, nodes=16, batch=256)
SLOW = """
import sys, time
from fyc_plugins.executors.simulate import ModelExecutor
run = ModelExecutor.run
def slow(*arguments):
    time.sleep(0.6)
    return run(*arguments)
ModelExecutor.run = slow
from fyc.cli.main import main
main(sys.argv[1:])
"""


class Down(RuleReasoner):
    name = "llm:down"

    def choose(self, *arguments: object) -> object:  # type: ignore[override]
        raise EndpointError("FYC-L20", "nothing listens", where="http://127.0.0.1:9/v1", why="refused")


def follow(folder: Path, *, trials: int, before: object = (), reasoner: object = None) -> list[Event]:
    events: list[Event] = []
    follower = Follower(events.append, trials, before)  # type: ignore[arg-type]
    executor = ModelExecutor(noise=0.05, seed=1)
    make_plan(Request(JOB, trials=trials), executor, reasoner or RuleReasoner(), folder, follower)  # type: ignore[arg-type]
    return events


def test_every_trial_is_told_with_the_best_so_far(tmp_path: Path) -> None:
    events = follow(tmp_path / "plan", trials=4)
    trials = [event.data for event in events if event.kind == "trial"]
    assert [trial["index"] for trial in trials] == list(range(len(trials)))
    assert len(trials) >= 3
    best = [trial["best_s"] for trial in trials]
    assert best == sorted(best, reverse=True)
    assert best[-1] == min(trial["iteration_s"] for trial in trials)
    assert trials[0]["gain"] == 0
    assert trials[-1]["gain"] == pytest.approx(trials[0]["iteration_s"] / best[-1] - 1)
    kinds = [event.kind for event in events]
    assert kinds[:2] == ["trying", "trial"]
    assert kinds.count("decision") >= len(trials) - 1
    json.dumps([event.data for event in events])


def test_going_on_counts_and_does_not_repeat_what_was(tmp_path: Path) -> None:
    follow(tmp_path / "plan", trials=2)
    before = replay(tmp_path / "plan" / "pool.jsonl")
    events = follow(tmp_path / "plan", trials=4, before=before)
    trials = [event.data for event in events if event.kind == "trial"]
    assert [trial["index"] for trial in trials] == [2, 3]
    assert trials[0]["gain"] is not None


def test_a_failed_call_is_a_warning(tmp_path: Path) -> None:
    events = follow(tmp_path / "plan", trials=2, reasoner=Down())
    warnings = [event.data for event in events if event.kind == "warning"]
    assert warnings
    assert warnings[0]["message"] == "llm:down failed (nothing listens: refused); rules decide"


def test_json_is_one_document_and_progress_json_one_event_a_line(tmp_path: Path) -> None:
    done = run(*ARGUMENTS, "-o", str(tmp_path / "plan"), "--json", "--progress", "json")
    assert json.loads(done.stdout)["trials"] == 2
    kinds = [json.loads(line)["kind"] for line in done.stderr.splitlines()]
    assert kinds[0] == "note"
    assert kinds[-1] == "done"
    assert {"plan", "trying", "trial", "decision"} <= set(kinds)


@pytest.mark.slow
def test_ctrl_c_gives_the_terminal_back_and_says_how_to_go_on(tmp_path: Path) -> None:
    folder = tmp_path / "a plan"
    controller, terminal = pty.openpty()
    command = [sys.executable, "-c", SLOW, "plan", *ARGUMENTS, "-o", str(folder)]
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OPENAI_", "FYC_PLAN")) and k != "CI"}
    process = subprocess.Popen(command, stdout=terminal, stderr=terminal, env=environment | {"TERM": "xterm"})
    os.close(terminal)
    shown = _read(controller, until=b"1 of 20", seconds=60)
    process.send_signal(signal.SIGINT)
    shown += _read(controller, until=b"resume", seconds=30)
    assert process.wait(timeout=30) == 130
    shown += _read(controller, until=b"never", seconds=1)
    os.close(controller)
    text = shown.decode()
    assert "FYC-I01" in text
    assert "fyc plan resume" in text
    assert text.rfind("\x1b[?25h") > text.rfind("\x1b[?25l") >= 0
    assert "Traceback" not in text
    assert len(replay(folder / "pool.jsonl").of_type("trial")) >= 1
    done = run("resume", str(folder), "--json")
    assert done.returncode == 0, done.stderr
    assert (folder / "report.md").is_file()


def _read(descriptor: int, *, until: bytes, seconds: float) -> bytes:
    """What comes from a terminal until some text came, it is closed, or the time is up."""
    found, end = b"", time.monotonic() + seconds
    while until not in found and time.monotonic() < end:
        if select.select([descriptor], [], [], 0.1)[0]:
            try:
                data = os.read(descriptor, 65536)
            except OSError:
                break
            if not data:
                break
            found += data
    return found

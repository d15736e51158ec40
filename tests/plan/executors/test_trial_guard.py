"""Processes of a trial: limits, and that none is left, however the trial or the planner ends."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fyc_plugins.executors.guard import descendants
from fyc_plugins.executors.local import run_guarded

#: Leaves a child, and one in a session of its own, as torchrun's workers are.
LEAVES = """
echo $BASHPID > "$1/ordinary_shell"
sleep 300 & echo $! > "$1/ordinary"
setsid bash -c 'echo $$ > "$0/detached"; exec sleep 300' "$1" &
while [ ! -s "$1/detached" ]; do sleep 0.01; done
touch "$1/ready"
"""


def _script(folder: Path, text: str) -> list[str]:
    path = folder / "launch.sh"
    path.write_text(f"#!/usr/bin/env bash\n{text}")
    return ["bash", str(path), str(folder)]


def _is_alive(path: Path) -> bool:
    stat = Path(f"/proc/{path.read_text().strip()}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _until(condition: object, seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():  # type: ignore[operator]
            return True
        time.sleep(0.02)
    return False


def test_output_and_exit_code_come_back(tmp_path: Path) -> None:
    command = _script(tmp_path, "echo out; echo $WORD >&2; exit 3\n")
    log = tmp_path / "train.log"
    assert run_guarded(command, log, {**os.environ, "WORD": "err"}, 10, 0) == 3
    assert log.read_text() == "out\nerr\n"


@pytest.mark.parametrize(("more", "code"), [("exit 0", 0), ("wait", None)], ids=["it ends", "it takes too long"])
def test_no_process_is_left(more: str, code: int | None, tmp_path: Path) -> None:
    found = run_guarded(_script(tmp_path, LEAVES + more), tmp_path / "train.log", dict(os.environ), 1.5, 0)
    assert found == code
    assert (tmp_path / "ready").exists()
    assert not _is_alive(tmp_path / "ordinary")
    assert not _is_alive(tmp_path / "detached")


PLANNER = """
import os, sys
from pathlib import Path
from fyc_plugins.executors.local import run_guarded
folder = Path(sys.argv[1])
run_guarded(["bash", str(folder / "launch.sh"), str(folder)], folder / "train.log", dict(os.environ), 60, 0)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda how: how.name)
def test_no_process_outlives_the_planner(how: signal.Signals, tmp_path: Path) -> None:
    _script(tmp_path, LEAVES + "wait")
    with subprocess.Popen([sys.executable, "-c", PLANNER, str(tmp_path)], stderr=subprocess.DEVNULL) as planner:
        assert _until((tmp_path / "ready").exists)
        assert _is_alive(tmp_path / "detached")
        assert len(descendants(planner.pid)) >= 4
        planner.send_signal(how)
        planner.wait(10)
    assert _until(lambda: not _is_alive(tmp_path / "ordinary"))
    assert _until(lambda: not _is_alive(tmp_path / "detached"))
    assert _until(lambda: not _is_alive(tmp_path / "ordinary_shell"))


TAKE = "import sys; block = bytearray({mib} << 20); print('took', len(block) >> 20)"


@pytest.mark.parametrize(("mib", "fits"), [(40, True), (300, False)])
def test_the_limit_of_memory_holds(mib: int, fits: bool, tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    code = run_guarded([sys.executable, "-S", "-c", TAKE.format(mib=mib)], log, dict(os.environ), 10, 200 << 20)
    assert (code == 0) == fits
    assert (f"took {mib}" in log.read_text()) == fits
    assert ("MemoryError" in log.read_text()) != fits

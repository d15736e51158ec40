"""`fyc asl run --engine ray` on a real cluster of one machine: bad files, and a worker that is killed."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import pytest

from fyc.asl.face.detector import Image
from fyc.asl.video.writer import write_video

pytestmark = [
    pytest.mark.assets,
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("ray") is None,
        reason="Ray is NOT INSTALLED: --engine ray is not tested; pip install 'fyc[ray]'",
    ),
]

#: A tracker that kills its process on pictures 362 wide, the first time only, and always on those 364 wide.
PLUGIN = """
    import os, signal
    import fyc

    class Saboteur:
        name, summary = "saboteur", "Does harm."
        def __init__(self, bundle): pass
        def start(self, image, points): pass
        def track(self, image, points):
            width, once = image.shape[1], os.environ["ONCE"]
            if width == 364 or (width == 362 and os.path.exists(once)):
                if width == 362: os.unlink(once)
                os.kill(os.getpid(), signal.SIGKILL)
            return None

    @fyc.hookimpl
    def fyc_register_trackers(register): register(Saboteur)
"""


def film(path: Path, frames: Sequence[Image], width: int) -> None:
    with write_video(path, (width, 288), 25.0) as writer:
        for frame in frames:
            writer.add(cv2.resize(frame, (width, 288)))


@pytest.fixture
def cluster(install: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cluster of this machine with two CPUs, as `ray start --head` makes it; the file that is gone after a crash."""
    install("saboteur", {"saboteur": PLUGIN})
    once = tmp_path / "once"
    once.touch()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    for name, value in {
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "ONCE": str(once), "RAY_AUTH_MODE": "disabled",
        "RAY_ADDRESS": f"127.0.0.1:{port}", "RAY_USAGE_STATS_ENABLED": "0",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    folder = tempfile.mkdtemp(prefix="ray")  # short: a socket's path has 107 bytes at most
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    words = ["start", "--head", "--block", f"--port={port}", "--num-cpus=2", f"--temp-dir={folder}"]
    head = subprocess.Popen(
        [sys.executable, "-m", "ray.scripts.scripts", *words, "--include-dashboard=false"], env=environment,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        wait_for(port, head)
        yield once
    finally:
        head.terminate()
        try:
            head.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(head.pid, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)


def wait_for(port: int, head: subprocess.Popen[str]) -> None:
    for _ in range(120):
        if head.poll() is not None:
            pytest.fail(f"ray start failed: {head.communicate()[0]}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.5)
    pytest.fail("the cluster does not come up")


def run(*words: object) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "fyc", "asl", "run", "--no-overlay", "--engine", "ray", "--json", *map(str, words)]
    return subprocess.run(line, capture_output=True, text=True, timeout=300, check=False)


def test_a_cluster_runs_them_and_tries_again_after_a_crash(
    cluster: Path, talking_frames: list[Image], landmarker_file: Path, tmp_path: Path
) -> None:
    corpus, out = tmp_path / "in", tmp_path / "out"
    corpus.mkdir()
    film(corpus / "a.mp4", talking_frames, 360)
    film(corpus / "b.mp4", talking_frames, 362)
    film(corpus / "c.mp4", talking_frames, 364)
    (corpus / "d.mp4").write_bytes(b"")
    done = run(corpus, "-o", out)
    assert not cluster.exists()  # b's worker was killed once
    entries = json.loads(done.stdout)["videos"]
    assert [(e["error"] or {"code": e["status"]})["code"] for e in entries] == ["done", "done", "FYC-S04", "FYC-V02"]
    assert done.returncode == 6
    assert sorted(path.name for path in out.glob("*.eaf")) == ["a.eaf", "b.eaf"]
    (corpus / "c.mp4").unlink()
    (corpus / "d.mp4").unlink()
    again = json.loads(run(corpus, "-o", out).stdout)
    assert [entry["status"] for entry in again["videos"]] == ["skipped", "skipped"]


def test_a_cluster_that_is_not_there(talking_clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    done = run(talking_clip, tmp_path, "-o", tmp_path / "out")
    assert json.loads(done.stdout)["error"]["code"] == "FYC-V02"  # before a cluster is asked
    other = shutil.copy(talking_clip, tmp_path / "b.mp4")
    done = run(talking_clip, other, "-o", tmp_path / "out")
    assert json.loads(done.stdout)["error"]["code"] == "FYC-S05", done.stderr
    assert done.returncode == 6

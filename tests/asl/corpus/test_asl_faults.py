"""`fyc asl run` as a process of its own: on bad files, killed, interrupted, twice at once, on a full disk."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from asl_clips import make_sound, make_video, regular

from fyc.asl.elan.read import read_eaf
from fyc.asl.elan.seal import is_unbroken
from fyc.asl.face.detector import Image
from fyc.asl.video.writer import write_video

pytestmark = [pytest.mark.assets, pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")]

#: A tracker that does to its process what the width of the picture says; it tracks nothing.
PLUGIN = """
    import os, signal, time
    import fyc

    class Saboteur:
        name, summary = "saboteur", "Does harm."
        def __init__(self, bundle): pass
        def start(self, image, points): pass
        def track(self, image, points):
            width = image.shape[1]
            if width == 362: os.kill(os.getpid(), signal.SIGKILL)
            if width == 364: os._exit(3)
            if width == 366: raise RuntimeError("sabotage")
            while width == 368 and os.path.exists(os.environ["HOLD"]):
                open(os.environ["HOLD"] + ".reached", "w").close()
                time.sleep(0.05)
            return None

    @fyc.hookimpl
    def fyc_register_trackers(register): register(Saboteur)
"""
KILLED, LEFT, RAISES, HELD = 362, 364, 366, 368
Run = Callable[..., subprocess.CompletedProcess[str]]


def film(path: Path, frames: Sequence[Image], width: int | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    height = frames[0].shape[0]
    size = (width or frames[0].shape[1], height)
    with write_video(path, size, 25.0) as writer:
        for frame in frames:
            writer.add(cv2.resize(frame, size))
    return path


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "fyc", "asl", "run", "--no-overlay", *map(str, words)]


def run(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*words), capture_output=True, text=True, timeout=300, check=False)


def statuses(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """Status, or the error's code, of each video."""
    entries = json.loads(done.stdout)["videos"]
    return {Path(e["video"]).name: e["error"]["code"] if e["error"] else e["status"] for e in entries}


def hidden(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.name.startswith(".")]


@pytest.fixture
def hold(install: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Installs the saboteur; videos of the width HELD go on when this file is gone."""
    install("saboteur", {"saboteur": PLUGIN})
    path = tmp_path / "hold"
    path.touch()
    monkeypatch.setenv("HOLD", str(path))
    return path


@pytest.fixture
def start(talking_frames: list[Image]) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a run in a session of its own; it is gone after the test."""
    started: list[subprocess.Popen[str]] = []

    def begin(*words: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            command(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        started.append(process)
        return process

    yield begin
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def until(happens: Callable[[], Any], seconds: float = 90.0) -> None:
    end = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def test_bad_files_cost_only_themselves(talking_clip: Path, tmp_path: Path) -> None:
    corpus, out = tmp_path / "ein Korpus ñ", tmp_path / "出力"
    corpus.mkdir()
    shutil.copy(talking_clip, corpus / "good 手.mp4")
    (corpus / "cut.mp4").write_bytes(talking_clip.read_bytes()[:2000])
    (corpus / "empty.mp4").write_bytes(b"")
    (corpus / "text.mp4").write_text("not a video")
    (corpus / "notes.txt").write_text("not even called one")
    make_sound(corpus / "sound.mp4")
    film(corpus / "deep" / "black.mp4", [np.zeros((120, 160, 3), np.uint8)] * 5)
    done = run(corpus, "-o", out, "--json", "--workers", 2)
    assert statuses(done) == {
        "cut.mp4": "FYC-V04", "empty.mp4": "FYC-V02", "good 手.mp4": "done", "sound.mp4": "FYC-V03",
        "text.mp4": "FYC-V02", "black.mp4": "FYC-V06",
    }  # fmt: skip
    assert done.returncode == 2
    assert "[FYC-V04]" in done.stderr
    assert {path.suffix for path in out.iterdir() if path.is_file()} == {
        ".eaf", ".csv", ".vtt", ".pfsx", ".xml", ".html", ".safetensors"
    }  # fmt: skip
    assert not hidden(out)
    again = run(corpus, "-o", out)
    assert "skipped" in again.stdout
    assert again.returncode == 2


@pytest.mark.usefixtures("hold")
def test_a_worker_that_dies_costs_only_its_video(talking_frames: list[Image], tmp_path: Path) -> None:
    corpus, out = tmp_path / "in", tmp_path / "out"
    for name, width in (("a", KILLED), ("b", LEFT), ("c", RAISES), ("d", 360)):
        film(corpus / f"{name}.mp4", talking_frames, width)
    done = run(corpus, "-o", out, "--json", "--workers", 2)
    entries = json.loads(done.stdout)["videos"]
    assert [(e["error"] or {"code": e["status"]})["code"] for e in entries] == ["FYC-S04", "FYC-S04", "FYC-X99", "done"]
    assert "SIGKILL" in entries[0]["error"]["why"]
    assert "exit code 3" in entries[1]["error"]["why"]
    assert "sabotage" in entries[2]["error"]["what"]
    assert done.returncode == 6
    assert [path.name for path in out.glob("*.eaf")] == ["d.eaf"]


def test_killed_in_the_middle_then_finished(
    hold: Path, talking_frames: list[Image], tmp_path: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    corpus, out = tmp_path / "in", tmp_path / "out"
    film(corpus / "a.mp4", talking_frames)
    film(corpus / "b.mp4", talking_frames, HELD)
    process = start(corpus, "-o", out, "--workers", 1)
    until(hold.with_name("hold.reached").exists)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert [path.name for path in out.glob("*.eaf")] == ["a.eaf"]
    hold.unlink()
    first = (out / "a.eaf").read_bytes()
    done = run(corpus, "-o", out, "--json")
    assert statuses(done) == {"a.mp4": "skipped", "b.mp4": "done"}
    assert (out / "a.eaf").read_bytes() == first
    read_eaf(out / "b.eaf")
    assert not hidden(out)


def test_workers_end_with_a_parent_that_is_killed(
    hold: Path, talking_frames: list[Image], tmp_path: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    out = tmp_path / "out"
    film(tmp_path / "in" / "a.mp4", talking_frames, HELD)
    process = start(tmp_path / "in", "-o", out)
    until(hold.with_name("hold.reached").exists)
    process.kill()
    until(lambda: not hidden(out), 20)
    assert not list(out.iterdir())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(
    number: signal.Signals,
    hold: Path,
    talking_frames: list[Image],
    tmp_path: Path,
    start: Callable[..., subprocess.Popen[str]],
) -> None:
    corpus, out = tmp_path / "in", tmp_path / "out"
    film(corpus / "a.mp4", talking_frames)
    film(corpus / "b.mp4", talking_frames, HELD)
    process = start(corpus, "-o", out, "--workers", 1)
    until(hold.with_name("hold.reached").exists)
    if number == signal.SIGINT:
        os.killpg(process.pid, number)  # as a terminal does
    else:
        process.terminate()
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "1 of 2 videos are done" in said
    assert "repeat the command" in said
    assert "Traceback" not in said
    assert not hidden(out)
    assert [path.name for path in out.glob("*.eaf")] == ["a.eaf"]


def test_one_video_interrupted(
    hold: Path, talking_frames: list[Image], tmp_path: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    out = tmp_path / "out"
    process = start(film(tmp_path / "a.mp4", talking_frames, HELD), "-o", out)
    until(hold.with_name("hold.reached").exists)
    process.terminate()
    _, said = process.communicate(timeout=30)
    assert process.returncode == 130, said
    assert not list(out.iterdir())


def test_two_runs_at_once_share_the_work(
    hold: Path, talking_frames: list[Image], tmp_path: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    corpus, out = tmp_path / "in", tmp_path / "out"
    film(corpus / "a.mp4", talking_frames, HELD)
    film(corpus / "b.mp4", talking_frames)
    first = start(corpus, "-o", out, "--json", "--workers", 1)
    until(hold.with_name("hold.reached").exists)
    second = run(corpus, "-o", out, "--json", "--workers", 1)
    assert second.returncode == 0
    assert statuses(second) == {"a.mp4": "FYC-S03", "b.mp4": "done"}
    hold.unlink()
    said, _ = first.communicate(timeout=120)
    assert first.returncode == 0
    assert [entry["status"] for entry in json.loads(said)["videos"]] == ["done", "skipped"]
    assert all(is_unbroken((out / f"{name}.eaf").read_bytes()) for name in "ab")
    assert not hidden(out)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 300 kB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(words, capture_output=True, check=False).returncode:
        pytest.skip("NOT ALLOWED to mount a small disk here: the full disk is not tested")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize("free", [0, 60, 120])
def test_a_full_disk(free: int, talking_clip: Path, tmp_path: Path, small_disk: Path) -> None:
    corpus = tmp_path / "in"
    corpus.mkdir()
    shutil.copy(talking_clip, corpus / "a.mp4")
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes((296 - free) * 1024))
    done = run(corpus, "-o", small_disk / "out", "--json")
    assert (statuses(done), done.returncode) == ({"a.mp4": "FYC-S01"}, 6)
    assert "Traceback" not in done.stderr
    assert not hidden(small_disk)
    assert not list(small_disk.glob("out/*.eaf"))
    ballast.unlink()
    done = run(corpus, "-o", small_disk / "out", "--json")
    assert statuses(done) == {"a.mp4": "done"}


def test_an_output_folder_that_cannot_be_written(talking_clip: Path, tmp_path: Path, small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    shutil.copy(talking_clip, tmp_path / "a.mp4")
    shutil.copy(talking_clip, tmp_path / "b.mp4")
    done = run(tmp_path / "a.mp4", tmp_path / "b.mp4", "-o", small_disk, "--json")
    assert statuses(done) == {"a.mp4": "FYC-E05", "b.mp4": "FYC-E05"}
    done = run(tmp_path / "a.mp4", "-o", small_disk / "deeper", "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["code"] == "FYC-E05"


def test_sizes_and_lengths(talking_frames: list[Image], tmp_path: Path) -> None:
    corpus, out = tmp_path / "in", tmp_path / "out"
    corpus.mkdir()
    sizes = {"small": (160, 120), "large": (3840, 2160), "odd": (361, 287)}
    for name, size in sizes.items():
        frames = [cv2.resize(frame, size) for frame in talking_frames[:4]]
        film(corpus / f"{name}.mp4", frames)
    for count in (1, 2, 3):
        film(corpus / f"frames{count}.mp4", talking_frames[:count])
    film(corpus / "late.mp4", [*([np.zeros_like(talking_frames[0])] * 6), *talking_frames])
    done = run(corpus, "-o", out, "--json", "--workers", 2)
    assert statuses(done) == {
        "frames1.mp4": "FYC-V06", "frames2.mp4": "FYC-V06", "frames3.mp4": "done",
        "large.mp4": "done", "late.mp4": "done", "odd.mp4": "done", "small.mp4": "done",
    }  # fmt: skip
    for entry in json.loads(done.stdout)["videos"]:
        if entry["status"] == "done":
            rows = Path(entry["summary"]["files"]["csv"]).read_text(encoding="utf-8").splitlines()
            assert len(rows) == entry["summary"]["frames"] + 1
            with av.open(entry["video"]) as container:
                assert sum(1 for _ in container.decode(video=0)) == len(rows) - 1


def test_a_header_with_a_wrong_rate(talking_frames: list[Image], tmp_path: Path) -> None:
    video = make_video(
        tmp_path / "wrong.avi", regular(10, 1000), size=(360, 288), codec="mjpeg", rate=1000,
        draw=lambda index, size: talking_frames[index],
    )  # fmt: skip
    done = run(video, "-o", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["frames"] == len(talking_frames)

"""`fyc asl run` on real video, through the command line: every file, and what goes wrong."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from urllib.parse import unquote

import asl_report
import av
import numpy as np
import pympi
import pytest
from safetensors.numpy import load_file
from typer.testing import CliRunner

from fyc.asl.face.detector import Image
from fyc.asl.video.writer import write_video
from fyc.cli.main import app
from fyc.errors import NoFaceError, ResourceError

pytestmark = pytest.mark.assets

FRAMES = 40
BLACK = range(20, 26)


def film(path: Path, frames: Sequence[Image]) -> Path:
    height, width = frames[0].shape[:2]
    with write_video(path, (width, height), 25.0) as writer:
        for frame in frames:
            writer.add(frame)
    return path


@pytest.fixture(scope="module")
def face_frames(talking: Path) -> list[Image]:
    """Frames of a real man, with a short blackout."""
    with av.open(str(talking)) as container:
        frames = [
            frame.to_ndarray(format="rgb24") for frame, _ in zip(container.decode(video=0), range(FRAMES), strict=False)
        ]
    return [np.zeros_like(frame) if number in BLACK else frame for number, frame in enumerate(frames)]


@pytest.fixture(scope="module")
def clip(face_frames: list[Image], landmarker_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return film(tmp_path_factory.mktemp("clips") / "signing ñ 手.mp4", face_frames)


@pytest.fixture(scope="module")
def out(clip: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results") / "new" / "folder"
    done = CliRunner().invoke(app, ["asl", "run", str(clip), "-o", str(folder), "--json"], catch_exceptions=False)
    assert done.exit_code == 0
    (folder / "summary.json").write_text(done.stdout, encoding="utf-8")
    return folder


def test_all_files_and_nothing_else(out: Path, clip: Path) -> None:
    endings = {".eaf", ".csv", ".vtt", ".pfsx", "_tsconf.xml", ".overlay.mp4", ".report.html", ".track.safetensors"}
    assert {path.name for path in out.iterdir()} == {f"{clip.stem}{ending}" for ending in endings} | {"summary.json"}
    summary = json.loads((out / "summary.json").read_text(encoding="utf-8"))
    assert summary["frames"] == FRAMES
    assert summary["most_faces"] == 1
    assert all(Path(path).is_file() for path in summary["files"].values())


def test_a_row_for_every_frame_and_no_face_in_the_dark(out: Path, clip: Path) -> None:
    with (out / f"{clip.stem}.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [int(row["frame"]) for row in rows] == list(range(FRAMES))
    assert np.allclose([float(row["time_s"]) for row in rows], np.arange(FRAMES) / 25, atol=1e-3)
    seen = [row for number, row in enumerate(rows) if number not in range(BLACK.start, BLACK.stop + 6)]
    assert all(row["face"] == "1" and row["yaw_deg"] and row["brow_left"] for row in seen)
    dark = [row for number, row in enumerate(rows) if number in BLACK]
    assert all(row["face"] == "0" or float(row["confidence"]) < 0.5 for row in dark)
    assert all(row["reason"] for row in dark)
    after = rows[BLACK.stop + 5 :]
    assert all(row["face"] == "1" for row in after)


def test_the_document_and_the_track_agree_with_the_table(out: Path, clip: Path) -> None:
    read = pympi.Elan.Eaf(str(out / f"{clip.stem}.eaf"))
    assert {"brows", "eyes", "head yaw", "head pitch", "head roll", "head lean", "track"} == set(read.get_tier_names())
    spans = read.get_annotation_data_for_tier("track")
    assert any(start <= 1000 * BLACK.start / 25 + 40 and end >= 1000 * (BLACK.stop - 1) / 25 for start, end, _ in spans)
    track = load_file(out / f"{clip.stem}.track.safetensors")
    assert track["landmarks"].shape == (FRAMES, 468, 2)
    assert np.isfinite(track["landmarks"][: BLACK.start]).all()
    assert track["rotation"].shape == (FRAMES, 3, 3)


def test_the_overlay_shows_every_frame(out: Path, clip: Path, face_frames: list[Image]) -> None:
    with av.open(str(out / f"{clip.stem}.overlay.mp4")) as container:
        frames = [frame.to_ndarray(format="rgb24").astype(int) for frame in container.decode(video=0)]
    assert len(frames) == FRAMES
    face = np.s_[60:250, 100:300]
    green = (frames[5][face] - face_frames[5][face])[..., 1]
    assert (green > 40).sum() > 200  # landmarks are drawn


def test_the_report_page_agrees_with_the_table(out: Path, clip: Path) -> None:
    data = asl_report.data_of(out / f"{clip.stem}.report.html")
    with (out / f"{clip.stem}.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert np.allclose(asl_report.times_of(data), [float(row["time_s"]) for row in rows], atol=2e-4)
    for name, values in asl_report.curves_of(data).items():
        wanted = [float(row[name] or "nan") for row in rows]
        assert np.allclose(values, wanted, atol=0.011 if name.endswith("_deg") else 0.0011, equal_nan=True)
    assert unquote(data["sources"][0]["url"]) == f"{clip.stem}.overlay.mp4"
    assert data["pictures"]["frames"] == list(range(0, FRAMES, 5))


def run(*words: object) -> object:
    return CliRunner().invoke(app, ["asl", "run", *map(str, words)], catch_exceptions=True)


def test_the_same_seed_gives_the_same_results(out: Path, clip: Path, tmp_path: Path) -> None:
    run(clip, "-o", tmp_path, "--no-overlay", "--no-report")
    assert not [*tmp_path.glob("*.mp4"), *tmp_path.glob("*.html")]
    for ending in (".csv", ".vtt", ".track.safetensors"):
        name = f"{clip.stem}{ending}"
        assert (tmp_path / name).read_bytes() == (out / name).read_bytes()


@pytest.fixture
def fails(tmp_path: Path) -> Callable[..., NoFaceError]:
    """Run a video that has no such face; nothing may be left."""

    def failed(frames: Sequence[Image], *words: str) -> NoFaceError:
        done = run(film(tmp_path / "a.mp4", frames), "-o", tmp_path / "out", *words)
        assert list((tmp_path / "out").iterdir()) == []
        assert isinstance(done.exception, NoFaceError)
        return done.exception

    return failed


def test_a_video_without_a_face(fails: Callable[..., NoFaceError]) -> None:
    error = fails([np.full((120, 160, 3), 90, np.uint8)] * 6)
    assert (error.code, error.exit_code) == ("FYC-V06", 7)
    assert error.where.endswith("a.mp4")


def test_a_face_that_is_not_there(face_frames: list[Image], fails: Callable[..., NoFaceError]) -> None:
    error = fails(face_frames[:5], "--face", "2")
    assert "number 2 from the left" in error.why
    assert "--face" in error.next


def test_two_faces_and_which_is_followed(face_frames: list[Image], tmp_path: Path) -> None:
    both = [np.hstack([frame, frame[:, ::-1]]) for frame in face_frames[:8]]
    clip = film(tmp_path / "two.mp4", both)
    for face, left in (("1", True), ("2", False)):
        folder = tmp_path / face
        done = run(clip, "-o", folder, "--face", face, "--no-overlay", "--json")
        assert json.loads(done.stdout)["most_faces"] == 2
        places = load_file(folder / "two.track.safetensors")["landmarks"][:, :, 0].mean(axis=1)
        assert ((places < 360) == left).all()


def test_two_frames_are_too_few(face_frames: list[Image], fails: Callable[..., NoFaceError]) -> None:
    error = fails(face_frames[:2])
    assert "too little" in error.what
    assert "in 2 of 2 frames" in error.why
    assert "--signer" in error.next


def test_what_is_not_written_again_is_removed(face_frames: list[Image], tmp_path: Path) -> None:
    clip, out = film(tmp_path / "a.mp4", face_frames[:5]), tmp_path / "out"
    run(clip, "-o", out)
    assert {"a.overlay.mp4", "a.report.html"} <= {path.name for path in out.iterdir()}
    run(clip, "-o", out, "--no-overlay", "--no-report")  # the same results: they still belong to them
    assert (out / "a.report.html").exists()
    run(clip, "-o", out, "--no-overlay", "--no-report", "--overwrite", "--seed", "1")
    assert not [*out.glob("*.mp4"), *out.glob("*.html")]


def test_an_overwrite_that_fails_at_the_overlay_leaves_everything_as_it_was(
    face_frames: list[Image], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise ResourceError("FYC-S01", "the disk is full")

    clip, out = film(tmp_path / "a.mp4", face_frames[:5]), tmp_path / "out"
    run(clip, "-o", out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    monkeypatch.setattr("fyc.asl.run.write_overlay", full)
    assert isinstance(run(clip, "-o", out, "--overwrite", "--seed", "1").exception, ResourceError)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before

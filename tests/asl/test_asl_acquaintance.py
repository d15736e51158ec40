"""`fyc asl signer`, and `fyc asl run --signer`: a signer from several clips of a real man, through the command line."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file
from typer.testing import CliRunner

from fyc.asl.acquaintance import get_to_know
from fyc.asl.face.bundle import Bundle
from fyc.asl.face.camera import Camera
from fyc.asl.samples import FaceReader
from fyc.asl.signer import load_signer
from fyc.asl.video.writer import write_video
from fyc.cli.main import app
from fyc.errors import FycError, ModelError

pytestmark = pytest.mark.assets

FRAMES = 24


@pytest.fixture(scope="module")
def clips(talking: Path, landmarker_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two clips of one man, and a black one, in a folder."""
    folder = tmp_path_factory.mktemp("anna")
    with av.open(str(talking)) as container:
        images = [
            frame.to_ndarray(format="rgb24")
            for frame, _ in zip(container.decode(video=0), range(2 * FRAMES), strict=False)
        ]
    parts = {"one.mp4": images[:FRAMES], "two.mp4": images[FRAMES:], "black.mp4": [np.zeros_like(images[0])] * 5}
    for name, frames in parts.items():
        height, width = frames[0].shape[:2]
        with write_video(folder / name, (width, height), 25.0) as writer:
            for frame in frames:
                writer.add(frame)
    return folder


@pytest.fixture(scope="module")
def known(clips: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("signers") / "anna.safetensors"
    done = CliRunner().invoke(app, ["asl", "signer", str(clips), "-o", str(target), "--json"], catch_exceptions=False)
    assert done.exit_code == 0
    faces = {Path(path).name: number for path, number in json.loads(done.stdout)["faces"].items()}
    assert faces == {"black.mp4": 0, "one.mp4": FRAMES, "two.mp4": FRAMES}
    return target


def run(clips: Path, out: Path, *options: str) -> tuple[int, dict[str, object]]:
    words = ["asl", "run", str(clips / "one.mp4"), "-o", str(out), "--no-overlay", "--no-report", "--json", *options]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    return done.exit_code, json.loads(done.stdout) if done.exit_code == 0 else {}


def test_what_is_read_measures_what_was_written(clips: Path, known: Path, face_bundle: Bundle, tmp_path: Path) -> None:
    learned = get_to_know([clips / "one.mp4", clips / "two.mp4"], face_bundle).signer
    learned.save(tmp_path / "again.safetensors")
    with av.open(str(clips / "two.mp4")) as container:
        image = next(container.decode(video=0)).to_ndarray(format="rgb24")
    camera = Camera.for_picture(image.shape[1], image.shape[0])
    sample = FaceReader(face_bundle).read(image, camera)
    assert sample is not None
    values = []
    for signer in (learned, load_signer(tmp_path / "again.safetensors", face_bundle.mesh)):
        pose = signer.pose(sample.points, sample.depths, camera)
        values.append([*pose.angles, *signer.measure(image, sample.points, pose, camera).values])
    assert np.isfinite(values).all()
    assert values[0] == values[1]


def test_a_run_uses_it_and_says_so(clips: Path, known: Path, tmp_path: Path) -> None:
    code, found = run(clips, tmp_path, "--signer", str(known))
    assert (code, found["frames"]) == (0, FRAMES)
    assert "signer " in (tmp_path / "one.eaf").read_text(encoding="utf-8")
    table = (tmp_path / "one.csv").read_bytes()
    assert run(clips, tmp_path, "--signer", str(known))[1]["status"] == "skipped"
    with pytest.raises(FycError) as caught:
        run(clips, tmp_path)
    assert caught.value.code == "FYC-E07"
    assert run(clips, tmp_path, "--overwrite")[0] == 0
    assert (tmp_path / "one.csv").read_bytes() != table


def test_nobody_to_know(clips: Path, tmp_path: Path) -> None:
    words = ["asl", "signer", str(clips / "black.mp4"), "-o", str(tmp_path / "nobody.safetensors")]
    with pytest.raises(FycError) as caught:
        CliRunner().invoke(app, words, catch_exceptions=False)
    assert caught.value.code == "FYC-V06"
    assert not list(tmp_path.iterdir())


def test_a_known_signer_who_is_not_there(clips: Path, known: Path, tmp_path: Path) -> None:
    words = ["asl", "run", str(clips / "black.mp4"), "-o", str(tmp_path), "--signer", str(known)]
    with pytest.raises(FycError) as caught:
        CliRunner().invoke(app, words, catch_exceptions=False)
    assert caught.value.code == "FYC-V06"
    assert "none of 5 frames" in caught.value.why
    assert not list(tmp_path.iterdir())


def test_where_a_signer_is_written(clips: Path, tmp_path: Path) -> None:
    video = tmp_path / "one.mp4"
    video.write_bytes((clips / "one.mp4").read_bytes())
    words = ["asl", "signer", str(clips / "two.mp4"), "-o"]
    with pytest.raises(FycError) as caught:
        CliRunner().invoke(app, [*words, str(video)], catch_exceptions=False)
    assert caught.value.code == "FYC-R09"
    assert video.read_bytes() == (clips / "one.mp4").read_bytes()
    target = tmp_path / "new" / "anna.safetensors"
    for _ in "once", "again":
        assert CliRunner().invoke(app, [*words, str(target)], catch_exceptions=False).exit_code == 0
    assert [path.name for path in target.parent.iterdir()] == [target.name]


@pytest.mark.parametrize("damage", ["missing", "text", "other", "shapes", "nan"])
def test_a_file_that_is_no_signer(damage: str, known: Path, face_bundle: Bundle, tmp_path: Path) -> None:
    path, tensors = tmp_path / "bad.safetensors", load_file(known)
    if damage == "text":
        path.write_text("no signer", encoding="utf-8")
    elif damage == "other":
        save_file(tensors, path, {"format": "something else"})
    elif damage == "shapes":
        save_file(tensors | {"shape": tensors["shape"][:5].copy()}, path, {"format": "fyc-asl-signer-1"})
    elif damage == "nan":
        save_file(tensors | {"shape": tensors["shape"] * np.nan}, path, {"format": "fyc-asl-signer-1"})
    with pytest.raises(ModelError) as caught:
        load_signer(path, face_bundle.mesh)
    assert caught.value.code == ("FYC-M01" if damage == "missing" else "FYC-M03")
    assert caught.value.next

"""Folders of videos: which are found, where results go, what a document records, and what is never lost."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from fyc.asl.corpus.job import Settings
from fyc.asl.corpus.tasks import Task, find_tasks
from fyc.asl.corpus.workers import sensible_workers
from fyc.asl.elan.document import Annotation, Document, Tier
from fyc.asl.elan.read import read_eaf
from fyc.asl.elan.seal import is_unbroken
from fyc.asl.elan.write import write_eaf
from fyc.asl.output.claim import claim, is_done, keep_edited
from fyc.asl.output.record import Record, fingerprint
from fyc.asl.run import Results
from fyc.asl.video.writer import write_video
from fyc.cli.main import app
from fyc.errors import ElanError, FycError, ResourceError, VideoError


def files(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return folder


def names(tasks: list[Task], folder: Path, output: Path) -> dict[str, str]:
    return {str(t.video.relative_to(folder)): str((t.folder / t.name).relative_to(output)) for t in tasks}


def test_a_folder_is_searched_in_order_and_mirrored(tmp_path: Path) -> None:
    videos, out = files(tmp_path / "v", "b.MP4", "a.mov", "z/手 1.webm", "z/y/c.avi"), tmp_path / "out"
    files(videos, "notes.txt", ".hidden.mp4", ".git/x.mp4", "a.overlay.mp4", "a.eaf")
    found = names(find_tasks([videos], out), videos, out)
    assert list(found.items()) == [("a.mov", "a"), ("b.MP4", "b"), ("z/y/c.avi", "z/y/c"), ("z/手 1.webm", "z/手 1")]


def test_the_output_within_the_folder_is_left_out_and_the_folder_itself_is_not(tmp_path: Path) -> None:
    videos = files(tmp_path / "v", "a.mp4", "out/old.mp4")
    assert [task.video.name for task in find_tasks([videos], videos / "out")] == ["a.mp4"]
    assert [task.video.name for task in find_tasks([videos], videos)] == ["a.mp4", "old.mp4"]


def test_videos_of_one_name_keep_their_endings(tmp_path: Path) -> None:
    videos = files(tmp_path, "a.mp4", "A.mov", "b.mp4", "c/a.mp4")
    assert names(find_tasks([videos], tmp_path), tmp_path, tmp_path) == {
        "A.mov": "A.mov", "a.mp4": "a.mp4", "b.mp4": "b", "c/a.mp4": "c/a",
    }  # fmt: skip
    tricky = files(tmp_path / "t", "a.mp4", "a.mov", "a.mp4.mp4")
    assert sorted(task.name for task in find_tasks([tricky], tmp_path)) == ["a.mov", "a.mp4", "a.mp4.mp4"]


def test_files_and_folders_together_each_once(tmp_path: Path) -> None:
    videos = files(tmp_path / "v", "a.mp4", "b.mp4", "x.dat")
    found = find_tasks([videos / "x.dat", videos, videos / "a.mp4"], tmp_path)
    assert [task.video.name for task in found] == ["x.dat", "a.mp4", "b.mp4"]


def test_what_cannot_be_run(tmp_path: Path) -> None:
    with pytest.raises(FycError, match="FYC-V02") as error:
        find_tasks([files(tmp_path / "v", "a.txt")], tmp_path)
    assert ".mp4" in error.value.why
    files(tmp_path, "x/a.mp4", "y/a.mp4")
    with pytest.raises(FycError, match="FYC-R09"):
        find_tasks([tmp_path / "x" / "a.mp4", tmp_path / "y" / "a.mp4"], tmp_path)
    done = CliRunner().invoke(app, ["asl", "run", str(tmp_path / "v"), "-o", str(tmp_path / "out")])
    assert isinstance(done.exception, FycError)
    assert not (tmp_path / "out").exists()


def test_a_fingerprint_sees_size_beginning_and_end_and_survives_a_copy(tmp_path: Path) -> None:
    content = bytes(3 << 20)
    seen = set()
    for number, bytes_ in enumerate((content, content + b"\0", b"x" + content[1:], content[1:] + b"x", b"", b"x")):
        path = tmp_path / str(number)
        path.write_bytes(bytes_)
        seen.add(fingerprint(path))
        copy = tmp_path / "copy"
        copy.write_bytes(bytes_)
        assert fingerprint(copy) == fingerprint(path)
    assert len(seen) == 6


@pytest.fixture
def made(tmp_path: Path) -> Callable[[Record], Results]:
    """Writes the results of a video that was run with a record."""

    def write(record: Record) -> Results:
        results = Results.in_folder(tmp_path / "out", "a")
        results.eaf.parent.mkdir(exist_ok=True)
        for path in vars(results).values():
            path.write_bytes(b"")
        write_eaf(Document(tiers=(Tier("t", (Annotation(0, 40, "x"),)),), properties=record.properties), results.eaf)
        return results

    return write


RECORD = Record("v" * 64, "face largest, seed 0", "1.0")


def test_a_record_survives_writing_and_reading(made: Callable[[Record], Results]) -> None:
    results = made(RECORD)
    assert Record.read(results.eaf) == RECORD
    assert is_done(results, RECORD)
    assert dict(read_eaf(results.eaf).properties)["fyc:settings"] == RECORD.settings


@pytest.mark.parametrize(
    ("now", "why"),
    [
        (Record("w" * 64, RECORD.settings, "1.0"), "another video"),
        (Record(RECORD.video, "face 2, seed 0", "1.0"), "face largest, seed 0, not face 2, seed 0"),
        (Record(RECORD.video, RECORD.settings, "2.0"), "fyc 1.0, this is 2.0"),
    ],
)
def test_a_document_made_otherwise_is_refused(made: Callable[[Record], Results], now: Record, why: str) -> None:
    with pytest.raises(ElanError, match="FYC-E07") as error:
        is_done(made(RECORD), now)
    assert why in error.value.why
    assert "--overwrite" in error.value.next


def test_documents_of_others_damaged_ones_and_missing_files(made: Callable[[Record], Results]) -> None:
    results = made(RECORD)
    results.csv.unlink()
    with pytest.raises(ElanError, match="FYC-E07") as error:
        is_done(results, RECORD)
    assert "a.csv" in error.value.why
    write_eaf(Document(), results.eaf)
    with pytest.raises(ElanError) as error:
        is_done(results, RECORD)
    assert "fyc did not write it" in error.value.why
    results.eaf.write_bytes(b"<cut")
    with pytest.raises(ElanError) as error:
        is_done(results, RECORD)
    assert "cannot be read" in error.value.why


def test_files_of_somebody_else_are_not_written_over(tmp_path: Path) -> None:
    results = Results.in_folder(tmp_path, "a")
    results.vtt.write_text("WEBVTT", encoding="utf-8")  # subtitles that the user has beside the video
    with pytest.raises(ElanError, match="FYC-E07") as error:
        is_done(results, RECORD)
    assert "a.vtt" in error.value.why
    results.track.write_bytes(b"")  # a run that was stopped left them
    assert not is_done(results, RECORD)


def test_any_edit_breaks_the_seal_and_is_kept(made: Callable[[Record], Results]) -> None:
    eaf = made(RECORD).eaf
    assert is_unbroken(eaf.read_bytes())
    assert keep_edited(eaf) is None
    for number, name in enumerate(("a.eaf.bak", "a.eaf.bak2"), 1):
        eaf.write_bytes(
            eaf.read_bytes().replace(b'TIME_VALUE="40"', b'TIME_VALUE="%d"' % number).replace(b">x<", b">y<")
        )
        assert not is_unbroken(eaf.read_bytes())
        assert keep_edited(eaf) == eaf.with_name(name)
        assert eaf.with_name(name).read_bytes() == eaf.read_bytes()
        assert keep_edited(eaf) == eaf.with_name(name)  # the same again needs no other copy
        eaf.write_bytes(eaf.read_bytes().replace(b">y<", b">z<"))
    write_eaf(Document(), eaf)  # not sealed: somebody else's
    assert keep_edited(eaf) == eaf.with_name("a.eaf.bak3")


def test_a_claim_keeps_others_out_removes_litter_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fyc.asl.files._PATIENCE", 0.1)
    results = Results.in_folder(tmp_path / "new" / "out", "a")
    endings = ".a.track.safetensors.new", "..a.track.safetensors.landmarks.part", "..a.track.safetensors.new.part"
    litter = [".a.eaf.new", ".a.overlay.mp4.new", ".a.pfsx.new", *endings]
    foreign = [".ab.eaf.new", "..a b.track.safetensors.landmarks.part", "a.csv"]
    files(results.eaf.parent, *litter, *foreign)
    with claim(results):
        left = {path.name for path in results.eaf.parent.iterdir()}
        assert left == {*foreign, ".a.lock"}
        with pytest.raises(ResourceError, match="FYC-S03"), claim(results):
            pass
        with claim(Results.in_folder(tmp_path / "new" / "out", "b")):
            pass
    with claim(results):
        pass
    assert {path.name for path in results.eaf.parent.iterdir()} == set(foreign)


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    files(tmp_path, "out")
    with pytest.raises(ElanError, match="FYC-E05"), claim(Results.in_folder(tmp_path / "out", "a")):
        pass


def test_settings_say_what_results_depend_on() -> None:
    assert str(Settings()) == "face largest, seed 0"
    assert str(Settings(face=1, seed=3)) == "face 2, seed 3"
    assert sensible_workers() >= 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes on this system")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(VideoError, match="FYC-V01"):
        Record.of(tmp_path / "pipe.mp4", "")


@pytest.mark.assets
def test_a_folder_tells_of_several_faces_and_damage(
    talking_frames: list[np.ndarray], talking_clip: Path, tmp_path: Path
) -> None:
    with write_video(tmp_path / "two.mp4", (720, 288), 25.0) as writer:
        for frame in talking_frames[:4]:
            writer.add(np.hstack([frame, frame[:, ::-1]]))
    words = ["asl", "run", str(tmp_path / "two.mp4"), str(talking_clip), "-o", str(tmp_path / "out"), "--workers", "1"]
    done = CliRunner().invoke(app, [*words, "--no-overlay", "--no-report"], catch_exceptions=False)
    assert done.exit_code == 0
    assert f"{tmp_path / 'two.mp4'}: up to 2 faces were seen" in done.stdout
    assert done.stdout.count("faces were seen") == 1


@pytest.mark.assets
def test_one_video_twice_then_edited_then_overwritten(talking_clip: Path, tmp_path: Path) -> None:
    def run(*words: str) -> tuple[int, str, Exception | None]:
        done = CliRunner().invoke(app, ["asl", "run", str(talking_clip), "-o", str(out), "--no-overlay", *words])
        return done.exit_code, done.stdout, done.exception if isinstance(done.exception, FycError) else None

    out = tmp_path / "out"
    assert run()[0] == 0
    eaf = out / f"{talking_clip.stem}.eaf"
    first = eaf.read_bytes()
    code, said, _ = run()
    assert code == 0
    assert "done before" in said
    assert json.loads(run("--json")[1]) == {"video": str(talking_clip), "status": "skipped"}
    eaf.write_bytes(first.replace(b"brow", b"BROW"))
    assert run()[0] == 0
    error = run("--seed", "1")[2]
    assert isinstance(error, ElanError)
    assert (error.code, error.exit_code) == ("FYC-E07", 2)
    assert eaf.read_bytes() == first.replace(b"brow", b"BROW")
    assert run("--overwrite", "--seed", "1")[0] == 0
    assert is_unbroken(eaf.read_bytes())
    assert eaf.with_name(f"{eaf.name}.bak").read_bytes() == first.replace(b"brow", b"BROW")
    assert not [path for path in out.iterdir() if path.name.startswith(".")]

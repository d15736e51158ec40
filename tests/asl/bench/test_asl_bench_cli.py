"""`fyc asl bench` through the command line, on few and short clips."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from fyc.asl.bench import clips, pose
from fyc.asl.synthetic.heads import HEAD_SPLITS
from fyc.asl.synthetic.script import Script
from fyc.cli.main import app

pytestmark = pytest.mark.usefixtures("landmarker_file", "talking")


def fyc(*words: str) -> Result:
    return CliRunner().invoke(app, ["asl", "bench", *words], catch_exceptions=False)


def test_pose_prints_all_methods_and_says_synthetic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pose, "FRAMES", 10)
    done = fyc("pose", "--heads", "1", "--json", "--offline")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert found["synthetic"] is True
    assert "SYNTHETIC" in found["note"]
    assert (found["split"], found["pictures"], found["yaw_deg"]) == ("calibration", 10, 25)
    assert set(found["pose"]) == set(found["brows"]) == {"network", "mesh", "fyc"}
    for name, figures in found["pose"].items():
        error, low, high = figures["error_deg"]
        assert 0.2 < error < 4, name
        assert low is high is None
        assert figures["error_deg_by_yaw"]["30-45"] == [None, None, None]
    assert found["brows"]["fyc"]["auc"][0] > 0.6


def test_tracking_prints_systems_and_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = clips.clip_of

    def short(kind: str, split: str, number: int) -> Script:
        script = whole(kind, split, number)
        return replace(script, curves=script.curves[:4], segments=(), occluders=())

    monkeypatch.setattr(clips, "clip_of", short)
    words = [f"--systems={name}" for name in ("network", "ensemble", "without appearance")]
    done = fyc("tracking", "--kinds", "turning", "--kinds", "few-pixels", *words, "--offline")
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert "SYNTHETIC, split calibration" in lines[0]
    assert [line.split("  ")[0] for line in lines[2:5]] == ["network", "ensemble", "without appearance"]
    assert sum(line.startswith("turning") for line in lines) == 3
    assert sum("SYNTHETIC" in line for line in lines) == 4


def test_films_are_documents_of_the_truth_and_are_not_written_twice(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(HEAD_SPLITS, "calibration", 1)
    folder = tmp_path / "films é"
    done = fyc("films", str(folder), "--corpus", "check", "--offline")
    assert done.exit_code == 0, done.output
    assert "SYNTHETIC" in done.stdout
    signer = folder / "calibration-00"
    assert sorted(path.name for path in folder.rglob("*.*")) == ["check-0.eaf", "check-0.mp4"]
    document = signer / "check-0.eaf"
    assert "synthetic" in document.read_text(encoding="utf-8")
    same = CliRunner().invoke(app, ["asl", "eval", "--pred", str(document), "--truth", str(document), "--json"])
    assert json.loads(same.stdout)["micro"]["f1"] == 1
    document.write_text("edited", encoding="utf-8")
    again = json.loads(fyc("films", str(folder), "--corpus", "check", "--json", "--offline").stdout)
    assert (again["documents"], again["there_before"]) == ([], 1)
    assert document.read_text(encoding="utf-8") == "edited"


def test_the_held_out_split_says_what_it_is_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(HEAD_SPLITS, "held-out", 0)
    done = fyc("films", str(tmp_path / "films"), "--corpus", "held-out", "--json", "--offline")
    assert "final figures only" in done.stderr
    assert "final figures only" in json.loads(done.stdout)["warning"]


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["tracking", "--kinds", "nothing"], "'nothing' is not one of"),
        (["tracking", "--systems", "nothing", "--offline"], "'nothing' is not one of"),
        (["pose", "--heads", "9"], "has 8 heads"),
        (["films", "x", "--sentences", "0"], "there is nothing to write"),
        (["pose", "--split", "train"], "Invalid value"),
    ],
)
def test_what_cannot_be_is_refused_at_once(words: list[str], part: str) -> None:
    done = fyc(*words)
    assert done.exit_code == 2
    assert part in " ".join(done.stderr.replace("│", " ").split())


@pytest.mark.slow
def test_a_panel_over_half_of_the_face_is_followed_or_declared() -> None:
    words = ("--kinds", "half-face", "--systems", "network", "--systems", "ensemble", "--json", "--offline")
    found = json.loads(fyc("tracking", *words).stdout)["systems"]
    ensemble = found["ensemble"]["kinds"]["half-face"]
    assert ensemble["wrong_but_confident"][0] <= 0.02
    assert ensemble["lost"][0] <= 0.1
    assert max(ensemble["recovery_frames"]) <= 5

"""`fyc asl eval`: files and folders, what is named, what is refused."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fyc.asl.comparison import compare
from fyc.asl.elan.document import Annotation, Document, Tier
from fyc.asl.elan.write import write_eaf
from fyc.cli.main import main
from fyc.errors import FycError

Run = Callable[..., tuple[int, str, str]]

TRUE = {
    "NMM": [(0, 1000, "wh"), (1200, 2000, "neg"), (3000, 4000, "wh")],
    "brows": [(0, 900, "up")],
    "gloss": [(0, 10_000, "BOOK")],
}
PREDICTED = {"NMM": [(40, 1080, "wh "), (1700, 2400, "neg"), (3000, 4000, "wh")], "brows": [], "nods": [(0, 5, "nod")]}


def save(path: Path, tiers: dict[str, list[tuple[int, int, str]]]) -> Path:
    path.parent.mkdir(exist_ok=True)
    write_eaf(Document(tiers=tuple(Tier(n, tuple(Annotation(*a) for a in items)) for n, items in tiers.items())), path)
    return path


@pytest.fixture
def fyc(capfd: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: object) -> tuple[int, str, str]:
        capfd.readouterr()
        with pytest.raises(SystemExit) as left:
            main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return int(str(left.value.code)), out, err

    return run


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    return save(tmp_path / "a é.eaf", PREDICTED), save(tmp_path / "b.eaf", TRUE)


def report(fyc: Run, *arguments: object) -> Any:
    code, out, _ = fyc("asl", "eval", *arguments, "--json")
    assert code == 0
    return json.loads(out)


def test_two_files(fyc: Run, files: tuple[Path, Path]) -> None:
    found = report(fyc, "--pred", files[0], "--truth", files[1])
    rows = {(row["tier"], row["label"]): row for row in found["classes"]}
    assert list(rows) == [("NMM", "neg"), ("NMM", "wh"), ("brows", "up")]
    wh = rows["NMM", "wh"]
    assert (wh["true"], wh["predicted"], wh["matched"], wh["f1"]) == (2, 2, 2, 1.0)
    assert wh["onset_error_s"] == pytest.approx(0.02)
    assert wh["onset_error_frames"] == pytest.approx(0.5)
    assert wh["offset_error_frames"] == pytest.approx(1.0)
    assert wh["accuracy"] == pytest.approx(1 - 3 / 250)
    assert rows["brows", "up"]["precision"] is None
    assert rows["brows", "up"]["recall"] == 0
    assert (found["micro"]["true"], found["micro"]["predicted"], found["micro"]["matched"]) == (4, 3, 2)
    assert found["micro"]["f1"] == pytest.approx(4 / 7)
    assert found["macro"]["f1"] == pytest.approx(1 / 3)
    assert found["macro"]["precision"] == pytest.approx(0.5)
    assert found["unmatched"] == [f"tier 'gloss': not in {files[0]}", f"tier 'nods': not in {files[1]}"]


def test_threshold_tiers_and_rate(fyc: Run, files: tuple[Path, Path]) -> None:
    found = report(fyc, "--pred", files[0], "--truth", files[1], "--tier", "NMM", "--iou", "0.2", "--fps", "50")
    assert (found["iou"], found["fps"], found["unmatched"]) == (0.2, 50, [])
    assert {row["label"]: row["matched"] for row in found["classes"]} == {"neg": 1, "wh": 2}
    assert {row["label"]: row["onset_error_frames"] for row in found["classes"]} == pytest.approx({"neg": 25, "wh": 1})


def test_the_table_says_the_same(fyc: Run, files: tuple[Path, Path]) -> None:
    code, out, err = fyc("asl", "eval", "--pred", files[0], "--truth", files[1])
    assert code == 0
    lines = [line.split() for line in out.splitlines()]
    assert ["NMM", "wh", "2", "2", "2", "1", "1", "1"] in lines
    assert ["micro", "all", "segments", "4", "3", "2", "0.6667", "0.5", "0.5714"] in lines
    assert err.splitlines() == [
        f"not compared: tier 'gloss': not in {files[0]}",
        f"not compared: tier 'nods': not in {files[1]}",
    ]


def test_a_tier_that_many_documents_lack_is_told_once(fyc: Run, tmp_path: Path) -> None:
    for name in "abc":
        save(tmp_path / "pred" / f"{name}.eaf", PREDICTED)
        save(tmp_path / "true" / f"{name}.eaf", TRUE)
    code, _, err = fyc("asl", "eval", "--pred", tmp_path / "pred", "--truth", tmp_path / "true")
    assert code == 0
    assert err.splitlines() == [
        f"not compared: tier 'gloss': not in {tmp_path / 'pred' / 'a.eaf'} and 2 more",
        f"not compared: tier 'nods': not in {tmp_path / 'true' / 'a.eaf'} and 2 more",
    ]


def test_a_tier_that_nobody_has_is_named(fyc: Run, files: tuple[Path, Path]) -> None:
    code, _, err = fyc("asl", "eval", "--pred", files[0], "--truth", files[1], "--tier", "hands")
    assert code == 2
    assert "no tier 'hands' is in both; there are: NMM" in " ".join(err.split())


def test_folders_are_matched_by_name(fyc: Run, tmp_path: Path) -> None:
    pred, truth = tmp_path / "pred", tmp_path / "truth"
    for name in ("one", "two", "three"):
        save(pred / f"{name}.eaf", PREDICTED)
    for name in ("one", "two", "four"):
        save(truth / f"{name}.eaf", TRUE)
    (truth / "notes.txt").write_text("x", encoding="utf-8")
    found = report(fyc, "--pred", pred, "--truth", truth, "--tier", "NMM")
    assert [Path(pair["pred"]).stem for pair in found["files"]] == ["one", "two"]
    assert {row["label"]: row["true"] for row in found["classes"]} == {"neg": 2, "wh": 4}
    assert found["unmatched"] == [
        f"file {pred / 'three.eaf'}: no true file of this name",
        f"file {truth / 'four.eaf'}: no predicted file of this name",
    ]
    alone = compare(pred / "one.eaf", truth / "one.eaf", tiers=["NMM"])
    twice = compare(pred, truth, tiers=["NMM"])
    assert {key: value + value for key, value in alone.scores.items()} == twice.scores


def test_folders_are_matched_through_their_depth(fyc: Run, tmp_path: Path) -> None:
    """Documents of two signers have the same name; hidden ones, and copies, are no documents."""
    pred, truth = tmp_path / "pred", tmp_path / "truth"
    for folder, document in ((pred, PREDICTED), (truth, TRUE)):
        for place in ("anna/one.eaf", "ben/one.eaf", ".old/one.eaf", "anna/.one.eaf"):
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            save(folder / place, document)
        (folder / "anna" / "one.eaf.bak").write_text("x", encoding="utf-8")
    found = report(fyc, "--pred", pred, "--truth", truth, "--tier", "NMM")
    assert [Path(pair["truth"]).relative_to(truth).as_posix() for pair in found["files"]] == [
        "anna/one.eaf", "ben/one.eaf",
    ]  # fmt: skip
    assert found["unmatched"] == []


def test_problems_of_the_documents_are_told(fyc: Run, tmp_path: Path, files: tuple[Path, Path]) -> None:
    overlapping = tmp_path / "overlap.eaf"
    text = files[1].read_text(encoding="utf-8")
    overlapping.write_text(text.replace('TIME_VALUE="1200"', 'TIME_VALUE="900"'), encoding="utf-8")
    code, _, err = fyc("asl", "eval", "--pred", overlapping, "--truth", files[1])
    assert code == 0
    assert f"problem: {overlapping}: tier 'NMM': 'wh' (00:00:00.000 to 00:00:01.000) overlaps 'neg'" in err


def test_what_cannot_be_compared(fyc: Run, tmp_path: Path, files: tuple[Path, Path]) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    cases = {
        ("--pred", files[0], "--truth", files[1], "--tier", "nmm"): "FYC-E06",
        ("--pred", tmp_path, "--truth", empty): "FYC-E06",
        ("--pred", tmp_path, "--truth", files[1]): "FYC-R09",
        ("--pred", files[0], "--truth", empty): "FYC-R09",
        ("--pred", tmp_path / "no.eaf", "--truth", files[1]): "FYC-E01",
        ("--pred", tmp_path / "no", "--truth", tmp_path): "FYC-E01",
        ("--pred", files[0], "--truth", files[1], "--fps", "inf"): "FYC-R09",
    }
    for arguments, code in cases.items():
        left, out, err = fyc("asl", "eval", *arguments, "--json")
        assert left == 2
        assert code in err
        assert json.loads(out)["error"]["code"] == code
    (tmp_path / "bad.eaf").write_text("<ANNOTATION_DOCUMENT>", encoding="utf-8")
    with pytest.raises(FycError, match="E02"):
        compare(tmp_path / "bad.eaf", files[1])


def test_help_imports_neither_torch_nor_av() -> None:
    script = """
import sys
from fyc.cli.main import main
try:
    main(["asl", "eval", "--help"])
finally:
    assert not {"torch", "av", "numpy"} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "--truth" in done.stdout

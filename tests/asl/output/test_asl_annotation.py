"""Tables and ELAN documents of an analysis: every frame has a row, tiers do not overlap, curves are linked."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pympi
import pytest

from fyc.asl.analysis import Analysis
from fyc.asl.elan.read import read_eaf
from fyc.asl.measures import MEASURES, Measures
from fyc.asl.output.annotation import MARKER_TIER, TIERS, TRACK_TIER, Scheme, write_annotation
from fyc.asl.output.csv_table import COLUMNS, write_csv
from fyc.asl.segments import Segment
from fyc.asl.video.reader import VideoInfo

EVENTS = [label for entries in TIERS.values() for label in entries]


@pytest.fixture
def analysis(tmp_path: Path) -> Analysis:
    """Twenty frames at 10 per second; five are lost, three have little confidence, in three a hand hides much."""
    lost = np.zeros(20, bool)
    lost[5:10] = True
    table = np.random.default_rng(0).normal(size=(20, len(MEASURES)))
    table[lost] = np.nan
    confidence = np.where(lost, 0.0, 0.9)
    confidence[12:15] = 0.3
    occluded = np.where(lost, np.nan, 0.1)
    occluded[17:] = 0.4
    measures = Measures.from_table(np.arange(20) / 10, confidence, table, occluded)
    info = VideoInfo(tmp_path / "signing Ł.mp4", 640, 480, 0, False, 10.0, 2.0, 20, "h264", False, 0.0, 1.0)
    info.path.write_bytes(b"")
    tracker = tuple("" if gone else "network" for gone in lost)
    reason = tuple("no face was found" if gone else "" for gone in lost)
    return Analysis(info, measures, tracker, reason, 1, "")


def test_a_row_for_every_frame(analysis: Analysis, tmp_path: Path) -> None:
    events = [Segment(0.2, 0.5, "brow-raise"), Segment(1.0, 1.1, "blink")]
    write_csv(analysis, events, EVENTS, tmp_path / "a.csv")
    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 20
    assert list(rows[0])[: len(COLUMNS)] == list(COLUMNS)
    wanted = {"frame", "time_s", "face", "confidence", "yaw_deg", "pitch_deg", "roll_deg", "brow_left", "brow_right"}
    assert wanted <= set(rows[0])
    assert [row["frame"] for row in rows] == [str(number) for number in range(20)]
    assert [row["face"] for row in rows] == ["1"] * 5 + ["0"] * 5 + ["1"] * 10
    assert all(row["yaw_deg"] == "" and row["reason"] == "no face was found" for row in rows[5:10])
    assert float(rows[3]["yaw_deg"]) == pytest.approx(analysis.measures.yaw[3], abs=0.005)
    assert [row["brow_raise"] for row in rows[:6]] == ["0", "0", "1", "1", "1", "0"]
    assert all(list(row.values())[-1] in ("0", "1") for row in rows)


def test_a_document_that_elan_readers_read(analysis: Analysis, tmp_path: Path) -> None:
    events = [
        Segment(0.2, 0.5, "brow-raise"), Segment(0.4, 0.8, "brow-lower"),
        Segment(0.0, 2.0, "head-turn"), Segment(0.5, 1.0, "head-shake"), Segment(0.3, 0.3, "blink"),
    ]  # fmt: skip
    markers = [Segment(0.1, 1.2, "topic")]
    write_csv(analysis, events, EVENTS, tmp_path / "a.csv")
    eaf = tmp_path / "a.eaf"
    write_annotation(
        analysis, events, markers, Scheme(markers={"topic": "what is talked about"}), eaf, tmp_path / "a.csv"
    )
    read = pympi.Elan.Eaf(str(eaf))
    assert set(read.get_tier_names()) == {*TIERS, MARKER_TIER, TRACK_TIER}
    assert read.get_annotation_data_for_tier("brows") == [(200, 500, "brow-raise"), (500, 800, "brow-lower")]
    yaw = [(0, 500, "head-turn"), (500, 1000, "head-shake"), (1000, 2000, "head-turn")]
    assert read.get_annotation_data_for_tier("head yaw") == yaw
    assert read.get_annotation_data_for_tier("eyes") == []
    assert read.get_annotation_data_for_tier(MARKER_TIER) == [(100, 1200, "topic")]
    assert read.get_annotation_data_for_tier(TRACK_TIER) == [
        (500, 1000, "lost"), (1200, 1500, "unsure"), (1700, 2000, "unsure"),
    ]  # fmt: skip
    document = read_eaf(eaf)
    assert document.problems == ()
    assert document.media[0].path.name == "signing Ł.mp4"
    assert {file.path.name for file in document.linked} == {"a.csv", "a_tsconf.xml"}
    assert (tmp_path / "a.pfsx").is_file()


def test_markers_have_a_tier_only_when_they_were_looked_for(analysis: Analysis, tmp_path: Path) -> None:
    write_csv(analysis, [], EVENTS, tmp_path / "a.csv")
    document = write_annotation(analysis, [], [], Scheme(), tmp_path / "a.eaf", tmp_path / "a.csv")
    assert MARKER_TIER not in [tier.name for tier in document.tiers]


@pytest.mark.parametrize("seed", range(20))
def test_no_tier_overlaps(seed: int, analysis: Analysis, tmp_path: Path) -> None:
    rng = np.random.default_rng(seed)
    events = [Segment(*sorted(rng.uniform(0, 2, 2)), str(rng.choice(EVENTS))) for _ in range(40)]
    write_csv(analysis, events, EVENTS, tmp_path / "a.csv")
    document = write_annotation(analysis, events, [], Scheme(), tmp_path / "a.eaf", tmp_path / "a.csv")
    for tier in document.tiers:
        ends = [0, *(annotation.end_ms for annotation in tier.annotations)]
        assert all(note.start_ms >= end for note, end in zip(tier.annotations, ends, strict=False))

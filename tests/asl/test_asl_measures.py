"""The table of measures, and measures of synthetic clips."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from asl_measures import measures_of, still

from fyc.asl.face.bundle import Bundle
from fyc.asl.measures import MEASURES, Measures
from fyc.asl.synthetic.corpora import CORPORA
from fyc.asl.synthetic.measured import gold_segments, measure_clips
from fyc.asl.synthetic.projection import Stage
from fyc.asl.synthetic.script import COLUMN, Script


def test_the_table_holds_everything() -> None:
    table = np.arange(26.0).reshape(2, 13)
    measures = Measures.from_table(np.array([0, 0.04]), np.ones(2), table)
    centred = table.copy()
    centred[:, 3:6] -= np.median(table[:, 3:6], axis=0)
    assert np.array_equal(measures.table, centred)
    assert len(measures) == 2
    assert np.array_equal(measures.brows[1], [19, 20, 21, 22])
    assert np.array_equal(measures.eyes[0], [10, 11])


def test_a_lost_frame_knows_nothing() -> None:
    lost = np.zeros(60, bool)
    lost[3] = True
    measures = measures_of(still(2)).without(lost)
    assert np.isnan(measures.table[3]).all()
    assert measures.confidence[3] == 0
    assert np.isfinite(np.delete(measures.table, 3, axis=0)).all()


def test_frames_are_doubtful_around_what_covers_the_face() -> None:
    occluded = np.zeros(60)
    occluded[[5, 30]] = np.nan, 0.5
    confidence = np.ones(60)
    confidence[50] = 0.4
    measures = replace(measures_of(still(2)), occluded=occluded, confidence=confidence)
    assert list(np.flatnonzero(measures.doubtful)) == [28, 29, 30, 31, 32, 50]
    trusted = measures.trusted()
    assert np.array_equal(np.isnan(trusted.yaw), measures.doubtful)
    assert np.array_equal(trusted.occluded, occluded, equal_nan=True)
    slow = replace(measures, time_s=measures.time_s * 10)
    assert list(np.flatnonzero(slow.doubtful)) == [30, 50]


@pytest.mark.parametrize(
    "change", [{"time_s": np.array([0.0, 0.0])}, {"brows": np.zeros((2, 3))}, {"yaw": np.zeros(2, np.float32)}]
)
def test_wrong_shapes_are_refused(change: dict[str, np.ndarray]) -> None:
    good = Measures.from_table(np.array([0, 0.04]), np.ones(2), np.zeros((2, len(MEASURES))))
    with pytest.raises(ValueError, match=r"must"):
        replace(good, **change)


@pytest.fixture(scope="module")
def clips(face_bundle: Bundle) -> tuple[list[Script], list[Measures]]:
    """Six sentences of a signer."""
    scripts = [CORPORA["fit"].sentence(number) for number in range(6)]
    scripts[0] = replace(scripts[0], blackouts=((10, 14),))
    return scripts, measure_clips(Stage(face_bundle.mesh), scripts)


@pytest.mark.assets
def test_measures_follow_what_was_scripted(clips: tuple[list[Script], list[Measures]]) -> None:
    scripts, measured = clips
    table = np.concatenate([one.table for one in measured])
    curves = np.concatenate([script.curves for script in scripts])
    known = np.isfinite(table[:, 0])
    for name, column, least in (
        ("yaw", 0, 0.9), ("pitch", 1, 0.9), ("roll", 2, 0.95), ("mouth", 12, 0.95),
        ("brow_inner_left", 6, 0.75), ("brow_outer_right", 9, 0.75), ("lid_left", 10, -0.9),
    ):  # fmt: skip
        likeness = np.corrcoef(table[known, column], curves[known, COLUMN[name]])[0, 1]
        assert (likeness >= least) if least > 0 else (likeness <= least), (name, likeness)
    assert np.corrcoef(measured[1].z, scripts[1].curve("z"))[0, 1] > 0.85  # here the head goes to and fro
    eyes, lids = table[known, 10], curves[known, COLUMN["lid_left"]]
    assert eyes[lids < 0.1].mean() == pytest.approx(1, abs=0.1)
    assert eyes[lids > 0.9].mean() < 0.3


@pytest.mark.assets
def test_black_frames_are_not_known(clips: tuple[list[Script], list[Measures]]) -> None:
    _, measured = clips
    assert np.isnan(measured[0].table[10:14]).all()
    assert not measured[0].confidence[10:14].any()
    assert np.isfinite(measured[1].table).all()


@pytest.mark.assets
def test_signers_are_not_mixed(face_bundle: Bundle) -> None:
    corpus = CORPORA["fit"]
    with pytest.raises(ValueError, match="one signer"):
        measure_clips(Stage(face_bundle.mesh), [corpus.sentence(0), corpus.sentence(len(corpus) - 1)])


def test_gold_is_in_seconds() -> None:
    script = CORPORA["check"].sentence(0)
    gold = gold_segments(script, "event")
    parts = [part for part in script.segments if part.tier == "event"]
    assert [segment.label for segment in gold] == [part.label for part in parts]
    assert gold[0].end_s == pytest.approx(parts[0].end / 30)

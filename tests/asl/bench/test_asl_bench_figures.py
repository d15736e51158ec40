"""Figures of the bench, on frames that are written by hand."""

from __future__ import annotations

import numpy as np
import pytest

from fyc.asl.bench.clips import Measured
from fyc.asl.bench.pose import Answers, HeadResult
from fyc.asl.bench.pose_figures import brow_figures, pose_figures
from fyc.asl.bench.statistics import auc, correlation, mean_interval
from fyc.asl.bench.tracking_figures import NEVER, tracking_figures
from fyc.asl.tracking.confidence import calibration_error


def frame(number: int, clip: str = "a", **what: object) -> Measured:
    """A frame in which all is well, but for `what`."""
    values = {
        "lost": False, "confidence": 0.9, "nme": 0.02, "pose": 1.0, "cover": 0.0, "there": True, "event": False,
        "evidence": None, "ms": 10.0,
    }  # fmt: skip
    return Measured("hand", clip, number, **(values | what))  # type: ignore[arg-type]


def test_auc_counts_ties_half() -> None:
    assert auc(np.array([2.0, 3.0]), np.array([1.0, 2.0])) == 0.875
    assert auc(np.array([0.0]), np.array([1.0])) == 0
    assert np.isnan(auc(np.array([]), np.array([1.0])))


def test_correlation_of_what_does_not_vary_is_unknown() -> None:
    assert np.isnan(correlation(np.ones(5), np.arange(5.0)))
    assert correlation(np.arange(5.0), -np.arange(5.0)) == pytest.approx(-1)


def test_an_interval_needs_two_heads_and_holds_the_mean() -> None:
    one = mean_interval([1.0])
    assert one.value == 1
    assert np.isnan(one.low)
    assert one.text() == "1.00"
    several = mean_interval([1.0, 2.0, float("nan"), 4.0, 3.0])
    assert several.value == 2.5
    assert 1 <= several.low < 2.5 < several.high <= 4
    assert several == mean_interval([1.0, 2.0, 4.0, 3.0])
    assert mean_interval([]).document() == [None, None, None]


def test_tracking_figures_count_what_they_say() -> None:
    frames = [
        frame(0),
        frame(1, lost=True, confidence=0.0, nme=np.inf, pose=np.inf),
        frame(2, lost=True, confidence=0.0, nme=np.inf, pose=np.inf, cover=0.95),  # may be lost
        frame(3, confidence=0.3),
        frame(4, nme=0.2),
        frame(5, there=False, nme=0.2),  # confident in a face that is not there
        frame(6, "b", nme=0.04),
        frame(7, "b", nme=0.04),
    ]
    found = tracking_figures(frames)
    assert (found.frames, found.clips) == (8, 2)
    assert found.lost.value == pytest.approx(1 / 6)
    assert found.unsure.value == pytest.approx(2 / 6)
    assert found.wrong.value == pytest.approx(2 / 8)
    assert found.off == pytest.approx(1 / 5)
    assert found.nme == pytest.approx(0.04)
    assert found.lost.low <= found.lost.value <= found.lost.high


def test_the_calibration_error_is_that_of_the_tracker() -> None:
    rng = np.random.default_rng(1)
    confidence, good = rng.random(60), rng.random(60) < 0.7
    frames = [
        frame(number, f"clip {number % 4}", confidence=float(sure), nme=0.02 if right else 0.3)
        for number, (sure, right) in enumerate(zip(confidence, good, strict=True))
    ]
    assert tracking_figures(frames).calibration.value == pytest.approx(calibration_error(confidence, good))


def test_recovery_is_counted_from_each_event_within_its_clip() -> None:
    wrong = {"nme": 0.5}
    frames = [frame(0), frame(1, event=True, **wrong), frame(2, **wrong), frame(3), frame(4, event=True)]
    frames += [frame(0, "b", event=True, **wrong), frame(1, "b", **wrong)]
    assert tracking_figures(frames).waits == (2, 0, NEVER)


def test_pose_figures_by_axis_and_bin_leave_missed_pictures_out() -> None:
    truth = np.array([[5.0, 0, 0], [-20, 0, 0], [170, 0, 0]])
    said = np.array([[6.0, 2, 0], [-17, 0, 0], [np.nan] * 3])
    head = HeadResult(0, truth, np.array([True, False, False]), {"m": Answers(said, np.array([1.0, 0, np.nan]))})
    figures = pose_figures([head])["m"]
    assert figures.missed == pytest.approx(1 / 3)
    assert figures.error.value == pytest.approx(1.0)
    assert [axis.value for axis in figures.axes] == pytest.approx([2, 1, 0])
    assert [bin_.value for bin_ in figures.bins[:2]] == pytest.approx([1, 1])
    assert np.isnan(figures.bins[2].value)
    assert figures.relative.value == pytest.approx(2 / 3)
    assert brow_figures([head])["m"].auc.value == 1
    assert brow_figures([head])["m"].unknown == pytest.approx(1 / 3)


def test_angles_are_compared_around_the_circle() -> None:
    head = HeadResult(
        0, np.array([[179.0, 0, 0]]), np.array([True]), {"m": Answers(np.array([[-179.0, 0, 0]]), np.ones(1))}
    )
    assert pose_figures([head])["m"].axes[0].value == pytest.approx(2)


def test_the_drift_keeps_its_sign_and_the_worst_head_is_named() -> None:
    pitch = np.linspace(-20, 20, 12)
    raised = np.arange(12) % 3 == 0
    truth = np.stack([np.zeros(12), pitch, np.zeros(12)], axis=1)
    good = HeadResult(0, truth, raised, {"m": Answers(None, raised * 100.0 - pitch)})
    poor = HeadResult(1, truth, raised, {"m": Answers(None, -pitch)})
    figures = brow_figures([good, poor])["m"]
    assert figures.drift == pytest.approx(-1)
    assert figures.scatter.value == pytest.approx(1)
    assert figures.worst < figures.auc.value < 1
    assert pose_figures([good, poor]) == {}

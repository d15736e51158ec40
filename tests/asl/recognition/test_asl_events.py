"""Events against scripted movements, one at a time; phases and the labels of moments."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from asl_measures import measures_of, still
from hypothesis import given, settings
from hypothesis import strategies as st

from fyc.asl.recognition.events import RULES, detect, scores
from fyc.asl.recognition.features import extract
from fyc.asl.recognition.phases import PhasedSegment, phase_order, segments_of, tags_of, with_phases
from fyc.asl.segments import Segment, iou
from fyc.asl.synthetic.motion import Timeline, envelope

START, END = 1.5, 2.7


def moved(label: str, **curves: float) -> Timeline:
    """A movement that is held from `START` to `END`."""
    timeline = still(4.5)
    segment = timeline.mark("event", label, START, END, 0.2, 0.2)
    for name, size in curves.items():
        timeline.add(name, size * envelope(timeline.frames, segment))
    return timeline


def swung(axis: str, amplitude: float, hertz: float) -> Timeline:
    timeline = still(4.5)
    segment = timeline.mark("event", "head-shake", START, END, 0.15, 0.2)
    timeline.swing(axis, segment, amplitude, hertz, 0.3, 0.1)
    return timeline


def browed(height: float) -> Timeline:
    return moved("brow-raise", brow_inner_left=height, brow_inner_right=height, brow_outer_left=height,
                 brow_outer_right=height)  # fmt: skip


def blinked() -> Timeline:
    timeline = still(4.5)
    timeline.blink(START, 0.2)
    return timeline


ALONE: dict[str, Callable[[], Timeline]] = {
    "brow-raise": lambda: browed(0.3),
    "brow-lower": lambda: browed(-0.3),
    "head-shake": lambda: swung("yaw", 6, 2.5),
    "head-nod": lambda: swung("pitch", 5, 2.2),
    "head-tilt": lambda: moved("head-tilt", roll=-8),
    "head-forward": lambda: moved("head-forward", z=3.5),
    "head-turn": lambda: moved("head-turn", yaw=14),
    "blink": blinked,
}


@pytest.mark.parametrize("label", RULES)
def test_an_event_is_found_alone(label: str) -> None:
    timeline = ALONE[label]()
    (gold,) = timeline.segments
    (found,) = detect(extract(measures_of(timeline)))
    assert found.label == label
    assert iou(found.plain, Segment(gold.start / 30, gold.end / 30, label)) > 0.6
    assert found.start_s <= found.core_s < found.offset_s <= found.end_s
    assert found.score > 0.6


@pytest.mark.parametrize("label", ["brow-raise", "head-tilt"])
def test_onset_and_offset_are_where_the_movement_is(label: str) -> None:
    timeline = ALONE[label]()
    (gold,) = timeline.segments
    (found,) = detect(extract(measures_of(timeline)))
    assert found.core_s == pytest.approx(gold.core / 30, abs=0.12)
    assert found.offset_s == pytest.approx(gold.offset / 30, abs=0.12)


def test_nothing_happens() -> None:
    features = extract(measures_of(still(5)))
    assert detect(features) == []
    assert scores(features).max() < 0.5


def test_a_flicker_is_too_short() -> None:
    timeline = still(4)
    timeline.curves[60:62, :4] = 0.3
    assert detect(extract(measures_of(timeline))) == []


def test_what_is_not_seen_is_no_event() -> None:
    measures = measures_of(browed(0.3))
    features = extract(measures.without(np.ones(len(measures), bool)))
    assert detect(features) == []
    assert not scores(features).any()


def test_a_higher_threshold_is_needed_to_begin_than_to_go_on() -> None:
    low, dipping = browed(0.06), browed(0.25)
    middle = np.arange(dipping.frames)[:, None]
    dipping.curves[:, :4] -= 0.13 * np.exp(-(((middle - 63) / 3) ** 2))
    assert detect(extract(measures_of(low))) == []
    assert len(detect(extract(measures_of(dipping)))) == 1


def test_times_are_those_of_the_video() -> None:
    measures = measures_of(browed(0.3))
    late = type(measures).from_table(measures.time_s + 100, measures.confidence, measures.table)
    (found,), (shifted,) = detect(extract(measures)), detect(extract(late))
    assert shifted.start_s == pytest.approx(found.start_s + 100, abs=1e-6)


CLASSES = ("a", "b")


@st.composite
def sequences(draw: st.DrawFn) -> np.ndarray:
    """Labels of moments that are allowed to follow each other."""
    allowed, _, _ = phase_order(len(CLASSES))
    tags = [draw(st.integers(0, len(allowed) - 1))]
    for _ in range(draw(st.integers(0, 40))):
        tags.append(draw(st.sampled_from(np.flatnonzero(allowed[tags[-1]]).tolist())))
    return np.array(tags)


@given(sequences())
@settings(max_examples=100, deadline=None)
def test_labels_come_back_from_their_segments(tags: np.ndarray) -> None:
    times = np.arange(len(tags)) / 30
    found = segments_of(tags, CLASSES, times, np.ones((len(tags), 2)))
    again = tags_of(found, CLASSES, times)
    for part in found:
        first, end = np.searchsorted(times, [part.start_s - 1e-6, part.end_s - 1e-6])
        whole = set((tags[first:end] - 1) % 3) == {0, 1, 2}
        if whole:
            assert np.array_equal(tags[first:end], again[first:end])
    covered = sum(np.searchsorted(times, [p.end_s - 1e-6, p.start_s - 1e-6]) @ [1, -1] for p in found)
    assert covered == (tags > 0).sum()


def test_the_later_segment_counts_where_two_overlap() -> None:
    times = np.arange(30) / 10
    tags = tags_of([Segment(0, 2, "a"), Segment(1, 2.5, "b"), Segment(0, 3, "other")], CLASSES, times)
    assert ((tags[:10] - 1) // 3 == 0).all()
    assert ((tags[10:25] - 1) // 3 == 1).all()
    assert not tags[25:].any()
    assert tags[9] == 3
    assert tags[0] == 1


def test_usual_phases() -> None:
    part = with_phases(Segment(1, 2, "a"))
    assert (part.core_s, part.offset_s) == (1.2, 1.8)
    short = with_phases(Segment(0, 0.3, "a"))
    assert (short.core_s, short.offset_s) == pytest.approx((0.1, 0.2))
    own = PhasedSegment(0, 0.3, 0.4, 1, "a")
    assert with_phases(own) is own


def test_two_raises_with_a_dip_between_them_are_two() -> None:
    """Brows that come down most of the way, not all of it, before they go up again."""
    timeline = still(5.0)
    for start, end in ((1.0, 2.0), (2.6, 3.6)):
        segment = timeline.mark("event", "brow-raise", start, end, 0.2, 0.2)
        for name in ("brow_inner_left", "brow_inner_right", "brow_outer_left", "brow_outer_right"):
            timeline.add(name, 0.7 * envelope(timeline.frames, segment))
    for name in ("brow_inner_left", "brow_inner_right", "brow_outer_left", "brow_outer_right"):
        timeline.add(name, np.full(timeline.frames, 0.0) + 0.08 * envelope(
            timeline.frames, timeline.mark("event", "brow-raise", 0.9, 3.7, 0.1, 0.1)
        ))  # fmt: skip
    raises = [event for event in detect(extract(measures_of(timeline))) if event.label == "brow-raise"]
    assert len(raises) == 2
    assert raises[0].end_s < 2.4 < raises[1].start_s

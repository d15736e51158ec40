"""Scores of segments, against brute force over all matchings and over all frames."""

from __future__ import annotations

import dataclasses
import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fyc.asl.segments import Score, Segment, iou, macro, match, micro, score

#: Times on a grid of halves: sums and quotients of them are exact.
segment = st.builds(
    lambda start, length, label: Segment(start / 2, (start + length) / 2, label),
    st.integers(0, 16), st.integers(0, 8), st.sampled_from("ab"),
)  # fmt: skip
segments = st.lists(segment, max_size=5)
thresholds = st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.75, 1.0])


def test_iou() -> None:
    a = Segment(0, 2, "a")
    assert iou(a, Segment(0, 1, "b")) == 0.5
    assert iou(a, Segment(1, 4, "a")) == 0.25
    assert iou(a, a) == 1
    assert iou(a, Segment(2, 3, "a")) == 0
    assert iou(Segment(1, 1, "a"), a) == 0
    assert iou(Segment(1, 1, "a"), Segment(1, 1, "a")) == 0


def all_matchings(predicted: list[Segment], true: list[Segment], threshold: float) -> list[tuple[int, float]]:
    """Number of pairs and sum of IoU of every matching that the threshold allows."""
    found = []
    padded = [*range(len(true)), *[None] * len(predicted)]
    for choice in set(itertools.permutations(padded, len(predicted))):
        pairs = [(i, j) for i, j in enumerate(choice) if j is not None]
        shares = [iou(predicted[i], true[j]) for i, j in pairs]
        if all(share > 0 and share >= threshold for share in shares):
            found.append((len(pairs), math.fsum(shares)))
    return found


@settings(max_examples=150, deadline=None)
@given(st.lists(segment, max_size=4), st.lists(segment, max_size=4), thresholds)
def test_the_matching_is_the_best_of_all(predicted: list[Segment], true: list[Segment], threshold: float) -> None:
    pairs = match(predicted, true, threshold)
    assert len({i for i, _ in pairs}) == len({j for _, j in pairs}) == len(pairs)
    shares = [iou(predicted[i], true[j]) for i, j in pairs]
    assert all(share > 0 and share >= threshold for share in shares)
    count, total = max(all_matchings(predicted, true, threshold))
    assert (len(pairs), math.fsum(shares)) == (count, pytest.approx(total))


@given(segments, segments, st.sampled_from([0.501, 0.75]))
def test_without_overlaps_greedy_matching_is_the_same(
    first: list[Segment], second: list[Segment], least: float
) -> None:
    predicted, true = apart(first), apart(second)
    edges = sorted(
        ((iou(a, b), i, j) for i, a in enumerate(predicted) for j, b in enumerate(true) if iou(a, b) >= least),
        reverse=True,
    )
    greedy: list[tuple[int, int]] = []
    for _, i, j in edges:
        if all(i != k and j != m for k, m in greedy):
            greedy.append((i, j))
    assert match(predicted, true, least) == sorted(greedy)


def apart(items: list[Segment]) -> list[Segment]:
    """Those that do not overlap an earlier one."""
    kept: list[Segment] = []
    for item in items:
        if all(item.end_s <= other.start_s or other.end_s <= item.start_s for other in kept):
            kept.append(item)
    return kept


def test_greedy_matching_would_lose_a_pair() -> None:
    predicted = [Segment(0, 10, "a"), Segment(5, 16, "a")]
    true = [Segment(4, 14, "a"), Segment(13, 17, "a")]
    assert match(predicted, true, 0.2) == [(0, 0), (1, 1)]
    assert iou(predicted[1], true[0]) > max(iou(predicted[0], true[0]), iou(predicted[1], true[1]))


def test_a_threshold_on_the_edge_counts() -> None:
    """0.3 - 0.1 and the like do not lose a pair to rounding."""
    assert match([Segment(0.1, 0.3, "a")], [Segment(0.1, 0.5, "a")], 0.5) == [(0, 0)]
    assert match([Segment(0.1, 0.299, "a")], [Segment(0.1, 0.5, "a")], 0.5) == []


def test_many_segments_are_matched_quickly() -> None:
    predicted = [Segment(i, i + 0.9, "a") for i in range(5000)]
    true = [Segment(i + 0.1, i + 1, "a") for i in range(5000)]
    assert match(predicted, true) == [(i, i) for i in range(5000)]


@settings(deadline=None)
@given(segments, segments, thresholds, st.sampled_from([1.0, 4.0, 30.0]))
def test_counts_and_frames_against_brute_force(
    predicted: list[Segment], true: list[Segment], threshold: float, rate: float
) -> None:
    found = score(predicted, true, threshold=threshold, rate=rate)
    assert list(found) == sorted({item.label for item in predicted + true})
    end = max((item.end_s for item in predicted + true), default=0.0)
    times = [k / rate for k in range(math.ceil(end * rate))]
    for label, result in found.items():
        ours = [item for item in predicted if item.label == label]
        theirs = [item for item in true if item.label == label]
        assert (result.predicted, result.true) == (len(ours), len(theirs))
        assert result.matched == max(all_matchings(ours, theirs, threshold))[0]
        in_ours = [any(item.start_s <= time < item.end_s for item in ours) for time in times]
        in_theirs = [any(item.start_s <= time < item.end_s for item in theirs) for time in times]
        same = sum(a == b for a, b in zip(in_ours, in_theirs, strict=True))
        assert result.frames == len(times)
        assert result.accuracy == (pytest.approx(same / len(times)) if times else None)
        assert result.kappa == cohen(in_ours, in_theirs)


def cohen(first: list[bool], second: list[bool]) -> object:
    """Kappa from the table of counts, None where chance alone agrees everywhere."""
    n = len(first)
    if n == 0:
        return None
    chance = sum((first.count(value) / n) * (second.count(value) / n) for value in (True, False))
    observed = sum(a == b for a, b in zip(first, second, strict=True)) / n
    return None if chance == 1 else pytest.approx((observed - chance) / (1 - chance), abs=1e-6)


def test_a_worked_example() -> None:
    true = [Segment(0, 1, "wh"), Segment(2, 3, "wh"), Segment(5, 6, "neg")]
    predicted = [Segment(0.04, 1.08, "wh"), Segment(2.9, 3.9, "wh"), Segment(4, 4.5, "topic")]
    found = score(predicted, true, duration_s=10)
    wh, neg, topic = found["wh"], found["neg"], found["topic"]
    assert (wh.true, wh.predicted, wh.matched) == (2, 2, 1)
    assert (wh.precision, wh.recall, wh.f1) == (0.5, 0.5, 0.5)
    assert wh.onset_s == pytest.approx((0.04,))
    assert wh.offset_error_s == pytest.approx(0.08)
    assert (neg.precision, neg.recall, neg.f1, neg.onset_error_s) == (None, 0.0, 0.0, None)
    assert (topic.precision, topic.recall, topic.f1) == (0.0, None, 0.0)
    assert (wh.frames, wh.frames_true, wh.frames_predicted, wh.frames_both) == (250, 50, 51, 26)
    assert wh.accuracy == pytest.approx(1 - 49 / 250)
    together = micro(found.values())
    assert (together.true, together.predicted, together.matched) == (3, 3, 1)
    assert together.f1 == pytest.approx(1 / 3)
    assert macro(found.values(), "f1") == pytest.approx(0.5 / 3)
    assert macro(found.values(), "precision") == pytest.approx(0.25)
    assert macro([], "f1") is None


@given(segments, segments)
def test_scores_of_files_add_up(first: list[Segment], second: list[Segment]) -> None:
    one, two = (micro(score(items, second).values()) for items in (first, second))
    both = one + two
    for field in dataclasses.fields(Score):
        assert getattr(both, field.name) == getattr(one, field.name) + getattr(two, field.name)
    assert two.f1 in {None, 1.0} or any(item.start_s == item.end_s for item in second)

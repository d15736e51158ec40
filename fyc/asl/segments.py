"""How well predicted segments agree with true ones: F1 at an overlap, errors of the edges, agreement of the frames."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from statistics import fmean

#: Times come from milliseconds and frame numbers; differences below this, in seconds or shares, are rounding.
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Segment:
    """A stretch of time with a label.

    Attributes:
        start_s: where it begins, in seconds.
        end_s: where it ends, in seconds.
        label: its class.
    """

    start_s: float
    end_s: float
    label: str


def iou(first: Segment, second: Segment) -> float:
    """Intersection over union of two segments' times, 0 to 1; 0 if either has no length. Labels do not count."""
    shared = min(first.end_s, second.end_s) - max(first.start_s, second.start_s)
    if shared <= 0:
        return 0.0
    return shared / (max(first.end_s, second.end_s) - min(first.start_s, second.start_s))


def match(predicted: Sequence[Segment], true: Sequence[Segment], threshold: float = 0.5) -> list[tuple[int, int]]:
    """Pairs (index of predicted, index of true) with an IoU of at least `threshold`, each segment in one pair at most.

    The pairs are as many as there can be, and among these choices the one with the greatest sum of IoU: a greedy choice
    by IoU can lose pairs where segments overlap or the threshold is low. Above 0.5, segments that do not overlap among
    themselves leave no choice, and both are the same. Labels do not count.
    """
    parts = _components(_candidates(predicted, true, threshold))
    return sorted(pair for part in parts for pair in _assign(part))


#: For the index of a predicted segment: the true ones that it may be paired with, and their IoU.
_Edges = dict[int, dict[int, float]]


def _candidates(predicted: Sequence[Segment], true: Sequence[Segment], threshold: float) -> _Edges:
    edges: _Edges = {}
    upcoming = sorted(range(len(true)), key=lambda j: true[j].start_s, reverse=True)
    active: list[int] = []
    for i in sorted(range(len(predicted)), key=lambda i: predicted[i].start_s):
        while upcoming and true[upcoming[-1]].start_s < predicted[i].end_s:
            active.append(upcoming.pop())
        active = [j for j in active if true[j].end_s > predicted[i].start_s]
        shares = {j: iou(predicted[i], true[j]) for j in active}
        edges[i] = {j: share for j, share in shares.items() if share > 0 and share >= threshold - _ROUNDING}
    return edges


def _components(edges: _Edges) -> list[_Edges]:
    """The parts of the graph that have no segment in common, so that each is small."""
    owner: dict[int, int] = {}
    parts: dict[int, _Edges] = {}
    for row, found in edges.items():
        if found:
            merged: _Edges = {row: found}
            for key in {owner[column] for column in found if column in owner}:
                merged |= parts.pop(key)
            parts[row] = merged
            owner |= {column: row for columns in merged.values() for column in columns}
    return list(parts.values())


def _assign(edges: _Edges) -> list[tuple[int, int]]:
    """The best pairs of a part, by the Hungarian method with potentials (Kuhn 1955; Munkres 1957), row by row.

    A pair is worth more than all IoU together, so that none is given up for overlap. Every row has a column of its own
    beside the true segments, worth nothing: not to be paired.
    """
    rows, columns = list(edges), sorted({column for found in edges.values() for column in found})
    size, width = len(rows), len(columns) + len(rows)
    cost = [
        [-(size + 1 + edges[row][column]) if column in edges[row] else 0.0 for column in columns] + [0.0] * size
        for row in rows
    ]
    row_of = [-1] * (width + 1)  # the last is where the row that is being placed starts
    row_potential, column_potential = [0.0] * size, [0.0] * (width + 1)
    for row in range(size):
        row_of[width] = row
        _place(cost, row_of, row_potential, column_potential)
    return [(rows[row_of[j]], columns[j]) for j in range(len(columns)) if row_of[j] >= 0 and cost[row_of[j]][j] < 0]


def _place(
    cost: list[list[float]], row_of: list[int], row_potential: list[float], column_potential: list[float]
) -> None:
    """Place the row at the last entry of `row_of` by a cheapest path that moves rows already placed."""
    width = len(row_of) - 1
    slack, before, done = [math.inf] * width, [width] * width, [False] * (width + 1)
    current = width
    while row_of[current] >= 0:
        done[current] = True
        row = row_of[current]
        for j in range(width):
            reduced = cost[row][j] - row_potential[row] - column_potential[j]
            if not done[j] and reduced < slack[j]:
                slack[j], before[j] = reduced, current
        following = min((j for j in range(width) if not done[j]), key=slack.__getitem__)
        step = slack[following]
        for j in range(width + 1):
            if done[j]:
                row_potential[row_of[j]] += step
                column_potential[j] -= step
            elif j < width:
                slack[j] -= step
        current = following
    while current != width:
        row_of[current] = row_of[before[current]]
        current = before[current]


@dataclass(frozen=True)
class Score:
    """Counts of one class, or of several together (`+`), and the measures that follow. None: nothing to divide by.

    Attributes:
        true: number of true segments.
        predicted: number of predicted segments.
        onset_s: for every pair, predicted minus true beginning, in seconds: negative is early.
        offset_s: the same of the ends.
        frames: frames that were compared.
        frames_true: those within a true segment.
        frames_predicted: those within a predicted segment.
        frames_both: those within both.
    """

    true: int = 0
    predicted: int = 0
    onset_s: tuple[float, ...] = ()
    offset_s: tuple[float, ...] = ()
    frames: int = 0
    frames_true: int = 0
    frames_predicted: int = 0
    frames_both: int = 0

    def __add__(self, other: Score) -> Score:
        return Score(
            self.true + other.true,
            self.predicted + other.predicted,
            self.onset_s + other.onset_s,
            self.offset_s + other.offset_s,
            self.frames + other.frames,
            self.frames_true + other.frames_true,
            self.frames_predicted + other.frames_predicted,
            self.frames_both + other.frames_both,
        )

    @property
    def matched(self) -> int:
        """Number of pairs."""
        return len(self.onset_s)

    @property
    def precision(self) -> float | None:
        """Share of the predicted segments that are paired."""
        return self.matched / self.predicted if self.predicted else None

    @property
    def recall(self) -> float | None:
        """Share of the true segments that are paired."""
        return self.matched / self.true if self.true else None

    @property
    def f1(self) -> float | None:
        """Harmonic mean of precision and recall: 2 x pairs / (predicted + true)."""
        return 2 * self.matched / (self.predicted + self.true) if self.predicted + self.true else None

    @property
    def onset_error_s(self) -> float | None:
        """Mean absolute error of the beginnings of pairs, in seconds."""
        return fmean(map(abs, self.onset_s)) if self.onset_s else None

    @property
    def offset_error_s(self) -> float | None:
        """Mean absolute error of the ends of pairs, in seconds."""
        return fmean(map(abs, self.offset_s)) if self.offset_s else None

    @property
    def accuracy(self) -> float | None:
        """Share of the frames on which both say the same: within a segment of the class, or not."""
        if not self.frames:
            return None
        return 1 - (self.frames_true + self.frames_predicted - 2 * self.frames_both) / self.frames

    @property
    def kappa(self) -> float | None:
        """Cohen's kappa of the frames: agreement beyond chance (Cohen 1960); None where both always say the same."""
        if self.accuracy is None:
            return None
        true, predicted = self.frames_true / self.frames, self.frames_predicted / self.frames
        chance = true * predicted + (1 - true) * (1 - predicted)
        return (self.accuracy - chance) / (1 - chance) if 1 - chance > _ROUNDING else None


def score(
    predicted: Iterable[Segment],
    true: Iterable[Segment],
    *,
    threshold: float = 0.5,
    rate: float = 25.0,
    duration_s: float | None = None,
) -> dict[str, Score]:
    """Compare the segments of each class.

    Args:
        predicted: segments, which may overlap.
        true: segments, which may overlap.
        threshold: least IoU of a pair.
        rate: frames per second, for the agreement of frames. Frame k, at k / rate seconds, is within a segment that has
            begun and not ended.
        duration_s: seconds that are compared; None: up to the last end. Accuracy and kappa depend on it.

    Returns:
        A score for every label that occurs, sorted by label.
    """
    by_label: dict[str, tuple[list[Segment], list[Segment]]] = defaultdict(lambda: ([], []))
    for side, segments in enumerate((predicted, true)):
        for segment in segments:
            by_label[segment.label][side].append(segment)
    if duration_s is None:
        duration_s = max((s.end_s for sides in by_label.values() for side in sides for s in side), default=0.0)
    frames = _frame(duration_s, rate)
    return {label: _score(*by_label[label], threshold, rate, frames) for label in sorted(by_label)}


def _score(predicted: list[Segment], true: list[Segment], threshold: float, rate: float, frames: int) -> Score:
    pairs = match(predicted, true, threshold)
    ours, theirs = _frame_ranges(predicted, rate, frames), _frame_ranges(true, rate, frames)
    return Score(
        true=len(true),
        predicted=len(predicted),
        onset_s=tuple(predicted[i].start_s - true[j].start_s for i, j in pairs),
        offset_s=tuple(predicted[i].end_s - true[j].end_s for i, j in pairs),
        frames=frames,
        frames_true=_length(theirs),
        frames_predicted=_length(ours),
        frames_both=_length(ours) + _length(theirs) - _length(_merged(ours + theirs)),
    )


def macro(scores: Iterable[Score], measure: str) -> float | None:
    """Mean of a measure of `Score`, such as `f1`, over the classes that have it; None if none has."""
    values = [value for value in (getattr(score, measure) for score in scores) if value is not None]
    return fmean(values) if values else None


def micro(scores: Iterable[Score]) -> Score:
    """The classes' counts together: each segment weighs the same."""
    return reduce(Score.__add__, scores, Score())


# Frames as ranges [first, last + 1), since a long video has many.


def _frame(time_s: float, rate: float) -> int:
    """The first frame at or after a time."""
    return math.ceil(time_s * rate - 1e-6)


def _frame_ranges(segments: Iterable[Segment], rate: float, frames: int) -> list[tuple[int, int]]:
    ranges = ((max(0, _frame(s.start_s, rate)), min(frames, _frame(s.end_s, rate))) for s in segments)
    return _merged([(first, end) for first, end in ranges if first < end])


def _merged(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for first, end in sorted(ranges):
        if merged and first <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((first, end))
    return merged


def _length(ranges: list[tuple[int, int]]) -> int:
    return sum(end - first for first, end in ranges)

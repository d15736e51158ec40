"""Segments with onset, core and offset, and the labels of moments that they stand for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fyc.asl.face.camera import Array
from fyc.asl.segments import Segment

Tags = NDArray[np.int64]

PHASES = ("onset", "core", "offset")
#: An annotation that does not tell its phases has onsets and offsets of this length, in seconds, but no more than a
#: third of it each.
USUAL_EDGE_S = 0.2


@dataclass(frozen=True)
class PhasedSegment:
    """A marker or an event, times in seconds.

    Attributes:
        start_s, core_s, offset_s, end_s: where the onset, the core, the offset begin, and where it ends.
        label: its class.
        score: 0 to 1, how sure it is: the mean over its moments.
    """

    start_s: float
    core_s: float
    offset_s: float
    end_s: float
    label: str
    score: float = 1.0

    @property
    def plain(self) -> Segment:
        """The same without phases."""
        return Segment(self.start_s, self.end_s, self.label)


def with_phases(segment: Segment | PhasedSegment) -> PhasedSegment:
    """The segment itself if it has phases; otherwise with an onset and an offset of the usual length."""
    if isinstance(segment, PhasedSegment):
        return segment
    edge = min(USUAL_EDGE_S, (segment.end_s - segment.start_s) / 3)
    return PhasedSegment(segment.start_s, segment.start_s + edge, segment.end_s - edge, segment.end_s, segment.label)


def tags_of(segments: Sequence[Segment | PhasedSegment], classes: Sequence[str], time_s: Array) -> Tags:
    """(G,), for every moment 0 for none, or 1 + 3 x class + phase.

    Every phase of a segment gets a moment at least, if there are three. Where segments overlap the later one counts;
    of one that is cut short so, or begins within another, the phases are moved so that they stay in order.

    Args:
        segments: those of other classes are left out.
        classes: names.
        time_s: (G,), moments, rising.
    """
    tags = np.zeros(len(time_s), np.int64)
    owner = np.full(len(time_s), -1)
    chosen = sorted((with_phases(part) for part in segments if part.label in classes), key=lambda part: part.start_s)
    for number, part in enumerate(chosen):
        first, end = np.searchsorted(time_s, [part.start_s - 1e-6, part.end_s - 1e-6])
        owner[first:end] = number
    for number, part in enumerate(chosen):
        mine = np.flatnonzero(owner == number)
        if len(mine) < 3:
            continue
        mine = mine[: _run_length(mine)]
        core, offset = np.searchsorted(time_s[mine], [part.core_s - 1e-6, part.offset_s - 1e-6])
        core = int(np.clip(core, 1, len(mine) - 2))
        offset = int(np.clip(offset, core + 1, len(mine) - 1))
        phase = np.repeat([0, 1, 2], [core, offset - core, len(mine) - offset])
        tags[mine] = 1 + 3 * classes.index(part.label) + phase
    return tags


def segments_of(tags: Tags, classes: Sequence[str], time_s: Array, present: Array) -> list[PhasedSegment]:
    """The segments that labels of moments stand for.

    Args:
        tags: (G,), as of `tags_of`.
        classes: names.
        time_s: (G,), evenly spaced moments.
        present: (G, K), probability of every class.
    """
    step = (time_s[-1] - time_s[0]) / (len(time_s) - 1) if len(time_s) > 1 else 1.0
    found, start = [], 0
    while start < len(tags):
        if not tags[start]:
            start += 1
            continue
        number, phase = divmod(int(tags[start]) - 1, 3)
        end, starts = start, {phase: start}
        while end < len(tags) and tags[end] and (tags[end] - 1) // 3 == number and (tags[end] - 1) % 3 >= phase:
            phase = int(tags[end] - 1) % 3
            starts.setdefault(phase, end)
            end += 1
        core = starts.get(1, starts.get(2, end))
        begin, core_s, offset_s, stop = (
            float(time_s[0] + index * step) for index in (start, core, starts.get(2, end), end)
        )
        score = float(present[start:end, number].mean())
        found.append(PhasedSegment(begin, core_s, offset_s, stop, classes[number], score))
        start = end
    return found


def phase_order(count: int) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    """What may follow what: (S, S), and with which labels a sequence may begin and end (S,); S = 1 + 3 count.

    None, onset, core, offset, then none or the onset of anything. A video may begin and end within a segment.
    """
    states = 1 + 3 * count
    allowed = np.eye(states, dtype=bool)
    onsets = 1 + 3 * np.arange(count)
    allowed[0, onsets] = True
    allowed[onsets, onsets + 1] = True
    allowed[onsets + 1, onsets + 2] = True
    allowed[onsets + 2, 0] = True
    for offset in onsets + 2:
        allowed[offset, onsets] = True
    return allowed, np.ones(states, bool), np.ones(states, bool)


def _run_length(numbers: NDArray[np.intp]) -> int:
    """How many of these rising numbers follow each other without a gap, from the first on."""
    breaks = np.flatnonzero(np.diff(numbers) > 1)
    return int(breaks[0]) + 1 if len(breaks) else len(numbers)

"""Figures of recognition in synthetic sentences: F1 of segments, and how well minimal pairs are told apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fyc.asl.bench.statistics import Array, Interval, interval_of, times_drawn
from fyc.asl.measures import Measures
from fyc.asl.recognition.crf import FORBIDDEN, LinearCrf
from fyc.asl.recognition.events import RULES
from fyc.asl.recognition.features import extract
from fyc.asl.recognition.phases import PhasedSegment
from fyc.asl.recognition.recognizer import Recognizer
from fyc.asl.segments import Segment, score
from fyc.asl.synthetic.script import MARKERS, Script

Segments = Sequence[Segment | PhasedSegment]


def true_segments(script: Script, tier: str) -> list[PhasedSegment]:
    """The true segments of a tier, `marker` or `event`, of classes that can be recognised; times in seconds."""
    rate = script.fps
    return [
        PhasedSegment(part.start / rate, part.core / rate, part.offset / rate, part.end / rate, part.label)
        for part in script.segments
        if part.tier == tier and part.label in (*RULES, *MARKERS)
    ]


@dataclass(frozen=True)
class Agreement:
    """Segments that were found beside the true ones, counted for groups of clips, which are drawn again as a whole.

    F1 is that at an IoU of 0.5; where a class has no segment at all it is 0.

    Attributes:
        classes: names, C.
        counts: (G, C, 3), pairs, found and true segments of each group.
    """

    classes: tuple[str, ...]
    counts: Array

    @classmethod
    def of(
        cls, found: Sequence[Segments], true: Sequence[Segments], classes: Sequence[str], groups: Sequence[int]
    ) -> Agreement:
        """Count.

        Args:
            found, true: of N clips; those of other classes are left out.
            classes: names.
            groups: N numbers of groups, such as signers; those of the clips themselves where each is a group.

        Raises:
            ValueError: if there are not as many of one as of another.
        """
        names, places = np.unique(np.asarray(groups, np.intp), return_inverse=True)
        counts = np.zeros((len(names), len(classes), 3))
        for ours, theirs, place in zip(found, true, places, strict=True):
            for label, one in score(_plain(ours), _plain(theirs)).items():
                if label in classes:
                    counts[place, classes.index(label)] += one.matched, one.predicted, one.true
        return cls(tuple(classes), counts)

    def f1(self, label: str) -> Interval:
        """F1 of a class."""
        column = self.classes.index(label)
        return interval_of(len(self.counts), lambda chosen: self._drawn(chosen)[:, column])

    def macro(self) -> Interval:
        """The mean F1 of the classes."""
        return interval_of(len(self.counts), lambda chosen: self._drawn(chosen).mean(axis=1))

    def above(self, other: Agreement) -> Interval:
        """How far the mean F1 is above another one of the same groups."""

        def difference(chosen: NDArray[np.intp]) -> Array:
            apart: Array = (self._drawn(chosen) - other._drawn(chosen)).mean(axis=1)
            return apart

        return interval_of(len(self.counts), difference)

    def table(self) -> str:
        """A line for each class, with F1 and the number of true segments."""
        true = self.counts[:, :, 2].sum(axis=0)
        rows = zip(self.classes, true, strict=True)
        return "\n".join(f"  {label:16} {self.f1(label).text()}  of {count:.0f}" for label, count in rows)

    def _drawn(self, chosen: NDArray[np.intp]) -> Array:
        """(n, C), F1 of selections (n, G)."""
        matched, found, true = np.moveaxis(np.tensordot(times_drawn(chosen, len(self.counts)), self.counts, 1), -1, 0)
        f1: Array = 2 * matched / np.maximum(found + true, 1)
        return f1


def _plain(segments: Segments) -> list[Segment]:
    return [Segment(part.start_s, part.end_s, part.label) for part in segments]


def marker_inputs(recognizer: Recognizer, measures: Measures) -> Array:
    """(G, I), what the chain of markers sees of a video; the recognizer was trained without texture."""
    features, level = extract(measures), recognizer.level_one
    low = level.low(features, None)
    (evidence,) = level.evidence([low], [features])
    return recognizer.marker_inputs(low, evidence)


@torch.no_grad()
def log_odds(chain: LinearCrf, names: Sequence[str], inputs: Array, markers: tuple[str, str]) -> float:
    """Logarithm of the odds that a clip holds no marker but the first of two, to no marker but the second.

    Args:
        chain: of none and the phases of some markers.
        names: those markers.
        inputs: (G, I), what the chain sees of the clip.
        markers: two of them.
    """
    emissions = chain(torch.from_numpy(inputs)[None])
    every = torch.ones(emissions.shape[:2], dtype=torch.bool)

    def only(marker: str) -> float:
        first = 1 + 3 * names.index(marker)
        others = torch.ones(emissions.shape[-1], dtype=torch.bool)
        others[[0, first, first + 1, first + 2]] = False
        return float(chain.chain.log_partition(emissions.masked_fill(others, FORBIDDEN), every))

    return only(markers[0]) - only(markers[1])

"""What was found in a video as an ELAN document, with curves of the measures below it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np

from fyc.asl.analysis import Analysis
from fyc.asl.elan.curves import Curve, write_curves
from fyc.asl.elan.document import Annotation, Document, Media, Tier, Vocabulary
from fyc.asl.elan.write import write_eaf
from fyc.asl.output.csv_table import COLUMNS
from fyc.asl.segments import Segment

#: Tiers, with the labels that stand in each, and what they mean. Within a tier, an earlier label hides a later one.
TIERS: dict[str, dict[str, str]] = {
    "brows": {"brow-raise": "brows above rest", "brow-lower": "brows below rest"},
    "eyes": {"blink": "both eyes closed for a moment"},
    "head yaw": {"head-shake": "the head turns from side to side", "head-turn": "the head is turned to a side"},
    "head pitch": {"head-nod": "the head goes up and down"},
    "head roll": {"head-tilt": "the head is tilted to a shoulder"},
    "head lean": {"head-forward": "the head is moved forward"},
}
MARKER_TIER = "nonmanual markers"
#: What vocabularies say of labels of synthetic clips.
SYNTHETIC = "synthetic: scripted, nobody signs"
#: Where the face is lost, or the track is not to be trusted.
TRACK_TIER, LOST, UNSURE = "track", "lost", "unsure"
_TRACK = {
    LOST: "no face was followed here",
    UNSURE: "the confidence of the track is below 0.5, or more than a quarter of the face is covered",
}

_RED, _GREEN, _BLUE, _GREY = (200, 40, 40), (30, 130, 60), (40, 70, 190), (120, 120, 120)


@dataclass(frozen=True)
class Scheme:
    """Tiers of a document, with the labels that stand in each and what they mean.

    Attributes:
        events: by tier. Within a tier, an earlier label hides a later one.
        markers: empty if none were looked for.
        marker_tier: the name of their tier.
    """

    events: Mapping[str, dict[str, str]] = field(default_factory=lambda: TIERS)
    markers: dict[str, str] = field(default_factory=dict)
    marker_tier: str = MARKER_TIER


def write_annotation(
    analysis: Analysis,
    events: Sequence[Segment],
    markers: Sequence[Segment],
    scheme: Scheme,
    eaf: Path,
    csv: Path,
    properties: tuple[tuple[str, str], ...] = (),
) -> Document:
    """Write an ELAN document and what makes ELAN show the curves of a table below the video.

    Args:
        analysis: of the video.
        events, markers: that were found in it.
        scheme: tiers and labels.
        eaf: the document.
        csv: the table that `fyc.asl.output.csv_table.write_csv` wrote.
        properties: of the document.

    Raises:
        ElanError: if it cannot be written.
        ResourceError: FYC-S01 if the disk is full.
    """
    vocabularies = [Vocabulary(name, tuple(entries.items())) for name, entries in scheme.events.items()]
    if scheme.markers:
        vocabularies.insert(0, Vocabulary(scheme.marker_tier, tuple(scheme.markers.items())))
    vocabularies.append(Vocabulary(TRACK_TIER, tuple(_TRACK.items())))
    tiers = make_tiers(analysis, events, markers, scheme)
    linked = write_curves(eaf, csv, COLUMNS.index("time_s"), _curves())
    document = Document((Media(analysis.info.path),), tiers, tuple(vocabularies), linked, properties)
    write_eaf(document, eaf)
    return document


def make_tiers(
    analysis: Analysis, events: Sequence[Segment], markers: Sequence[Segment], scheme: Scheme
) -> tuple[Tier, ...]:
    """The tiers of a video: markers if any were looked for, events, and where the track is lost or unsure."""
    tiers = [make_tier(name, events, entries) for name, entries in scheme.events.items()]
    if scheme.markers:
        tiers.insert(0, make_tier(scheme.marker_tier, markers, scheme.markers))
    return *tiers, make_tier(TRACK_TIER, _doubtful(analysis), _TRACK)


def make_tier(name: str, segments: Sequence[Segment], entries: dict[str, str], participant: str = "") -> Tier:
    """A tier without overlaps: an earlier label hides a later one.

    Args:
        name: of the tier and of its vocabulary.
        segments: those with other labels are left out.
        entries: labels, with what they mean.
        participant: who is annotated.
    """
    kept: list[tuple[int, int, str]] = []
    for label in entries:
        for segment in segments:
            if segment.label == label:
                span = round(1000 * segment.start_s), round(1000 * segment.end_s)
                kept += [(start, end, label) for start, end in _free(*span, kept) if end > start]
    annotations = tuple(Annotation(*entry) for entry in sorted(kept))
    return Tier(name, annotations, participant=participant, vocabulary=name)


def _free(start: int, end: int, taken: Sequence[tuple[int, int, str]]) -> list[tuple[int, int]]:
    """Parts of a span that nothing takes."""
    parts = [(start, end)]
    for first, last, _ in taken:
        parts = [
            part
            for before, after in parts
            for part in ((before, min(after, first)), (max(before, last), after))
            if part[1] > part[0]
        ]
    return parts


def _doubtful(analysis: Analysis) -> list[Segment]:
    """Where the face is lost, or the track is unsure."""
    times = analysis.measures.time_s
    ends = np.append(times[1:], times[-1] + (np.median(np.diff(times)) if len(times) > 1 else 0.04))
    state = np.where(~analysis.seen, LOST, np.where(analysis.measures.doubtful, UNSURE, ""))
    changes = [0, *(np.flatnonzero(state[1:] != state[:-1]) + 1), len(state)]
    return [
        Segment(float(times[first]), float(ends[last - 1]), str(state[first]))
        for first, last in pairwise(changes)
        if state[first]
    ]


def _curves() -> tuple[Curve, ...]:
    """Brows, angles, eyes and confidence, in four panels."""

    def curve(column: str, units: str, span: tuple[float, float], colour: tuple[int, int, int], panel: int) -> Curve:
        return Curve(column, COLUMNS.index(column), units, *span, colour, panel)

    return (
        curve("brow_left", "cm", (-1, 1), _BLUE, 1),
        curve("brow_right", "cm", (-1, 1), _RED, 1),
        curve("yaw_deg", "deg", (-45, 45), _BLUE, 2),
        curve("pitch_deg", "deg", (-45, 45), _RED, 2),
        curve("roll_deg", "deg", (-45, 45), _GREEN, 2),
        curve("eye_left", "", (0, 1.5), _BLUE, 3),
        curve("eye_right", "", (0, 1.5), _RED, 3),
        curve("confidence", "", (0, 1), _GREY, 4),
    )

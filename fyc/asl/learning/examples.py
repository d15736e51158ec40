"""Annotated videos as examples for training: tiers become classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from fyc.asl.comparison import segments
from fyc.asl.learning.annotated import AnnotatedVideo, check_marked, common_tiers, tier_of
from fyc.asl.measures import Measures
from fyc.asl.recognition.training import Example
from fyc.asl.segments import Segment


@dataclass(frozen=True, repr=False)
class Material:
    """What a recognizer is trained on.

    Attributes:
        examples: a video each.
        marker_tier: name of the tier of markers.
        event_tiers: the tier of every class of events.
        signers_known: whether every document says who signs.
        synthetic: whether a document says that it is.
        notes: what should be known, one sentence each.
    """

    examples: tuple[Example, ...]
    marker_tier: str
    event_tiers: Mapping[str, str]
    signers_known: bool
    synthetic: bool
    notes: tuple[str, ...]


def material(videos: Sequence[tuple[AnnotatedVideo, Measures]]) -> Material:
    """Examples of documents and their measures.

    An event is a class by its label. If two tiers have the same label, it is two classes, TIER: LABEL. Frames in which
    the track is doubtful count as unknown, as in `fyc.asl.run.find`.

    Raises:
        ElanError: FYC-E09 if nothing is annotated.
    """
    documents = [video for video, _ in videos]
    check_marked(documents)
    kept, notes = common_tiers(documents)
    found = [{name: segments(tier_of(video, name)) for name in kept} for video in documents]
    classes = _classes(found, kept)
    examples = []
    for (video, measures), tiers in zip(videos, found, strict=True):
        events = [replace(part, label=classes[name, part.label]) for name in kept for part in tiers[name]]
        examples.append(Example(measures.trusted(), events, segments(video.markers), video.signer))
    event_tiers = {label: name for (name, _), label in classes.items()}
    marker_tier = Counter(video.markers.name for video in documents).most_common(1)[0][0]
    known = all(video.markers.participant for video in documents)
    synthetic = any(video.synthetic for video in documents)
    return Material(tuple(examples), marker_tier, event_tiers, known, synthetic, tuple(notes))


def _classes(found: Sequence[Mapping[str, Sequence[Segment]]], kept: Sequence[str]) -> dict[tuple[str, str], str]:
    """For each tier and label its class: the label, and the tier before it if another tier has the same."""
    pairs = sorted({(name, part.label) for tiers in found for name in kept for part in tiers[name]})
    times = Counter(label for _, label in pairs)
    return {(name, label): f"{name}: {label}" if times[label] > 1 else label for name, label in pairs}

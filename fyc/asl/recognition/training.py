"""Training of a recognizer from annotated videos."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from fyc.asl.face.camera import Array
from fyc.asl.measures import Measures
from fyc.asl.recognition.context import Pca, Standard, folds
from fyc.asl.recognition.features import FEATURES, RATE, Features, extract, on_grid
from fyc.asl.recognition.phases import PhasedSegment, Tags, tags_of
from fyc.asl.recognition.recognizer import (
    About,
    EventLevel,
    Recognizer,
    level_one_inputs,
    level_two_inputs,
    new_chain,
    raw_features,
)
from fyc.asl.segments import Segment

#: Level 1 is trained so many times on the other videos, to say what it says of videos that it has not seen.
FOLDS = 3
#: Principal components of texture.
TEXTURE = 24
#: Events that accompany a marker, and how often level 2 is trained on a video in which one of them was missed.
ACCOMPANYING = ("head-forward", "head-tilt", "head-turn", "head-nod")
MISSED = 0.3
#: Longer videos are learned from in pieces of this many seconds: a chain goes from moment to moment, many in a step.
PIECE_S = 30.0


@dataclass(frozen=True)
class Example:
    """An annotated video.

    Attributes:
        measures: of its T frames.
        events, markers: what happens in it; without phases, onsets and offsets are taken to have the usual length.
        signer: who signs. Videos of a signer are not used to say how well events are found in others of theirs.
        texture: (T, P), descriptors of its frames; None without.
    """

    measures: Measures
    events: Sequence[Segment | PhasedSegment]
    markers: Sequence[Segment | PhasedSegment]
    signer: str = ""
    texture: Array | None = None


@dataclass(frozen=True)
class Settings:
    """How to train.

    Attributes:
        l2_events, l2_markers: penalties of the levels.
        iterations: of L-BFGS, at most.
        features: the low-level features that are used.
    """

    l2_events: float = 10.0
    l2_markers: float = 100.0
    iterations: int = 60
    features: tuple[str, ...] = FEATURES


@dataclass
class _Prepared:
    """Videos on the grid."""

    features: list[Features]
    textures: list[Array | None]
    groups: list[str]
    examples: Sequence[Example]
    lows: list[Array] = field(default_factory=list)


def train(
    examples: Sequence[Example],
    data: str,
    synthetic: bool,
    settings: Settings | None = None,
    report: Callable[[str], None] = lambda _: None,
) -> Recognizer:
    """Train both levels. The same examples give the same recognizer.

    Kinds of events and markers are those that are annotated. Of standard events that are not, level 2 sees what the
    rules of `fyc.asl.recognition.events` say; without annotated markers there is no level 2.

    Args:
        examples: annotated videos, with texture in all or in none.
        data: its name, for the file.
        synthetic: whether the data is.
        settings: how.
        report: is told what is being trained.

    Raises:
        ValueError: if there are no examples, or nothing is annotated, or only some have texture.
    """
    settings = settings or Settings()
    events = tuple(sorted({part.label for example in examples for part in example.events}))
    markers = tuple(sorted({part.label for example in examples for part in example.markers}))
    if not events and not markers:
        raise ValueError("nothing is annotated in the examples")
    if len({example.texture is None for example in examples}) > 1:
        raise ValueError("either all examples have texture or none has")
    prepared = _prepare(examples)
    everything = np.arange(len(examples))
    level_one = _untrained(prepared, settings)
    prepared.lows = [level_one.low(*pair) for pair in zip(prepared.features, prepared.textures, strict=True)]
    report("events")
    level_one = _with_chains(level_one, prepared, everything, events, settings)
    if not markers:
        nothing = Standard(np.zeros(0), np.zeros(0))
        return Recognizer(About(data, synthetic, len(examples)), level_one, (), nothing, None)
    evidence = _unseen_evidence(level_one, prepared, settings, report)
    textures = [low[:, len(settings.features) :] for low in prepared.lows]
    shown = evidence + with_events_missed(evidence, events, level_one.by_rules)
    pairs = zip(shown, textures + textures, strict=True)
    rows = [level_two_inputs(part, len(events), texture) for part, texture in pairs]
    standard = Standard.fit(rows[: len(examples)])
    report("markers")
    level_two = new_chain(rows[0].shape[1], len(markers))
    tags = [
        tags_of(example.markers, markers, one.time_s) for example, one in zip(examples, prepared.features, strict=True)
    ]
    pieces = in_pieces([standard.apply(row) for row in rows], tags + tags)
    level_two.fit(*pieces, settings.l2_markers, settings.iterations)
    return Recognizer(About(data, synthetic, len(examples)), level_one, markers, standard, level_two)


def with_events_missed(evidence: list[Array], classes: tuple[str, ...], by_rules: tuple[str, ...]) -> list[Array]:
    """What level 1 says, with some accompanying events missed in each video, so that level 2 relies on no single one.

    In training data a marker may never come without some event; then all else that tells it would go unlearned.

    Args:
        evidence: for each video (G, 3 E + R).
        classes: the annotated events, E.
        by_rules: the others, R.
    """
    chance = np.random.default_rng(0)
    shown = (*classes, *by_rules)
    columns = np.repeat(np.arange(len(shown)), [3] * len(classes) + [1] * len(by_rules))
    spared = np.array([label not in ACCOMPANYING for label in shown])
    kept = [spared | (chance.uniform(size=len(shown)) >= MISSED) for _ in evidence]
    return [part * keep[columns] for part, keep in zip(evidence, kept, strict=True)]


def in_pieces(rows: Sequence[Array], tags: Sequence[Tags]) -> tuple[list[Array], list[Tags]]:
    """Videos cut into pieces, where nothing is annotated if that can be.

    Args:
        rows: for each video (G, D).
        tags: for each video (G,), or (K, G).

    Returns:
        The same for each piece.
    """
    parts, labels = [], []
    for row, tag in zip(rows, tags, strict=True):
        free = (tag == 0).reshape(-1, len(row)).all(axis=0)
        start, most = 0, round(PIECE_S * RATE)
        while start < len(row):
            end = min(start + most, len(row))
            gaps = np.flatnonzero(free[start + most // 2 : end]) if end < len(row) else np.zeros(0, int)
            end = start + most // 2 + int(gaps[-1]) if len(gaps) else end
            parts.append(row[start:end])
            labels.append(tag[..., start:end])
            start = end
    return parts, labels


def _prepare(examples: Sequence[Example]) -> _Prepared:
    textures = [None if one.texture is None else on_grid(one.measures.time_s, one.texture) for one in examples]
    groups = [example.signer or f"video {number}" for number, example in enumerate(examples)]
    return _Prepared([extract(example.measures) for example in examples], textures, groups, examples)


def _untrained(prepared: _Prepared, settings: Settings) -> EventLevel:
    """Level 1 with standardisation and principal components, but no chains."""
    known = [texture for texture in prepared.textures if texture is not None]
    pca = Pca.fit(known, TEXTURE) if known else None
    pairs = zip(prepared.features, prepared.textures, strict=True)
    rows = [raw_features(features, texture, settings.features, pca) for features, texture in pairs]
    return EventLevel((), settings.features, Standard.fit(rows), pca, None)


def _with_chains(
    level: EventLevel,
    prepared: _Prepared,
    chosen: np.ndarray[tuple[int, ...], np.dtype[np.intp]],
    classes: tuple[str, ...],
    settings: Settings,
) -> EventLevel:
    """The same level, with chains that were trained on the chosen videos."""
    if not classes:
        return level
    inputs = [level_one_inputs(prepared.lows[number]) for number in chosen]
    tags = [
        np.stack([
            tags_of(prepared.examples[number].events, (label,), prepared.features[number].time_s) for label in classes
        ])
        for number in chosen
    ]  # fmt: skip
    chains = new_chain(inputs[0].shape[1], 1, len(classes))
    chains.fit(*in_pieces(inputs, tags), settings.l2_events, settings.iterations)
    return EventLevel(classes, level.used, level.standard, level.texture, chains)


def _unseen_evidence(
    level: EventLevel, prepared: _Prepared, settings: Settings, report: Callable[[str], None]
) -> list[Array]:
    """What level 1 says of every video when it was trained without that video, and without its signer.

    Level 2 would otherwise learn to trust level 1 more than it deserves.
    """
    places = folds(prepared.groups, FOLDS)
    if level.chains is None or len(set(places.tolist())) < 2:
        return level.evidence(prepared.lows, prepared.features)
    said: dict[int, Array] = {}
    for fold in sorted(set(places.tolist())):
        report(f"events, without fold {fold + 1}")
        others, own = np.flatnonzero(places != fold), np.flatnonzero(places == fold)
        trained = _with_chains(level, prepared, others, level.classes, settings)
        part = trained.evidence([prepared.lows[n] for n in own], [prepared.features[n] for n in own])
        said |= dict(zip(own.tolist(), part, strict=True))
    return [said[number] for number in range(len(prepared.features))]

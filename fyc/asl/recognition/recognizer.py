"""Recognition in two levels of conditional random fields: events first, then the grammatical markers that they make.

After the abstracts of Metaxas et al. (LREC 2012) and Liu et al. (2013, 2014), which name two levels, events of
varying length, low-level statistics and phases. What exactly the levels see is ours. Level 1 is a chain for each kind
of event over low-level features and their windows, with onset, core and offset. Level 2 is one chain for all markers.
It sees what level 1 says of the moment, of windows up to two seconds away and of how long each event lasts, and
texture. Of events that have rules but were not annotated it sees the scores of the rules. It does not see low-level
geometry again: with it, markers were found less well in the synthetic corpus `check`.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from fyc.asl.face.camera import Array
from fyc.asl.files import write_whole
from fyc.asl.measures import Measures
from fyc.asl.recognition import events as rules
from fyc.asl.recognition.context import FAR, NEAR, Pca, Standard, run_lengths, window_means
from fyc.asl.recognition.crf import LinearChain, LinearCrf
from fyc.asl.recognition.features import FEATURES, Features, extract, from_grid, on_grid
from fyc.asl.recognition.phases import PhasedSegment, phase_order, segments_of
from fyc.errors import ModelError

#: Of the format of the files. The number goes up, too, when a threshold of the rules changes: level 2 has learned from
#: their scores.
_NAME = "fyc-asl-recognizer-"
FORMAT = f"{_NAME}2"


@dataclass(frozen=True)
class Recognition:
    """What happens in a video of T frames.

    Attributes:
        events, markers: segments, by label and time. Markers do not overlap; events of different labels may.
        event_names, marker_names: E and M classes.
        event_probabilities, marker_probabilities: (T, E) and (T, M), whether the frame lies in such a segment.
    """

    events: list[PhasedSegment]
    markers: list[PhasedSegment]
    event_names: tuple[str, ...]
    marker_names: tuple[str, ...]
    event_probabilities: Array
    marker_probabilities: Array


@dataclass(frozen=True)
class About:
    """What a recognizer was trained on.

    Attributes:
        data: its name.
        synthetic: whether it is synthetic: then a recognizer says nothing about a language.
        videos: how many.
        marker_tier: name of the tier that the markers were annotated in; empty if that is not known.
        event_tiers: the tier of each kind of events, as far as that is known.
        rules_instead: kinds of events that `fyc.asl.recognition.events` finds no worse than level 1 does.
    """

    data: str
    synthetic: bool
    videos: int
    marker_tier: str = ""
    event_tiers: Mapping[str, str] = field(default_factory=dict)
    rules_instead: tuple[str, ...] = ()


@dataclass
class EventLevel:
    """Level 1.

    Attributes:
        classes: the events, E.
        used: names of the features it sees.
        standard: of these features, and of the texture behind them.
        texture: reduces texture; None without.
        chains: one an event, side by side; None if no events were annotated: then `fyc.asl.recognition.events` speaks.
    """

    classes: tuple[str, ...]
    used: tuple[str, ...]
    standard: Standard
    texture: Pca | None
    chains: LinearCrf | None

    @property
    def by_rules(self) -> tuple[str, ...]:
        """Events with rules that were not annotated, R."""
        return tuple(label for label in rules.RULES if label not in self.classes)

    def low(self, features: Features, texture: Array | None) -> Array:
        """(G, D), standardised low-level features; texture (G, P) is on the grid."""
        rows = raw_features(features, texture, self.used, self.texture)
        return self.standard.apply(rows)

    def evidence(self, lows: list[Array], features: list[Features]) -> list[Array]:
        """For each video (G, 3 E + R): how probable onset, core and offset of each event are, and scores of rules.

        Args:
            lows: for each video what `low` returned.
            features: of the same videos.
        """
        columns = [label not in self.classes for label in rules.RULES]
        graded = [rules.scores(one)[:, columns] for one in features]
        if self.chains is None:
            return graded
        said = self.chains.probabilities([level_one_inputs(low) for low in lows])
        phases = [rows[..., 1:].transpose(1, 0, 2).reshape(rows.shape[1], -1) for rows in said]
        return [np.column_stack(both) for both in zip(phases, graded, strict=True)]


@dataclass
class Recognizer:
    """Finds events and markers.

    Attributes:
        about: what it was trained on.
        level_one: events.
        markers: classes of level 2, M.
        standard: of the inputs of level 2.
        level_two: the chain of the markers; None if there were none to learn.
    """

    about: About
    level_one: EventLevel
    markers: tuple[str, ...]
    standard: Standard
    level_two: LinearCrf | None

    def recognise(self, measures: Measures, texture: Array | None = None) -> Recognition:
        """Find everything in a video.

        Args:
            measures: of T frames.
            texture: (T, P), descriptors of the frames, NaN where unknown; needed if and only if the recognizer was
                trained with it.

        Raises:
            ValueError: if texture is missing, or not expected, or the video has no frame.
        """
        if (texture is None) != (self.level_one.texture is None):
            raise ValueError("texture must be given if and only if the recognizer was trained with it")
        features = extract(measures)
        gridded = None if texture is None else on_grid(measures.time_s, texture)
        low = self.level_one.low(features, gridded)
        (evidence,) = self.level_one.evidence([low], [features])
        found, names, presence = self._events(features, low, evidence)
        markers, marked = self._markers(features, low, evidence)
        return Recognition(
            found, markers, names, self.markers, from_grid(features.time_s, presence, measures.time_s),
            from_grid(features.time_s, marked, measures.time_s),
        )  # fmt: skip

    def _events(
        self, features: Features, low: Array, evidence: Array
    ) -> tuple[list[PhasedSegment], tuple[str, ...], Array]:
        level = self.level_one
        if level.chains is None:
            return rules.detect(features), level.by_rules, evidence
        presence = present(evidence[:, : 3 * len(level.classes)], 3)
        (tags,) = level.chains.decode([level_one_inputs(low)])
        found = []
        for number, label in enumerate(level.classes):
            found += segments_of(tags[number], (label,), features.time_s, presence[:, number : number + 1])
        return found, level.classes, presence

    def _markers(self, features: Features, low: Array, evidence: Array) -> tuple[list[PhasedSegment], Array]:
        if self.level_two is None:
            return [], np.zeros((len(low), 0))
        inputs = self.marker_inputs(low, evidence)
        (rows,), (tags,) = self.level_two.probabilities([inputs]), self.level_two.decode([inputs])
        presence = present(rows[:, 1:], 3)
        found = segments_of(tags, self.markers, features.time_s, presence)
        return sorted(found, key=lambda part: (part.label, part.start_s)), presence

    def marker_inputs(self, low: Array, evidence: Array) -> Array:
        """(G, I), what level 2 sees, from low-level features (G, D) and from what level 1 says."""
        texture = low[:, len(self.level_one.used) :]
        return self.standard.apply(level_two_inputs(evidence, len(self.level_one.classes), texture))

    def save(self, path: Path) -> None:
        """Write the recognizer as safetensors, whole or not at all; the same recognizer gives the same bytes.

        Raises:
            ElanError: FYC-E05 if it cannot be written.
            ResourceError: FYC-S01 if the disk is full.
        """
        one = self.level_one
        tensors = {"standard_one.mean": one.standard.mean, "standard_one.deviation": one.standard.deviation}
        tensors |= {"standard_two.mean": self.standard.mean, "standard_two.deviation": self.standard.deviation}
        if one.texture:
            tensors |= {"texture.mean": one.texture.mean, "texture.components": one.texture.components}
        chains = {"events": one.chains, "markers": self.level_two}
        for name, chain in ((name, chain) for name, chain in chains.items() if chain is not None):
            tensors |= {f"{name}.{key}": value.numpy() for key, value in chain.state_dict().items()}
        metadata = {
            "format": FORMAT, "data": self.about.data, "synthetic": json.dumps(self.about.synthetic),
            "videos": json.dumps(self.about.videos), "events": json.dumps(one.classes),
            "markers": json.dumps(self.markers), "features": json.dumps(one.used),
            "marker_tier": self.about.marker_tier, "event_tiers": json.dumps(dict(self.about.event_tiers)),
            "rules_instead": json.dumps(self.about.rules_instead),
        }  # fmt: skip
        content = save({name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}, metadata)
        write_whole(path, _in_order(content))


def load_recognizer(path: Path) -> Recognizer:
    """Read a recognizer; nothing in it is executed.

    Raises:
        ModelError: FYC-M01 if there is no such file, FYC-M03 if it is damaged or something else, FYC-M05 if another
            version of fyc wrote it, whose recognizers see something else.
    """
    if not path.is_file():
        raise ModelError("FYC-M01", "the recognizer cannot be found", where=str(path), next="check the path")
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            _check_format(metadata.get("format"), path)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dictionary
        return _assembled(metadata, tensors)
    except (SafetensorError, ValueError, KeyError, TypeError, RuntimeError, OSError) as error:
        raise ModelError(
            "FYC-M03", "this is not a recognizer, or a damaged one", where=str(path), why=str(error),
            next="train it again with `fyc asl train`",
        ) from error  # fmt: skip


def _check_format(found: str | None, path: Path) -> None:
    if found == FORMAT:
        return
    if found is None or not found.startswith(_NAME):
        raise ValueError(f"its format is {found!r}, not {FORMAT!r}")
    raise ModelError(
        "FYC-M05", "another version of fyc wrote this recognizer", where=str(path),
        why=f"its format is {found!r}, this fyc reads {FORMAT!r}",
        next="train it again with `fyc asl train`; tables that are in its folder are used again",
    )  # fmt: skip


def _assembled(metadata: dict[str, str], tensors: dict[str, Array]) -> Recognizer:
    classes, markers, used = (tuple(json.loads(metadata[key])) for key in ("events", "markers", "features"))
    unknown = set(used) - set(FEATURES)
    if unknown:
        raise ValueError(f"it needs features that do not exist: {', '.join(sorted(unknown))}")
    texture = Pca(tensors["texture.mean"], tensors["texture.components"]) if "texture.mean" in tensors else None
    standards = [
        Standard(tensors[f"{name}.mean"], tensors[f"{name}.deviation"]) for name in ("standard_one", "standard_two")
    ]
    events = new_chain(len(tensors["events.weight"]), 1, len(classes)) if classes else None
    level_two = new_chain(len(tensors["markers.weight"]), len(markers)) if markers else None
    for name, chain in {"events": events, "markers": level_two}.items():
        if chain is not None:
            chain.load_state_dict({key: torch.from_numpy(tensors[f"{name}.{key}"]) for key in chain.state_dict()})
    low = len(used) + (len(texture.components) if texture else 0)
    if len(standards[0].mean) != low or (level_two is not None and len(standards[1].mean) != len(level_two.weight)):
        raise ValueError("its standardisation does not fit its features")
    about = About(
        metadata["data"], json.loads(metadata["synthetic"]), json.loads(metadata["videos"]), metadata["marker_tier"],
        dict(json.loads(metadata["event_tiers"])), tuple(json.loads(metadata["rules_instead"])),
    )  # fmt: skip
    return Recognizer(about, EventLevel(classes, used, standards[0], texture, events), markers, standards[1], level_two)


def _in_order(content: bytes) -> bytes:
    """A safetensors file with sorted metadata: the library writes them in an order of chance."""
    (length,) = struct.unpack("<Q", content[:8])
    words = json.dumps(json.loads(content[8 : 8 + length]), sort_keys=True).encode()
    words += b" " * (-len(words) % 8)
    return struct.pack("<Q", len(words)) + words + content[8 + length :]


def new_chain(features: int, classes: int, side_by_side: int | None = None) -> LinearCrf:
    """An untrained chain of none and the phases of some classes, or several chains."""
    return LinearCrf(features, LinearChain(1 + 3 * classes, *phase_order(classes), side_by_side=side_by_side))


def raw_features(features: Features, texture: Array | None, used: tuple[str, ...], pca: Pca | None) -> Array:
    """(G, D), the features that are used, and texture (G, P) reduced; NaN where unknown."""
    rows = features.values[:, [FEATURES.index(name) for name in used]]
    return rows if texture is None or pca is None else np.column_stack([rows, pca.apply(texture)])


def level_one_inputs(low: Array) -> Array:
    """(G, 5 D), low-level features (G, D) of the moment and their means in windows up to half a second away."""
    return np.column_stack([low, window_means(low, NEAR)])


def level_two_inputs(evidence: Array, learned: int, texture: Array) -> Array:
    """What level 2 sees, before it is standardised.

    Args:
        evidence: (G, 3 E + R), what `EventLevel.evidence` returns.
        learned: E.
        texture: (G, K), principal components, standardised; K is 0 without.
    """
    there = np.column_stack([present(evidence[:, : 3 * learned], 3), evidence[:, 3 * learned :]])
    seen = [evidence, window_means(there, FAR), run_lengths(there), texture, window_means(texture, NEAR)]
    return np.concatenate(seen, axis=1)


def present(phases: Array, each: int) -> Array:
    """(G, E), probabilities that a moment lies within a segment, from those of its phases (G, E x each)."""
    sums: Array = phases.reshape(len(phases), phases.shape[1] // each, each).sum(axis=2)
    return sums

"""Events that need no training: brows, head and lids against thresholds, with onset, core and offset.

A signal of every event is compared with two thresholds (hysteresis): it has to reach `enter`, and then counts for as
long as it stays above `leave` and above a part of its own peak. Those of the head and the eyes were tuned on the
synthetic corpora `fit` and `check` (landmarks with the errors of a network), those of brows and the shortest nod on 56
rendered sentences of `check` that went through the whole analysis, which shows 0.7 of what brows do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fyc.asl.face.camera import Array
from fyc.asl.recognition.features import RATE, Features
from fyc.asl.recognition.phases import PhasedSegment


@dataclass(frozen=True)
class Rule:
    """When an event is there.

    Attributes:
        signal: (G,) of features, the larger the more.
        unit: of the signal.
        enter, leave: thresholds in that unit.
        least_s, most_s: shortest and longest duration in seconds.
        edge: an event begins and ends where its signal is this part of its peak.
        core: the core is where the signal is above this part of its peak.
    """

    signal: Callable[[Features], Array]
    unit: str
    enter: float
    leave: float
    least_s: float
    most_s: float = np.inf
    edge: float = 0.15
    core: float = 0.85


def _raised(features: Features) -> Array:
    return 0.5 * (features.column("brow_inner") + features.column("brow_outer"))


def _lowered(features: Features) -> Array:
    return -0.5 * (features.column("brow_inner") + features.column("brow_outer"))


def _swing(features: Features, axis: str, regularity: str) -> Array:
    """Amplitude of what swings at the rate of a shake; less where it is irregular."""
    amplitude = np.maximum(features.column(f"{axis}.swing_slow"), features.column(f"{axis}.swing_quick"))
    return np.asarray(amplitude * np.minimum(features.column(f"{axis}.{regularity}") / 0.4, 1), np.float64)


def _shaken(features: Features) -> Array:
    return _swing(features, "yaw", "rhythm")


def _nodded(features: Features) -> Array:
    """A nod may go down and up only once."""
    return _swing(features, "pitch", "reversal")


def _tilted(features: Features) -> Array:
    return features.column("roll.size")


def _forward(features: Features) -> Array:
    return features.column("z")


def _turned(features: Features) -> Array:
    """A turn that is no shake."""
    return features.column("yaw.size") - 1.5 * _shaken(features)


def _closed(features: Features) -> Array:
    return 1 - features.column("eyes")


RULES: dict[str, Rule] = {
    "brow-raise": Rule(_raised, "cm above rest", 0.15, 0.03, 0.2, edge=0.3),
    "brow-lower": Rule(_lowered, "cm below rest", 0.18, 0.08, 0.2, edge=0.25),
    "head-shake": Rule(_shaken, "degrees of amplitude", 0.75, 0.4, 0.4, edge=0.5),
    "head-nod": Rule(_nodded, "degrees of amplitude", 1.4, 0.8, 0.5, edge=0.6),
    "head-tilt": Rule(_tilted, "degrees from rest", 3.2, 1.4, 0.3, edge=0.35),
    "head-forward": Rule(_forward, "cm from rest", 2.0, 1.2, 0.3, edge=0.35),
    "head-turn": Rule(_turned, "degrees from rest", 5.2, 2.4, 0.3, edge=0.35),
    "blink": Rule(_closed, "part of the open eye", 0.5, 0.3, 0.06, 0.5, edge=0.35),
}
#: Pauses up to this many seconds within an event are no end of it.
_PAUSE_S = 0.1


def scores(features: Features) -> Array:
    """(G, 8), 0 to 1, how much of each event of `RULES` there is: 1/2 half way between the thresholds.

    It says nothing of durations. Where nothing is known it is 0.
    """
    columns = []
    for rule in RULES.values():
        middle, width = (rule.enter + rule.leave) / 2, (rule.enter - rule.leave) / 4
        columns.append(1 / (1 + np.exp(-np.clip((rule.signal(features) - middle) / width, -30, 30))))
    return np.nan_to_num(np.column_stack(columns), nan=0.0)


def detect(features: Features) -> list[PhasedSegment]:
    """All events, by label and time; those of different labels may overlap."""
    graded = scores(features)
    found = []
    for number, (label, rule) in enumerate(RULES.items()):
        signal = np.nan_to_num(rule.signal(features), nan=-np.inf)
        for first, end in _stretches(signal, rule):
            if rule.least_s - 1e-6 <= (end - first) / RATE <= rule.most_s + 1e-6:
                found.append(_phased(signal, first, end, rule, label, features, graded[:, number]))
    return found


def _stretches(signal: Array, rule: Rule) -> list[tuple[int, int]]:
    """First moments and those after the last, of all that reaches `enter`."""
    found: list[tuple[int, int]] = []
    above = signal > rule.leave
    for first, end in _runs(above):
        peak = float(signal[first:end].max())
        if peak < rule.enter:
            continue
        for start, stop in _joined(_runs(signal[first:end] >= rule.edge * peak)):
            if float(signal[first + start : first + stop].max()) >= rule.enter:
                found.append((first + start, first + stop))
    return _joined(found)


def _joined(stretches: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Stretches, those with a short pause between them made one."""
    joined: list[tuple[int, int]] = []
    for start, stop in stretches:
        near = bool(joined) and start - joined[-1][1] <= _PAUSE_S * RATE
        joined.append((joined.pop()[0] if near else start, stop))
    return joined


def _phased(
    signal: Array, first: int, end: int, rule: Rule, label: str, features: Features, graded: Array
) -> PhasedSegment:
    part = signal[first:end]
    core = np.flatnonzero(part >= rule.core * np.quantile(part, 0.8))
    begin, core_s, offset_s, stop = (
        float(features.time_s[0] + index / RATE)
        for index in (first, first + int(core[0]), first + int(core[-1]) + 1, end)
    )
    return PhasedSegment(begin, core_s, offset_s, stop, label, float(graded[first:end].mean()))


def _runs(flags: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> list[tuple[int, int]]:
    """Where flags are true: first and after the last."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [(int(first), int(end)) for first, end in edges.reshape(-1, 2)]

"""Clips that try trackers: poses, moving brows, and everything that makes one lose a face. No grammar. Synthetic.

A trial has a kind, a split (of heads and textures) and a number; the same three give the same clip.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from fyc.asl.synthetic.corpora import CORPORA, FPS, draw_shot
from fyc.asl.synthetic.expression import BROWS
from fyc.asl.synthetic.heads import HEAD_SPLITS
from fyc.asl.synthetic.motion import Timeline, envelope, wander
from fyc.asl.synthetic.script import Occluder, Quality, Script, Segment, Signer
from fyc.asl.synthetic.seeds import generator

Draw = np.random.Generator

#: Frames before something happens.
_LEAD = 30


def _signer(split: str, number: int) -> Signer:
    field = next(corpus.brow_field for corpus in CORPORA.values() if corpus.split == split)
    return Signer(split, number % HEAD_SPLITS[split], number, field)


def _script(name: str, signer: Signer, timeline: Timeline, rng: Draw) -> Script:
    curves, segments = timeline.finish(blur=0.7)
    return Script(name, signer, curves, (draw_shot(rng),), segments, quality=Quality(noise=1.5))


def _moving(rng: Draw, seconds: float, yaw: float, pitch: float, roll: float) -> Timeline:
    """A head that looks around within about these angles, with blinks."""
    timeline = Timeline(seconds, FPS)
    for name, size in (("yaw", yaw), ("pitch", pitch), ("roll", roll)):
        swing = np.tanh(0.8 * wander(rng, timeline.frames, 0.5 * FPS)) * size
        timeline.add(name, swing)
    for name in ("x", "y", "z"):
        timeline.add(name, 0.8 * wander(rng, timeline.frames, FPS))
    for second in np.arange(rng.uniform(0.5, 2.5), seconds - 0.5, 3.1):
        timeline.blink(second, rng.uniform(0.13, 0.22))
    return timeline


def _poses(name: str, signer: Signer, rng: Draw) -> Script:
    """Sixty unrelated poses to +-45 degrees yaw, +-25 pitch, +-20 roll, with any expression: single pictures."""
    timeline = Timeline(60 / FPS, FPS)
    for angle, size in (("yaw", 45), ("pitch", 25), ("roll", 20)):
        timeline.add(angle, rng.uniform(-size, size, timeline.frames))
    for brow in BROWS:
        timeline.add(brow, rng.uniform(-0.4, 0.5, timeline.frames))
    timeline.add("mouth", np.maximum(rng.uniform(-1, 1.2, timeline.frames), 0))
    script = _script(name, signer, timeline, rng)
    return replace(script, curves=timeline.curves, quality=Quality())


def _brows(name: str, signer: Signer, rng: Draw) -> Script:
    """Twenty seconds: the head moves all the time; the brows are at rest, or raised by 0.35 cm."""
    timeline = _moving(rng, 20, 25, 22, 12)
    at = rng.uniform(0.5, 1.2)
    while at < 18.5:
        length = rng.uniform(0.7, 1.4)
        raised = timeline.mark("event", "brow-raise", at, at + length, 0.2, 0.2)
        timeline.brows(raised, 0.35, 0.35, 0)
        at += length + rng.uniform(0.6, 1.3)
    script = _script(name, signer, timeline, rng)
    return replace(script, quality=Quality())


def _turning(name: str, signer: Signer, rng: Draw) -> Script:
    """Ten seconds of a head that turns to +-45 degrees."""
    return _script(name, signer, _moving(rng, 10, 45, 22, 18), rng)


def _occluded(path: tuple[tuple[float, float, float], ...], occluder: Occluder, script: Script) -> Script:
    return replace(script, occluders=(replace(occluder, path=path),))


def _hand(name: str, signer: Signer, rng: Draw) -> Script:
    """A hand crosses the face in 0.6 to 1.2 seconds."""
    script = _script(name, signer, _moving(rng, 5, 15, 8, 5), rng)
    end = _LEAD + int(rng.integers(18, 36))
    side = 1 if rng.uniform() < 0.5 else -1
    y, z = rng.uniform(-6, 3), rng.uniform(9, 12)
    hand = Occluder(
        "hand", _LEAD, end, (), float(rng.uniform(-40, 40)), float(rng.uniform(0.6, 1)), int(rng.integers(10**6))
    )
    return _occluded(((-20.0 * side, y - 4, z), (0.0, y, z), (20.0 * side, y - 4, z)), hand, script)


def _half(name: str, signer: Signer, rng: Draw) -> Script:
    """A panel slides over the left or the right half of the face, stays for a second, and leaves."""
    script = _script(name, signer, _moving(rng, 5, 20, 10, 5), rng)
    side = 1 if rng.uniform() < 0.5 else -1
    panel = Occluder("panel", _LEAD, _LEAD + 60, (), 0, 1, int(rng.integers(10**6)))
    near, away = (6.5 * side, 0.0, 10.0), (26.0 * side, 0.0, 10.0)
    return _occluded((away, near, near, near, away), panel, script)


def _cut(name: str, signer: Signer, rng: Draw) -> Script:
    """After two seconds another camera, and another pose."""
    script = _script(name, signer, _moving(rng, 4, 12, 6, 5), rng)
    curves = script.curves.copy()
    curves[60:, 10:13] += rng.uniform(-1, 1, 3) * (18, 8, 8)
    return replace(script, curves=curves, shots=(*script.shots, replace(draw_shot(rng), start=60)))


def _blackout(name: str, signer: Signer, rng: Draw) -> Script:
    """Three to twenty black frames; the head goes on moving."""
    script = _script(name, signer, _moving(rng, 4, 25, 12, 8), rng)
    return replace(script, blackouts=((45, 45 + int(rng.integers(3, 21))),))


def _two_faces(name: str, signer: Signer, rng: Draw) -> Script:
    """A second person stands behind."""
    script = _script(name, signer, _moving(rng, 4, 20, 10, 6), rng)
    other = replace(signer, head=(signer.head + 1) % HEAD_SPLITS[signer.split], looks=signer.looks + 1)
    (shot,) = script.shots
    place = (-6.0 if shot.place[0] < 0 else 6.0, shot.place[1], shot.place[2])
    return replace(script, shots=(replace(shot, place=place, bystander=other),))


def _profile(name: str, signer: Signer, rng: Draw) -> Script:
    """The head turns to a profile, +-75 to 90 degrees, and back."""
    timeline = _moving(rng, 5, 8, 6, 4)
    turn = Segment("event", "head-turn", 30, 60, 90, 120)
    timeline.segments.append(turn)
    side = 1 if rng.uniform() < 0.5 else -1
    timeline.add("yaw", side * rng.uniform(75, 90) * envelope(timeline.frames, turn))
    return _script(name, signer, timeline, rng)


def _quality(quality: Callable[[Draw], Quality]) -> Callable[[str, Signer, Draw], Script]:
    def make(name: str, signer: Signer, rng: Draw) -> Script:
        return _script(name, signer, _moving(rng, 5, 30, 15, 10), rng).degraded(quality(rng))

    return make


#: What there is, by kind.
TRIALS: dict[str, Callable[[str, Signer, Draw], Script]] = {
    "poses": _poses,
    "brows": _brows,
    "turning": _turning,
    "hand": _hand,
    "half-face": _half,
    "cut": _cut,
    "blackout": _blackout,
    "two-faces": _two_faces,
    "profile": _profile,
    "dark": _quality(lambda rng: Quality(gain=float(rng.uniform(0.12, 0.3)), noise=float(rng.uniform(5, 10)))),
    "blurred": _quality(lambda rng: Quality(blur=float(rng.uniform(1.5, 4)))),
    "smeared": _quality(lambda rng: Quality(shutter=1.0, noise=2)),
    "few-pixels": _quality(lambda rng: Quality(shrink=float(rng.uniform(3, 5)), noise=2)),
}


def trial(kind: str, split: str, number: int) -> Script:
    """The clip of a kind with this number.

    Args:
        kind: a key of `TRIALS`.
        split: of heads and textures, a key of `HEAD_SPLITS`.
        number: any; heads repeat after as many as the split has, looks do not.

    Raises:
        KeyError: if there is no such kind or split.
    """
    rng = generator("trial", kind, split, number)
    return TRIALS[kind](f"{kind}-{split}-{number}", _signer(split, number), rng)

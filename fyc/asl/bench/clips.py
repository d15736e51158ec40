"""Synthetic clips with everything that makes one lose a face, and what a system says of their frames beside the truth.

All systems see the same frames. Right is a mean error of the 468 points of at most 10 % of the distance of the outer
eye corners, as it would be seen from the front at the face's depth; in a black frame, or where the face has left the
picture, nothing is right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np

from fyc.asl.face.camera import Array
from fyc.asl.face.detector import Image
from fyc.asl.face.litert import Floats
from fyc.asl.synthetic.projection import HEIGHT, WIDTH, FrameTruth
from fyc.asl.synthetic.render import Studio
from fyc.asl.synthetic.script import COLUMN, Occluder, Script
from fyc.asl.synthetic.trials import trial
from fyc.asl.tracking.confidence import Evidence

#: The most error of what is right, as a part of the distance of the outer eye corners.
RIGHT = 0.10
KINDS = (
    "turning", "half-face", "hand", "full-cover", "cut", "blackout", "two-faces", "profile", "leaving", "dark",
    "blurred", "smeared", "few-pixels",
)  # fmt: skip
#: A face of which less is in the picture has left it; an occluder that covers less has gone.
_PRESENT, _UNCOVERED = 0.5, 0.05


@dataclass(frozen=True)
class Said:
    """What a system says of a frame.

    Attributes:
        points: (468, 2), in pixels; None when the face is lost.
        confidence: 0 to 1.
        angles: (3,), yaw, pitch and roll in degrees; None when the face is lost.
        evidence: what the confidence of an ensemble comes from.
    """

    points: Floats | None
    confidence: float
    angles: Array | None
    evidence: Evidence | None = None


@dataclass(frozen=True)
class Measured:
    """A frame of a system, beside the truth.

    Attributes:
        kind, clip, frame: where it is.
        lost: whether the system has no face.
        confidence: of the system.
        nme: mean error of the points, as a part of the distance of the outer eye corners; infinite when lost.
        pose: mean absolute error of yaw, pitch and roll in degrees; infinite when lost.
        cover: what part of the face something hides.
        there: whether there is a face.
        event: whether the face is back in this frame: after a cut, a blackout or a cover.
        evidence: of an ensemble.
        ms: that the system took.
    """

    kind: str
    clip: str
    frame: int
    lost: bool
    confidence: float
    nme: float
    pose: float
    cover: float
    there: bool
    event: bool
    evidence: Evidence | None
    ms: float

    @property
    def right(self) -> bool:
        """Whether the points are where the face is."""
        return self.there and self.nme <= RIGHT


#: From a picture (480, 640, 3) RGB and its time in seconds to what a system says of it; it is made for one clip.
System = Callable[[Image, float], Said]


def clip_of(kind: str, split: str, number: int) -> Script:
    """A trial of `fyc.asl.synthetic.trials`, or one of two that are made here.

    Raises:
        KeyError: if there is no such kind or split.
    """
    if kind == "full-cover":
        script = trial("half-face", split, 100 + number)
        (panel,) = script.occluders
        return replace(script, occluders=(_sliding(panel, -5.8), _sliding(panel, 5.8)))
    if kind == "leaving":
        script = trial("turning", split, 100 + number)
        curves = script.curves[:150].copy()
        away = np.clip(np.minimum(np.arange(150) - 40, 110 - np.arange(150)) / 20, 0, 1)
        curves[:, COLUMN["x"]] += 60 * (3 * away**2 - 2 * away**3) * (1 if number % 2 else -1)
        return replace(script, curves=curves, segments=())
    return trial(kind, split, number)


def _sliding(panel: Occluder, x: float) -> Occluder:
    """A panel that comes from above, stays, and goes up again."""
    near, away = (x, 0.0, 10.0), (x, 45.0, 10.0)
    return replace(panel, path=(away, near, near, near, away))


def follow(studio: Studio, kind: str, script: Script, systems: Mapping[str, System]) -> Iterator[tuple[str, Measured]]:
    """Let systems follow a clip, frame by frame.

    Yields:
        The name of a system, and a frame of it.

    Raises:
        AssetError, VideoError: if a clip for the textures cannot be had.
    """
    faces = studio.project(script).faces
    eyes = np.linalg.norm(faces[:, 33] - faces[:, 263], axis=1)
    before: FrameTruth | None = None
    for frame in studio.render(script):
        truth = frame.truth
        size = float(eyes[truth.frame]) * truth.camera.focal / -truth.translation[2]
        there, event = _there(truth), _is_back(truth, before)
        before = truth
        for name, system in systems.items():
            start = perf_counter()
            said = system(frame.image, truth.time_s)
            ms = 1000 * (perf_counter() - start)
            nme, pose = _errors(said, truth, size)
            yield name, Measured(
                kind, script.name, truth.frame, said.points is None, said.confidence, nme, pose, truth.cover, there,
                event, said.evidence, ms,
            )  # fmt: skip


def _there(truth: FrameTruth) -> bool:
    inside = ((truth.points >= 0) & (truth.points < (WIDTH, HEIGHT))).all(axis=1)
    return truth.face and bool(inside.mean() > _PRESENT)


def _is_back(truth: FrameTruth, before: FrameTruth | None) -> bool:
    """Whether a face is to be found again from this frame on."""
    if before is None or not _there(truth):
        return False
    return truth.shot != before.shot or not before.face or truth.cover < _UNCOVERED <= before.cover


def _errors(said: Said, truth: FrameTruth, size: float) -> tuple[float, float]:
    if said.points is None or said.angles is None:
        return np.inf, np.inf
    nme = float(np.linalg.norm(said.points - truth.points, axis=1).mean()) / size
    off = said.angles - (truth.yaw, truth.pitch, truth.roll)
    return nme, float(np.abs((off + 180) % 360 - 180).mean())

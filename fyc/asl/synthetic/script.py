"""A script says all that happens in a synthetic clip, as data: curves, gold segments, shots, disturbances."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fyc.asl.synthetic.expression import EXPRESSIONS, BrowField

Array = NDArray[np.float64]

#: Columns of the curves: expressions, then yaw, pitch, roll in degrees (as in `fyc.asl.face.camera`) and how far the
#: pivot of the head (`fyc.asl.synthetic.body.PIVOT`) is from where it rests, in cm: right in the picture, up, forward.
PARAMETERS = (*EXPRESSIONS, "yaw", "pitch", "roll", "x", "y", "z")
COLUMN = {name: column for column, name in enumerate(PARAMETERS)}

#: Grammatical markers, scripted after the usual description (research notes, section 1): nothing was measured.
MARKERS = ("wh-question", "yes-no-question", "negation", "topic", "conditional")
#: What the face and the head do.
EVENTS = (
    "brow-raise", "brow-lower", "head-shake", "head-nod", "head-tilt", "head-forward", "head-turn", "blink", "mouth",
    "nose-wrinkle",
)  # fmt: skip


@dataclass(frozen=True)
class Segment:
    """A marker or an event; frames from `start` to before `end`.

    Attributes:
        tier: what kind it is.
        label: one of `MARKERS` or `EVENTS`.
        start, core, offset, end: first frames of the onset, of the core, of the offset, and after it.
    """

    tier: Literal["marker", "event"]
    label: str
    start: int
    core: int
    offset: int
    end: int

    def covers(self, frame: int) -> bool:
        """Whether the frame lies in it."""
        return self.start <= frame < self.end


@dataclass(frozen=True)
class Signer:
    """Who is seen.

    Attributes:
        split: of the head and of the looks, see `HEAD_SPLITS` and `SOURCES`; `canonical` for the unperturbed head.
        head, looks: their numbers.
        brow_field: how the brows move.
        plain: the texture as it was filmed, of the source with the number `looks`, instead of drawn looks.
    """

    split: str
    head: int
    looks: int
    brow_field: BrowField
    plain: bool = False


@dataclass(frozen=True)
class Shot:
    """A camera and a background, from a frame on.

    Attributes:
        start: the first frame.
        field_of_view: of the longer side of the picture, in degrees.
        place: (3,), where the pivot of the head rests, in cm from the camera: right, up, z (negative is in front).
        background: seed of the background; in the first shot of the sensor's noise, too.
        bystander: a second person behind, who does not move; None for nobody.
    """

    start: int
    field_of_view: float
    place: tuple[float, float, float]
    background: int
    bystander: Signer | None = None


@dataclass(frozen=True)
class Occluder:
    """Something that passes in front of the face, with frames from `start` to before `end`.

    Attributes:
        kind: a hand with its forearm, or a flat panel that is 12 cm wide and 30 high.
        start, end: its frames.
        path: (k, 3), places of the palm's or the panel's middle, in cm from where the canonical face's origin rests:
            right, up, forward. It goes from one to the next with equal times, smoothly.
        angle: clockwise from fingers up, in degrees.
        flat: how broad it looks, 0 to 1: a hand that is turned looks narrow. Negative for the other side of the hand.
        seed: of its shape.
    """

    kind: Literal["hand", "panel"]
    start: int
    end: int
    path: tuple[tuple[float, float, float], ...]
    angle: float
    flat: float
    seed: int

    def place(self, frame: int) -> Array:
        """(3,), where it is."""
        points = np.array(self.path)
        along = (frame - self.start) / max(self.end - 1 - self.start, 1) * (len(points) - 1)
        first = min(int(along), max(len(points) - 2, 0))
        part = along - first
        smooth = part * part * (3 - 2 * part)
        place: Array = points[first] + smooth * (points[min(first + 1, len(points) - 1)] - points[first])
        return place


@dataclass(frozen=True)
class Quality:
    """What the camera does to the picture.

    Attributes:
        shrink: the picture is taken with so many times fewer pixels a side, and enlarged again.
        blur: standard deviation of a Gaussian, in pixels.
        shutter: what part of a frame's time the shutter is open: the head smears as far as it moves meanwhile.
        gain: factor of brightness.
        noise: standard deviation of the sensor's noise, in grey levels.
    """

    shrink: float = 1.0
    blur: float = 0.0
    shutter: float = 0.0
    gain: float = 1.0
    noise: float = 0.0


@dataclass(frozen=True)
class Script:
    """A clip to be rendered or projected. Everything in it is synthetic.

    Attributes:
        name: unique.
        signer: who.
        curves: (frames, 16), see `PARAMETERS`.
        shots: in order; the first starts at 0.
        segments: gold markers and events.
        occluders: what passes in front of the face.
        blackouts: (first, after the last) frames that are black.
        quality: of the picture.
        fps: frames a second.
        phrases: what is signed, see `fyc.asl.synthetic.grammar`; a phrase without a marker is a `statement`.
        cue: for a minimal pair, what its two sides differ in; otherwise empty.
    """

    name: str
    signer: Signer
    curves: Array
    shots: tuple[Shot, ...]
    segments: tuple[Segment, ...] = ()
    occluders: tuple[Occluder, ...] = ()
    blackouts: tuple[tuple[int, int], ...] = ()
    quality: Quality = field(default_factory=Quality)
    fps: float = 30.0
    phrases: tuple[str, ...] = ()
    cue: str = ""

    @property
    def frames(self) -> int:
        """How many there are."""
        return len(self.curves)

    def curve(self, name: str) -> Array:
        """(frames,), a column of the curves."""
        return self.curves[:, COLUMN[name]]

    def shot(self, frame: int) -> int:
        """Number of the shot that a frame belongs to."""
        return max(number for number, shot in enumerate(self.shots) if shot.start <= frame)

    def black(self, frame: int) -> bool:
        """Whether a frame is black."""
        return any(start <= frame < end for start, end in self.blackouts)

    def active(self, frame: int) -> tuple[str, ...]:
        """Labels of the events in a frame."""
        return tuple(part.label for part in self.segments if part.tier == "event" and part.covers(frame))

    def labels(self) -> list[str]:
        """The marker of every frame; empty where there is none."""
        labels = [""] * self.frames
        for part in self.segments:
            if part.tier == "marker":
                labels[part.start : part.end] = [part.label] * (min(part.end, self.frames) - part.start)
        return labels

    def degraded(self, quality: Quality) -> Script:
        """The same clip, taken by another camera."""
        return replace(self, quality=quality)

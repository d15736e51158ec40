"""Movements over time: envelopes with onset, core and offset; shakes, nods, blinks, sway. Curves are built here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fyc.asl.synthetic.script import COLUMN, PARAMETERS, Segment
from fyc.asl.synthetic.seeds import generator

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Style:
    """How a person signs; drawn once a signer, the same in all their clips.

    Attributes:
        brows, head: factors of the size of their movements.
        pace: factor of durations.
        lag: how long brows come after the head, in seconds; negative if before.
        shake: factor of the rate of shakes and nods.
        side: 1 if they tilt to their left, -1 to their right.
        uneven: how much more the left brow moves than the right, as a part.
        blinks: a second.
        sway: how far the head wanders at rest, in degrees.
        rest: (3,), yaw, pitch and roll they come back to, in degrees.
    """

    brows: float
    head: float
    pace: float
    lag: float
    shake: float
    side: int
    uneven: float
    blinks: float
    sway: float
    rest: tuple[float, float, float]


def draw_style(split: str, signer: int) -> Style:
    """The style of a signer of a split."""
    rng = generator("style", split, signer)
    yaw, pitch, roll = (float(value) for value in rng.normal(0, (4, 4, 2)))
    return Style(
        float(rng.uniform(0.75, 1.25)), float(rng.uniform(0.75, 1.3)), float(rng.uniform(0.85, 1.2)),
        float(rng.uniform(-0.08, 0.15)), float(rng.uniform(0.85, 1.15)), 1 if rng.uniform() < 0.5 else -1,
        float(rng.uniform(-0.12, 0.12)), float(rng.uniform(0.15, 0.45)), float(rng.uniform(0.4, 1.5)),
        (yaw, pitch, roll),
    )  # fmt: skip


def envelope(frames: int, segment: Segment) -> Array:
    """(frames,), how far a movement is: rises in the onset, 1 in the core, falls in the offset; 0 outside.

    Rise and fall have least jerk (Flash and Hogan 1985), as reaching movements do.
    """
    time = np.arange(frames, dtype=np.float64)
    rise = np.clip((time - (segment.start - 1)) / (segment.core - (segment.start - 1)), 0, 1)
    fall = np.clip((segment.end - time) / (segment.end - (segment.offset - 1)), 0, 1)
    product: Array = _least_jerk(rise) * _least_jerk(fall)
    return product


def _least_jerk(part: Array) -> Array:
    smooth: Array = part**3 * (10 - 15 * part + 6 * part**2)
    return smooth


def wander(rng: np.random.Generator, frames: int, correlation: float) -> Array:
    """(frames,), smooth noise of unit variance.

    Args:
        rng: where it comes from.
        frames: how many.
        correlation: standard deviation of the smoothing, in frames.
    """
    reach = int(np.ceil(3 * correlation))
    kernel = np.exp(-((np.arange(-reach, reach + 1) / correlation) ** 2) / 2)
    noise = np.convolve(rng.standard_normal(frames + 2 * reach), kernel, "valid")
    smooth: Array = noise / np.sqrt((kernel**2).sum())
    return smooth


class Timeline:
    """Curves and gold segments of one clip, put together movement by movement.

    Args:
        seconds: its length.
        fps: frames a second.
    """

    def __init__(self, seconds: float, fps: float) -> None:
        self.fps = fps
        self.frames = max(round(seconds * fps), 2)
        self.curves = np.zeros((self.frames, len(PARAMETERS)))
        self.segments: list[Segment] = []

    def add(self, name: str, values: Array | float) -> None:
        """Add to a curve."""
        self.curves[:, COLUMN[name]] += values

    def mark(
        self, tier: Literal["marker", "event"], label: str, start: float, end: float, onset: float, offset: float
    ) -> Segment:
        """Enter a segment into the gold annotation; times in seconds, each phase lasts a frame at least."""
        first = int(np.clip(round(start * self.fps), 0, self.frames - 2))
        after = int(np.clip(round(end * self.fps), first + 2, self.frames))
        rise, fall = max(round(onset * self.fps), 1), max(round(offset * self.fps), 1)
        core = min(first + rise, after - 1)
        segment = Segment(tier, label, first, core, max(core, after - fall), after)
        self.segments.append(segment)
        return segment

    def copy(self, tier: Literal["marker", "event"], label: str, like: Segment) -> None:
        """Enter a segment with the phases of another."""
        self.segments.append(Segment(tier, label, like.start, like.core, like.offset, like.end))

    def brows(self, segment: Segment, inner: float, outer: float, uneven: float) -> None:
        """Move the brows by so many cm while a segment lasts; `uneven` as in `Style`."""
        shape = envelope(self.frames, segment)
        for side, factor in (("left", 1 + uneven), ("right", 1 - uneven)):
            self.add(f"brow_inner_{side}", inner * factor * shape)
            self.add(f"brow_outer_{side}", outer * factor * shape)

    def swing(self, name: str, segment: Segment, amplitude: float, hertz: float, decay: float, slowing: float) -> None:
        """Turn to and fro while a segment lasts.

        Args:
            name: `yaw` for a shake, `pitch` for a nod.
            segment: when.
            amplitude: in degrees.
            hertz: rate at the beginning.
            decay: the amplitude falls by this power of e until the end.
            slowing: what part of the rate is lost until the end.
        """
        time = (np.arange(self.frames) - segment.start) / self.fps
        length = (segment.end - segment.start) / self.fps
        part = np.clip(time / length, 0, 1)
        phase = 2 * np.pi * hertz * length * (part - slowing * part**2 / 2)
        self.add(name, amplitude * np.exp(-decay * part) * envelope(self.frames, segment) * np.sin(phase))

    def blink(self, start: float, seconds: float) -> None:
        """Close both eyes and open them again."""
        segment = self.mark("event", "blink", start, start + seconds, 0.4 * seconds, 0.5 * seconds)
        shape = envelope(self.frames, segment)
        for side in ("left", "right"):
            self.add(f"lid_{side}", shape / shape.max())  # a few frames may miss the moment when they touch

    def rest(self, rng: np.random.Generator, style: Style) -> None:
        """What goes on at all times: the resting pose, sway, small movements of brows, lids and mouth."""
        for name, value in zip(("yaw", "pitch", "roll"), style.rest, strict=True):
            slow, quick = wander(rng, self.frames, 0.6 * self.fps), wander(rng, self.frames, 0.12 * self.fps)
            self.add(name, value + rng.normal(0, 1.5) + style.sway * (slow + 0.2 * quick))
        for name in ("x", "y", "z"):
            self.add(name, 0.4 * style.sway * wander(rng, self.frames, 0.8 * self.fps))
        for side in ("left", "right"):
            for part in ("inner", "outer"):
                self.add(f"brow_{part}_{side}", 0.02 * wander(rng, self.frames, 0.3 * self.fps))
            self.add(f"lid_{side}", 0.04 + 0.03 * wander(rng, self.frames, 0.4 * self.fps))
        self.add("mouth", 0.03 + 0.02 * wander(rng, self.frames, 0.4 * self.fps))

    def finish(self, blur: float) -> tuple[Array, tuple[Segment, ...]]:
        """Curves and segments. Neighbouring movements run into each other; lids and mouth stay within their limits.

        Args:
            blur: standard deviation in frames.
        """
        reach = int(np.ceil(3 * blur))
        kernel = np.exp(-((np.arange(-reach, reach + 1) / blur) ** 2) / 2)
        padded = np.pad(self.curves, ((reach, reach), (0, 0)), "edge")
        columns = [np.convolve(column, kernel / kernel.sum(), "valid") for column in padded.T]
        curves = np.stack(columns, axis=1)
        lids = slice(COLUMN["lid_left"], COLUMN["lid_right"] + 1)
        curves[:, lids] = np.clip(self.curves[:, lids], 0, 1)  # blinks are too short to be smoothed
        curves[:, COLUMN["mouth"]] = np.clip(curves[:, COLUMN["mouth"]], 0, 2.5)
        return curves, tuple(sorted(self.segments, key=lambda part: (part.tier, part.start, part.label)))

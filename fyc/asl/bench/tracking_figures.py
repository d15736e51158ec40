"""Figures of how faces are followed, with intervals by bootstrap over clips."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fyc.asl.bench.clips import RIGHT, Measured
from fyc.asl.bench.statistics import Array, Flags, Interval, interval_of

#: A system is confident from here on.
CONFIDENT = 0.5
#: A face of which more is covered need not be followed.
_COVERED = 0.9
#: A recovery that takes so many frames is none.
NEVER = 30
_BINS = 10


@dataclass(frozen=True)
class TrackingFigures:
    """How a system follows.

    Attributes:
        frames, clips: how many there are.
        lost, unsure: part of the frames with a face, less than 90 % of it covered, in which the face is lost; in which
            it is lost or the confidence below 0.5.
        wrong: part of all frames in which the confidence is at least 0.5 and the points are not right.
        calibration: expected calibration error of the confidence, in ten bins, of the frames that are not lost.
        nme: median error of the points where the face is seen and not lost, as a part of the distance of the outer
            eye corners; None where there is none.
        off: part of these frames in which it is more than 10 %.
        pose: mean absolute error of yaw, pitch and roll in them, in degrees.
        ms: median of what a frame takes, while all systems take turns.
        waits: frames from each cut, end of a blackout or of a cover until the face is right; `NEVER` is never.
    """

    frames: int
    clips: int
    lost: Interval
    unsure: Interval
    wrong: Interval
    calibration: Interval
    nme: float | None
    off: float | None
    pose: float | None
    ms: float
    waits: tuple[int, ...]

    def document(self) -> dict[str, Any]:
        """For JSON: a figure with an interval is [value, low, high]."""
        return {
            "frames": self.frames, "clips": self.clips, "lost": self.lost.document(), "unsure": self.unsure.document(),
            "wrong_but_confident": self.wrong.document(), "calibration_error": self.calibration.document(),
            "nme": self.nme, "off": self.off, "pose_deg": self.pose, "ms": self.ms, "recovery_frames": list(self.waits),
        }  # fmt: skip


def tracking_figures(frames: Sequence[Measured]) -> TrackingFigures:
    """Figures of the frames of one system, at least one."""
    names = [f"{frame.kind} {frame.clip}" for frame in frames]
    clips = sorted(set(names))
    owner = np.searchsorted(clips, names)
    lost, right = (np.array([getattr(frame, name) for frame in frames]) for name in ("lost", "right"))
    confidence = np.array([frame.confidence for frame in frames])
    visible = np.array([frame.there and frame.cover < _COVERED for frame in frames])
    confident = confidence >= CONFIDENT

    def share(part: Flags, of: Flags) -> Interval:
        return interval_of(len(clips), _ratio(_sums(part & of, owner, len(clips)), _sums(of, owner, len(clips))))

    kept = [frame for frame, seen in zip(frames, visible & ~lost, strict=True) if seen]
    return TrackingFigures(
        len(frames), len(clips), share(lost, visible), share(lost | ~confident, visible),
        share(confident & ~lost & ~right, np.ones(len(frames), bool)),
        interval_of(len(clips), _calibration(confidence[~lost], right[~lost], owner[~lost], len(clips))),
        float(np.median([frame.nme for frame in kept])) if kept else None,
        float(np.mean([frame.nme > RIGHT for frame in kept])) if kept else None,
        float(np.mean([frame.pose for frame in kept])) if kept else None,
        float(np.median([frame.ms for frame in frames])), tuple(_waits(frames)),
    )  # fmt: skip


def _sums(values: Array | Flags, owner: NDArray[np.intp], clips: int) -> Array:
    """(clips,), sums over the frames of each clip."""
    sums: Array = np.bincount(owner, values.astype(np.float64), clips).astype(np.float64)
    return sums


def _ratio(part: Array, whole: Array) -> Callable[[NDArray[np.intp]], Array]:
    """The figure part / whole of selections of clips."""

    def figure(chosen: NDArray[np.intp]) -> Array:
        of = whole[chosen].sum(axis=1)
        ratio: Array = np.divide(part[chosen].sum(axis=1), of, out=np.full(len(of), np.nan), where=of > 0)
        return ratio

    return figure


def _calibration(
    confidence: Array, right: Flags, owner: NDArray[np.intp], clips: int
) -> Callable[[NDArray[np.intp]], Array]:
    """The expected calibration error of selections of clips (`fyc.asl.tracking.confidence.calibration_error`)."""
    number = np.minimum((confidence * _BINS).astype(np.intp), _BINS - 1)
    gaps = np.array([_sums((confidence - right) * (number == bin_), owner, clips) for bin_ in range(_BINS)])
    counts = _sums(np.ones(len(owner)), owner, clips)

    def figure(chosen: NDArray[np.intp]) -> Array:
        of = counts[chosen].sum(axis=1)
        off = np.abs(gaps[:, chosen].sum(axis=2)).sum(axis=0)
        error: Array = np.divide(off, of, out=np.full(len(of), np.nan), where=of > 0)
        return error

    return figure


def _waits(frames: Sequence[Measured]) -> list[int]:
    """Frames from each event until the face is right again."""
    by_clip: dict[tuple[str, str], list[Measured]] = {}
    for frame in frames:
        by_clip.setdefault((frame.kind, frame.clip), []).append(frame)
    waits = []
    for clip in by_clip.values():
        for start, frame in enumerate(clip):
            if frame.event:
                waits.append(next((n for n, later in enumerate(clip[start : start + NEVER]) if later.right), NEVER))
    return waits

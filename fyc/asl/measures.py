"""What is measured in every frame of a video: the table that events, features and recognizers read."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fyc.asl.face.camera import Array

#: Frames with less confidence than this are not trusted.
LEAST_CONFIDENCE = 0.5
#: Nor are those in which more of the landmarks are covered than this part, nor those around them, in seconds: where a
#: hand hides much of a face the pose is off by 4 to 12 degrees, and it jumps there and back within a frame or two.
MOST_COVERED, AROUND_S = 0.25, 0.07

#: Columns of `Measures.table`, in order; brows in the order of `fyc.asl.face.brows.BROW_PARTS`.
MEASURES = (
    "yaw", "pitch", "roll", "x", "y", "z",
    "brow_inner_left", "brow_outer_left", "brow_inner_right", "brow_outer_right",
    "eye_left", "eye_right", "mouth",
)  # fmt: skip


@dataclass(frozen=True, repr=False)
class Measures:
    """A face in the T frames of a video, NaN where something is not known. Left and right are the person's.

    Attributes:
        time_s: (T,), presentation times in seconds, which rise.
        confidence: (T,), 0 to 1, of the track.
        occluded: (T,), what part of the landmarks something covers, 0 to 1; NaN where the face is lost.
        yaw, pitch, roll: (T,), degrees, as in `fyc.asl.face.camera`.
        x, y, z: (T,), where the face is: right in the picture, up, towards the camera; cm from its median over the
            video.
        brows: (T, 4), heights above the signer's rest in cm: inner left, outer left, inner right, outer right.
        eyes: (T, 2), apertures of the left and the right eye as parts of the signer's open eye: 1 open, 0 closed.
        mouth: (T,), how much further the lips are apart than at rest, in cm.
    """

    time_s: Array
    confidence: Array
    occluded: Array
    yaw: Array
    pitch: Array
    roll: Array
    x: Array
    y: Array
    z: Array
    brows: Array
    eyes: Array
    mouth: Array

    def __post_init__(self) -> None:
        frames = len(self.time_s)
        for name, values in vars(self).items():
            shape = {"brows": (frames, 4), "eyes": (frames, 2)}.get(name, (frames,))
            if values.shape != shape or values.dtype != np.float64:
                raise ValueError(
                    f"{name} must be float64 of shape {shape}, and is {values.dtype} of shape {values.shape}"
                )
        if not (np.isfinite(self.time_s).all() and (np.diff(self.time_s) > 0).all()):
            raise ValueError("the times of frames must rise")

    def __len__(self) -> int:
        return len(self.time_s)

    @property
    def table(self) -> Array:
        """(T, 13), the columns `MEASURES`."""
        head = [self.yaw, self.pitch, self.roll, self.x, self.y, self.z]
        return np.column_stack([*head, self.brows, self.eyes, self.mouth])

    @classmethod
    def from_table(cls, time_s: Array, confidence: Array, table: Array, occluded: Array | None = None) -> Measures:
        """From times (T,), confidences (T,) and a `table` (T, 13); places need not be centred yet.

        Without `occluded` (T,) nothing is covered.

        Raises:
            ValueError: if the shapes do not fit, or times do not rise.
        """
        if table.ndim != 2 or table.shape[1] != len(MEASURES):
            raise ValueError(f"a table of measures has {len(MEASURES)} columns, this one has the shape {table.shape}")
        yaw, pitch, roll, x, y, z, *rest = table.astype(np.float64).T
        x, y, z = (place - _median(place) for place in (x, y, z))
        brows, eyes = np.column_stack(rest[:4]), np.column_stack(rest[4:6])
        covered = np.zeros(len(time_s)) if occluded is None else occluded
        return cls(time_s, confidence, covered, yaw, pitch, roll, x, y, z, brows, eyes, rest[6])

    def without(self, frames: NDArray[np.bool_]) -> Measures:
        """The same with nothing known in the frames (T,) that are true."""
        table = np.where(frames[:, None], np.nan, self.table)
        return Measures.from_table(self.time_s, np.where(frames, 0.0, self.confidence), table, self.occluded)

    @property
    def doubtful(self) -> NDArray[np.bool_]:
        """(T,), frames that are not trusted: lost, little confidence, or much of the face is covered around then."""
        hidden = self.time_s[self.occluded > MOST_COVERED]
        after = np.searchsorted(hidden, self.time_s - AROUND_S)
        covered = after < np.searchsorted(hidden, self.time_s + AROUND_S, side="right")
        doubtful: NDArray[np.bool_] = covered | (self.confidence < LEAST_CONFIDENCE)
        return doubtful

    def trusted(self) -> Measures:
        """The same with nothing known in doubtful frames."""
        return self.without(self.doubtful)


def _median(values: Array) -> float:
    """Of the known values; 0 if there are none."""
    known = values[np.isfinite(values)]
    return float(np.median(known)) if len(known) else 0.0

"""Landmarks of signers in `.pose` files: the face, as MediaPipe Holistic placed it.

The format is that of https://github.com/sign-language-processing/pose, versions 0.1 and 0.2: a header that names the
components and their points, then frames x people x points x dimensions as 32-bit floats, then confidences.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

_FACE = "FACE_LANDMARKS"


@dataclass(frozen=True)
class FaceClip:
    """The face of the first person in a clip.

    Attributes:
        rate: frames per second.
        points: (frames, points, 3), as the file has them: x and y in pixels of `size`, z at a scale of its own.
        confidence: (frames, points), 0 where a point is missing.
        size: width and height that x and y refer to.
    """

    rate: float
    points: Floats
    confidence: Floats
    size: tuple[int, int]


def read_face(data: bytes) -> FaceClip:
    """The face in a `.pose` file.

    Raises:
        ValueError: if it is no such file, is damaged, or holds no face.
    """
    try:
        return _Reader(data).face()
    except (struct.error, UnicodeDecodeError, OverflowError) as error:
        raise ValueError(f"not a .pose file, or a damaged one: {error}") from error


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def face(self) -> FaceClip:
        version = round(float(self._take("f")[0]), 1)
        if version not in (0.1, 0.2):
            raise ValueError(f"not a .pose file of version 0.1 or 0.2: its version is {version}")
        width, height, _, count = self._take("HHHH")
        components = [self._component() for _ in range(count)]
        rate, frames, people = self._take("fIH" if version == 0.2 else "HHH")
        points = sum(number for _, number, _ in components)
        dimensions = max((dimensions for *_, dimensions in components), default=0)
        before = 0
        for name, number, _ in components:
            if name == _FACE:
                break
            before += number
        else:
            raise ValueError(f"the .pose file holds no {_FACE}")
        if not people or not frames or dimensions < 3:
            raise ValueError("the .pose file holds no face in three dimensions")
        values = self._floats(frames * people * points * dimensions).reshape(frames, people, points, dimensions)
        confidence = self._floats(frames * people * points).reshape(frames, people, points)
        face = slice(before, before + number)
        return FaceClip(float(rate), values[:, 0, face, :3], confidence[:, 0, face], (width, height))

    def _component(self) -> tuple[str, int, int]:
        """Name, number of points, and dimensions without the confidence."""
        name, form = self._text(), self._text()
        points, limbs, colours = self._take("HHH")
        for _ in range(points):
            self._text()
        self._at += 4 * limbs + 6 * colours
        return name, points, len(form) - 1

    def _take(self, form: str) -> tuple[Any, ...]:
        values = struct.unpack_from(f"<{form}", self._data, self._at)
        self._at += struct.calcsize(f"<{form}")
        return values

    def _text(self) -> str:
        (length,) = self._take("H")
        (content,) = self._take(f"{length}s")
        return str(content, "utf-8")

    def _floats(self, count: int) -> Floats:
        if count * 4 > len(self._data) - self._at:
            raise ValueError("not a .pose file, or a damaged one: it ends too early")
        values = np.frombuffer(self._data, np.float32, count, self._at)
        self._at += 4 * count
        return values

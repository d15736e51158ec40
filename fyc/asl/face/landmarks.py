"""Place 478 landmarks on a face: the network sees an upright square around it.

Source of the network: the Face Landmarker bundle; its predecessor is Kartynnik et al., arXiv 1907.06724.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fyc.asl.face.detector import Face
from fyc.asl.face.litert import Floats, LiteNetwork

Image = NDArray[np.uint8]

_SIDE = 256
#: The square is so much larger than the face; the network was made with it.
_MARGIN = 1.5
#: Outer corners of the eyes, the person's right one first: they say how the head is turned in the picture.
EYE_CORNERS = (33, 263)


@dataclass(frozen=True)
class Region:
    """A square part of a picture, turned so that the face in it is upright.

    Attributes:
        x, y: its centre, in pixels.
        side: its length, in pixels.
        angle: how far it is turned, in radians, clockwise in the picture.
    """

    x: float
    y: float
    side: float
    angle: float

    @classmethod
    def around(cls, face: Face) -> Region:
        """The region for a face that the detector found."""
        left, top, right, bottom = (float(value) for value in face.box)
        return cls((left + right) / 2, (top + bottom) / 2, _MARGIN * face.size, _tilt(*face.keypoints[:2]))

    @classmethod
    def of_points(cls, points: Floats) -> Region:
        """The region for the landmarks of the frame before, (468 or more, 2 or more) in pixels."""
        angle = _tilt(*(points[corner] for corner in EYE_CORNERS))
        low, high = points[:, :2].min(axis=0), points[:, :2].max(axis=0)
        x, y = (low + high) / 2
        return cls(float(x), float(y), _MARGIN * float((high - low).max()), angle)

    @property
    def matrix(self) -> NDArray[np.float64]:
        """(2, 3), from coordinates in the region, -0.5 to 0.5, to pixels of the picture."""
        cos, sin = self.side * math.cos(self.angle), self.side * math.sin(self.angle)
        return np.array([[cos, -sin, self.x], [sin, cos, self.y]])

    def cut(self, image: Image, size: int) -> Image:
        """The region as an upright picture of `size` pixels; what lies outside of the image is black."""
        to_unit = np.array([[1 / size, 0, 0.5 / size - 0.5], [0, 1 / size, 0.5 / size - 0.5], [0, 0, 1]])
        pixels = self.matrix @ to_unit - np.array([[0, 0, 0.5], [0, 0, 0.5]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(image, pixels, (size, size), flags=flags)  # type: ignore[return-value]


def _tilt(right: Floats, left: Floats) -> float:
    """Angle of the line from the person's right eye to the left one, in radians, clockwise in the picture."""
    return math.atan2(float(left[1] - right[1]), float(left[0] - right[0]))


@dataclass(frozen=True)
class Landmarks:
    """What the network says of a region.

    Attributes:
        points: (478, 3): x and y in pixels, z at the same scale, smaller nearer to the camera, 0 in the head's middle.
            The first 468 are the vertices of the canonical mesh.
        presence: 0 to 1, how sure the network is that there is a face: not a probability that the points are right.
    """

    points: Floats
    presence: float


class LandmarkNet:
    """Places landmarks.

    Args:
        model: the network `face_landmarks_detector.tflite` of the bundle.
    """

    def __init__(self, model: bytes) -> None:
        self._network = LiteNetwork(model)

    def place(self, image: Image, region: Region) -> Landmarks:
        """Landmarks of the face in a region of a picture (H, W, 3) RGB."""
        upright = region.cut(image, _SIDE)
        outputs = self._network.run(upright[None].astype(np.float32) / np.float32(255))
        points: Floats = outputs["Identity"].reshape(-1, 3) / np.float32(_SIDE)
        points[:, :2] -= 0.5
        matrix = region.matrix.astype(np.float32)
        placed = np.empty_like(points)
        placed[:, :2] = points[:, :2] @ matrix[:, :2].T + matrix[:, 2]
        placed[:, 2] = points[:, 2] * region.side
        logit = float(outputs["Identity_1"].ravel()[0])
        return Landmarks(placed, 1 / (1 + math.exp(-max(min(logit, 50.0), -50.0))))

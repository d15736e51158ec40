"""Find faces in a picture with BlazeFace (short range), on the whole picture and on parts of it.

Source of the network: Bazarevsky et al., BlazeFace, arXiv 1907.05047. It sees 128x128 pixels, so that a face which is
small in a wide shot is found only on a part of the picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fyc.asl.face.litert import Floats, LiteNetwork

Image = NDArray[np.uint8]

_SIDE = 128
#: Rows and columns of each grid of anchors, and anchors in each of its cells.
_GRIDS = ((16, 2), (8, 6))
#: Boxes that cover each other by more than this are one face.
_SAME_FACE = 0.3
#: A face smaller than this part of what the network saw is placed roughly, and looked at again.
_SMALL = 0.2


@dataclass(frozen=True)
class Face:
    """A face that was found.

    Attributes:
        box: (4,) left, top, right, bottom, in pixels.
        score: 0 to 1, as the network gives it: not a probability.
        keypoints: (6, 2) pixels: right eye, left eye, tip of the nose, mouth, right ear, left ear of the person.
    """

    box: Floats
    score: float
    keypoints: Floats

    @property
    def size(self) -> float:
        """The longer side of the box, in pixels."""
        left, top, right, bottom = self.box
        return float(max(right - left, bottom - top))


class FaceDetector:
    """Finds faces.

    Args:
        model: the network `face_detector.tflite` of the bundle.
        least_score: faces with a lower score are not reported.
    """

    def __init__(self, model: bytes, *, least_score: float = 0.5) -> None:
        self._network = LiteNetwork(model)
        self._anchors = _anchors()
        self._least_score = least_score

    def find(self, image: Image) -> list[Face]:
        """Faces in a picture, best first: on the whole, and where that finds none, on overlapping parts of it.

        Args:
            image: (H, W, 3) RGB.
        """
        height, width = image.shape[:2]
        whole = max(height, width)
        faces = _distinct(self._look(image, (0, 0, whole)))
        for parts in (1, 2):
            if faces:
                break
            side = max(min(height, width) // parts, 1)
            squares = [(left, top, side) for top in _starts(height, side) for left in _starts(width, side)]
            faces = _distinct([face for square in squares for face in self._look(image, square)])
        return _distinct([self._refined(image, face) if face.size < _SMALL * whole else face for face in faces])

    def _refined(self, image: Image, face: Face) -> Face:
        """The face as it is seen on a part of the picture of which it takes up more."""
        side = max(round(3 * face.size), 1)
        left, top = (face.box[:2] + face.box[2:] - side) / 2
        seen = self._look(image, (round(float(left)), round(float(top)), side))
        return max(seen, key=lambda other: overlap(other.box, face.box), default=face)

    def _look(self, image: Image, square: tuple[int, int, int]) -> list[Face]:
        small = cv2.resize(_part(image, square), (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
        outputs = self._network.run(small[None].astype(np.float32) / 127.5 - 1)
        return self._decode(outputs["regressors"][0], outputs["classificators"][0, :, 0], square)

    def _decode(self, regressors: Floats, logits: Floats, square: tuple[int, int, int]) -> list[Face]:
        left, top, side = square
        scores = 1 / (1 + np.exp(-np.clip(logits, -50, 50)))
        kept = np.flatnonzero(scores >= self._least_score)
        points = regressors[kept].reshape(-1, 8, 2) / _SIDE
        half = points[:, 1] * side / 2
        points = (points + self._anchors[kept][:, None]) * side + (left, top)
        boxes = np.concatenate([points[:, 0] - half, points[:, 0] + half], axis=1)
        return [
            Face(box.astype(np.float32), float(score), keypoints.astype(np.float32))
            for box, score, keypoints in zip(boxes, scores[kept], points[:, 2:], strict=True)
        ]


def _anchors() -> Floats:
    """(896, 2), centres of the anchors, 0 to 1, in the order of the network's outputs."""
    grids = []
    for cells, each in _GRIDS:
        centres = (np.arange(cells) + 0.5) / cells
        y, x = np.meshgrid(centres, centres, indexing="ij")
        grids.append(np.repeat(np.stack([x.ravel(), y.ravel()], axis=1), each, axis=0))
    return np.concatenate(grids).astype(np.float32)


def _starts(length: int, side: int) -> list[int]:
    """Where squares begin that overlap by half and cover a length."""
    last = length - side
    steps = max(1, -(-2 * last // side)) if last > 0 else 1
    return [0] if last <= 0 else [round(last * step / steps) for step in range(steps + 1)]


def _part(image: Image, square: tuple[int, int, int]) -> Image:
    left, top, side = square
    height, width = image.shape[:2]
    part = np.zeros((side, side, 3), np.uint8)
    x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + side, width), min(top + side, height)
    if x1 > x0 and y1 > y0:
        part[y0 - top : y1 - top, x0 - left : x1 - left] = image[y0:y1, x0:x1]
    return part


def overlap(a: Floats, b: Floats) -> float:
    """Intersection over union of two boxes (left, top, right, bottom)."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    both = width * height
    return float(both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both))


def _distinct(faces: list[Face]) -> list[Face]:
    """One face for each group of boxes that cover each other: their mean, weighted by score, best first."""
    rest = sorted(faces, key=lambda face: -face.score)
    distinct = []
    while rest:
        best = rest[0]
        group = [face for face in rest if overlap(face.box, best.box) > _SAME_FACE or face is best]
        rest = [face for face in rest if all(face is not member for member in group)]
        weights = np.array([face.score for face in group], np.float32)
        weights /= weights.sum()
        box = np.tensordot(weights, np.stack([face.box for face in group]), 1)
        keypoints = np.tensordot(weights, np.stack([face.keypoints for face in group]), 1)
        distinct.append(Face(box, best.score, keypoints))
    return distinct

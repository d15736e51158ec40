"""Find a face again: finders propose, the landmark network places, and two must agree before a face is believed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from fyc.asl.face.bundle import Bundle
from fyc.asl.face.detector import Face, Image, overlap
from fyc.asl.face.landmarks import LandmarkNet, Region
from fyc.asl.face.litert import Floats
from fyc.asl.face.mesh import POINTS
from fyc.asl.tracker import Finder, Reading

#: Boxes of two finders that cover each other by this much are one face.
_SAME = 0.25
#: The landmark network must be as sure as this that there is a face.
_LEAST_PRESENCE = 0.5
#: A second opinion is asked for on a part of the picture that is so much wider than the face, made so many pixels wide.
_AROUND, _SIDE = 2.0, 160


@dataclass(frozen=True)
class Candidate:
    """A face that a finder proposes.

    Attributes:
        face: as it was found.
        finder: who found it.
    """

    face: Face
    finder: str


class FaceSearch:
    """Looks for faces.

    Args:
        bundle: with the landmark network.
        finders: by name; the first one looks at whole pictures, the others are asked about what it found, or if it
            found nothing.
    """

    def __init__(self, bundle: Bundle, finders: Mapping[str, Finder]) -> None:
        self._net = LandmarkNet(bundle.landmarks)
        self._finders = dict(finders)

    def propose(self, image: Image, *, thorough: bool = False) -> list[Candidate]:
        """Faces of the first finder that sees any; of the first finder only, unless the search is thorough."""
        for name, finder in self._finders.items():
            if faces := finder.find(image):
                return [Candidate(face, name) for face in faces]
            if not thorough:
                break
        return []

    def place(self, image: Image, candidate: Candidate) -> Reading | None:
        """Landmarks of a proposed face, placed twice; None if the network sees no face there."""
        first = self._net.place(image, Region.around(candidate.face))
        if first.presence < _LEAST_PRESENCE:
            return None
        second = self._net.place(image, Region.of_points(first.points))
        if second.presence < _LEAST_PRESENCE:
            return None
        return Reading(second.points[:POINTS, :2], second.presence, second.points[:POINTS, 2], expressive=True)

    def seconded(self, image: Image, box: Floats, *, but: str = "") -> bool:
        """Whether a finder, other than the one named, sees a face where the box (left, top, right, bottom) is."""
        part, scale, corner = _around(image, box)
        local = (box - np.tile(corner, 2)) * scale
        return any(
            overlap(face.box, local) > _SAME
            for name, finder in self._finders.items()
            if name != but
            for face in finder.find(part)
        )

    def sees(self, image: Image, box: Floats) -> bool:
        """Whether the first finder sees a face where the box is."""
        part, scale, corner = _around(image, box)
        local = (box - np.tile(corner, 2)) * scale
        first = next(iter(self._finders.values()), None)
        return first is not None and any(overlap(face.box, local) > _SAME for face in first.find(part))


def box_of(points: Floats) -> Floats:
    """(4,) left, top, right, bottom of landmarks (468, 2)."""
    return np.concatenate([points.min(axis=0), points.max(axis=0)]).astype(np.float32)


def _around(image: Image, box: Floats) -> tuple[Image, float, Floats]:
    """The part of a picture around a box, its scale, and where it begins."""
    side = max(_AROUND * float(max(box[2:] - box[:2])), 8.0)
    corner = ((box[:2] + box[2:] - side) / 2).astype(np.float32)
    scale = _SIDE / side
    matrix = np.array([[scale, 0, -scale * corner[0]], [0, scale, -scale * corner[1]]], np.float64)
    part = cv2.warpAffine(image, matrix, (_SIDE, _SIDE), flags=cv2.INTER_AREA)
    return part, scale, corner  # type: ignore[return-value]

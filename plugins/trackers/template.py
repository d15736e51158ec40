"""Follows a face by how it looked: normalised correlation with the face as it was last found."""

from __future__ import annotations

import cv2
import numpy as np

from fyc.asl.face.bundle import Bundle
from fyc.asl.face.detector import Image
from fyc.asl.face.landmarks import Region
from fyc.asl.face.litert import Floats
from fyc.asl.tracker import Reading

#: Pixels of a side of the template; the search goes this part of the face's size in each direction.
_SIDE = 48
_REACH = 0.5
#: Turns and scales that are tried, beside none.
_TURNS = (-0.12, 0.0, 0.12)
_SCALES = (0.94, 1.0, 1.06)
#: Below this correlation the face is lost.
_LEAST = 0.4


class TemplateTracker:
    """A template of the whole face, matched over shifts, small turns and scales. It drifts never and bends never."""

    name = "template"
    summary = "the face as it was last found, matched over shifts, turns and scales"

    def __init__(self, bundle: Bundle) -> None:
        self._template: Image | None = None
        self._shape: Floats | None = None
        self._size = 0.0

    def start(self, image: Image, points: Floats) -> None:
        """Keep the look of the face, upright."""
        region = _face_region(points)
        self._template = _cut(image, region, _SIDE)
        self._shape = _into(region, points)
        self._size = region.side

    def track(self, image: Image, points: Floats) -> Reading | None:
        """The best match near where the face was."""
        if self._template is None or self._shape is None:
            return None
        last = _face_region(points)
        best: tuple[float, Region] | None = None
        for turn in _TURNS:
            for scale in _SCALES:
                tried = Region(last.x, last.y, last.side * scale, last.angle + turn)
                found = self._match(image, tried)
                if best is None or found[0] > best[0]:
                    best = found
        assert best is not None
        score, region = best
        if score < _LEAST:
            return None
        matrix = region.matrix
        placed = self._shape @ matrix[:, :2].T + matrix[:, 2]
        return Reading(placed.astype(np.float32), score)

    def _match(self, image: Image, region: Region) -> tuple[float, Region]:
        """Correlation and place of the best shift for one turn and scale."""
        wide = 1 + 2 * _REACH
        around = _cut(image, Region(region.x, region.y, region.side * wide, region.angle), round(_SIDE * wide))
        scores = cv2.matchTemplate(around, self._template, cv2.TM_CCOEFF_NORMED)  # type: ignore[arg-type]
        _, score, _, (column, row) = cv2.minMaxLoc(scores)
        middle = (scores.shape[1] - 1) / 2, (scores.shape[0] - 1) / 2
        offset = np.array([(column - middle[0]) / _SIDE, (row - middle[1]) / _SIDE])
        x, y = region.matrix[:, :2] @ offset + (region.x, region.y)
        return float(score) if np.isfinite(score) else 0.0, Region(float(x), float(y), region.side, region.angle)


def _face_region(points: Floats) -> Region:
    """The square of the face itself: two thirds of what the landmark network looks at."""
    wide = Region.of_points(points)
    return Region(wide.x, wide.y, wide.side / 1.5, wide.angle)


def _cut(image: Image, region: Region, size: int) -> Image:
    return cv2.cvtColor(region.cut(image, size), cv2.COLOR_RGB2GRAY)  # type: ignore[return-value]


def _into(region: Region, points: Floats) -> Floats:
    """Points in the coordinates of a region, -0.5 to 0.5."""
    matrix = region.matrix
    inverse: Floats = ((points - matrix[:, 2]) @ np.linalg.inv(matrix[:, :2]).T).astype(np.float32)
    return inverse

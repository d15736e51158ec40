"""Follows a face by optical flow: pyramidal Lucas-Kanade with a check backwards."""

from __future__ import annotations

import cv2
import numpy as np

from fyc.asl.face.bundle import Bundle
from fyc.asl.face.detector import Image
from fyc.asl.face.litert import Floats
from fyc.asl.face.mesh import POINTS
from fyc.asl.tracker import Reading

#: Every so many landmarks is followed.
_EVERY = 3
#: The face is followed in a part of the picture that is scaled so that it is this wide, in pixels.
_WIDTH = 160.0
#: A point that does not come back to within this many pixels at that scale is lost.
_RETURN = 1.0
#: With less than this part of the points, the face is lost.
_LEAST = 0.25
_WINDOW = (13, 13)
_LEVELS = 3


class FlowTracker:
    """Kanade, Lucas and Tomasi's flow (Bouguet's pyramid) of the landmarks, forward and backward."""

    name = "flow"
    summary = "optical flow of the landmarks, checked backwards"

    def __init__(self, bundle: Bundle) -> None:
        self._followed = np.arange(0, POINTS, _EVERY)
        self._before: Image | None = None

    def start(self, image: Image, points: Floats) -> None:
        """Remember the picture that the face was found in."""
        self._before = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)  # type: ignore[assignment]

    def track(self, image: Image, points: Floats) -> Reading | None:
        """The landmarks that flow there and back, from the picture before."""
        now: Image = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)  # type: ignore[assignment]
        before, self._before = self._before, now
        if before is None or before.shape != now.shape:
            return None
        matrix = _around(points)
        old, new = (cv2.warpAffine(grey, matrix, _SIZE, flags=cv2.INTER_LINEAR) for grey in (before, now))
        start = (points[self._followed] @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)[:, None]
        there, found, _ = cv2.calcOpticalFlowPyrLK(old, new, start, None, winSize=_WINDOW, maxLevel=_LEVELS)  # type: ignore[call-overload]
        back, found_back, _ = cv2.calcOpticalFlowPyrLK(new, old, there, None, winSize=_WINDOW, maxLevel=_LEVELS)  # type: ignore[call-overload]
        away = np.linalg.norm(back - start, axis=2).ravel()
        kept = (found.ravel() > 0) & (found_back.ravel() > 0) & (away < _RETURN)
        share = float(kept.mean())
        if share < _LEAST:
            return None
        moved = np.full((POINTS, 2), np.nan, np.float32)
        inverse = cv2.invertAffineTransform(matrix)
        moved[self._followed[kept]] = there[kept, 0] @ inverse[:, :2].T + inverse[:, 2]
        return Reading(moved, share)


_SIZE = (int(2 * _WIDTH), int(2 * _WIDTH))


def _around(points: Floats) -> np.ndarray:
    """(2, 3), from pixels to the part of the picture around the face, in which it is `_WIDTH` wide."""
    low, high = points.min(axis=0), points.max(axis=0)
    scale = _WIDTH / max(float((high - low).max()), 1.0)
    centre = (low + high) / 2
    return np.array([[scale, 0, _WIDTH - scale * centre[0]], [0, scale, _WIDTH - scale * centre[1]]])

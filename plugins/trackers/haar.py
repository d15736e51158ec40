"""Finds faces with the Haar cascades of OpenCV: a second opinion that no network shares."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from fyc.asl.face.bundle import Bundle
from fyc.asl.face.detector import Face, Image
from fyc.asl.face.litert import Floats
from fyc.errors import ModelError

#: Frontal faces, and faces in profile as they look to the left of the picture.
_CASCADES = ("haarcascade_frontalface_default.xml", "haarcascade_profileface.xml")
#: Faces smaller than this part of the picture's shorter side are not looked for.
_SMALLEST = 0.08
#: Pictures are made so small before the search: their longer side, in pixels.
_SIDE = 320
#: Weight of a cascade that becomes a score of one half: a choice, no probability.
_HALF_SCORE = 3.0


class HaarFinder:
    """Viola and Jones' cascades (2001): frontal, and both profiles."""

    name = "haar"
    summary = "Haar cascades for frontal faces and profiles"

    def __init__(self, bundle: Bundle) -> None:
        folder = Path(cv2.data.haarcascades) if hasattr(cv2, "data") else Path()
        self._cascades = [cv2.CascadeClassifier(str(folder / name)) for name in _CASCADES]
        if any(cascade.empty() for cascade in self._cascades):
            raise ModelError(
                "FYC-M06", "this OpenCV has no Haar cascades", where=str(folder),
                next="run `pip install 'opencv-python-headless<5'`",
            )  # fmt: skip

    def find(self, image: Image) -> list[Face]:
        """Faces in a picture, best first; their keypoints are guessed from the box."""
        scale = min(1.0, _SIDE / max(image.shape[:2]))
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        small = cv2.equalizeHist(cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA))
        frontal, profile = self._cascades
        faces = self._look(frontal, small, scale, mirror=False)
        if not faces:
            faces = [*self._look(profile, small, scale, mirror=False), *self._look(profile, small, scale, mirror=True)]
        return sorted(faces, key=lambda face: -face.score)

    def _look(self, cascade: cv2.CascadeClassifier, grey: Image, scale: float, *, mirror: bool) -> list[Face]:
        least = max(20, round(_SMALLEST * min(grey.shape)))
        picture = np.ascontiguousarray(grey[:, ::-1]) if mirror else grey
        boxes, _, weights = cascade.detectMultiScale3(
            picture, scaleFactor=1.1, minNeighbors=4, minSize=(least, least), outputRejectLevels=True
        )
        faces = []
        for (left, top, width, height), weight in zip(boxes, np.ravel(weights), strict=True):
            start = picture.shape[1] - left - width if mirror else left
            box = np.array([start, top, start + width, top + height], np.float32) / np.float32(scale)
            score = float(1 / (1 + np.exp(_HALF_SCORE - weight)))
            faces.append(Face(box, score, _keypoints(box)))
        return faces


def _keypoints(box: Floats) -> Floats:
    """(6, 2), where eyes, nose, mouth and ears of an upright frontal face would be."""
    left, top, right, bottom = box
    places = [(0.31, 0.39), (0.69, 0.39), (0.5, 0.58), (0.5, 0.77), (0.08, 0.45), (0.92, 0.45)]
    return np.array([(left + x * (right - left), top + y * (bottom - top)) for x, y in places], np.float32)

"""Finds faces with the detector of the bundle."""

from __future__ import annotations

from fyc.asl.face.bundle import Bundle
from fyc.asl.face.detector import Face, FaceDetector, Image


class BlazeFaceFinder:
    """BlazeFace on the whole picture and on parts of it."""

    name = "blazeface"
    summary = "detector network, 128x128 pixels, on the whole picture and on parts of it"

    def __init__(self, bundle: Bundle) -> None:
        self._detector = FaceDetector(bundle.detector)

    def find(self, image: Image) -> list[Face]:
        """Faces in a picture, best first."""
        return self._detector.find(image)

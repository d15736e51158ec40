"""Follows a face with the 478-point network, frame by frame."""

from __future__ import annotations

from fyc.asl.face.bundle import Bundle
from fyc.asl.face.detector import Image
from fyc.asl.face.landmarks import LandmarkNet, Region
from fyc.asl.face.litert import Floats
from fyc.asl.face.mesh import POINTS
from fyc.asl.tracker import Reading

#: Below this the network sees no face where it looks.
_LEAST_PRESENCE = 0.5


class NetworkTracker:
    """The landmark network on the region where the face was; it remembers nothing."""

    name = "network"
    summary = "468 landmarks from a network, placed anew in every frame"

    def __init__(self, bundle: Bundle) -> None:
        self._net = LandmarkNet(bundle.landmarks)

    def start(self, image: Image, points: Floats) -> None:
        """Nothing to take over."""

    def track(self, image: Image, points: Floats) -> Reading | None:
        """Landmarks of the face near where it was."""
        found = self._net.place(image, Region.of_points(points))
        if found.presence < _LEAST_PRESENCE:
            return None
        return Reading(found.points[:POINTS, :2], found.presence, found.points[:POINTS, 2], expressive=True)

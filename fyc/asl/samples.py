"""Faces of one signer, kept from frames all over a video: what their shape and their rest are learned from."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from fyc.asl.face.bundle import Bundle
from fyc.asl.face.camera import Array, Camera
from fyc.asl.face.detector import FaceDetector, Image
from fyc.asl.face.landmarks import LandmarkNet, Region
from fyc.asl.face.litert import Floats
from fyc.asl.face.mesh import POINTS
from fyc.asl.face.pose import Pose
from fyc.asl.measures import LEAST_CONFIDENCE, MOST_COVERED
from fyc.asl.tracking.ensemble import TrackedFrame

#: So many to twice as many are kept, spread evenly.
SAMPLES = 48
#: Pixels of a side of the small pictures.
PATCH = 256
#: In a single picture, a face of which the network is less sure is none.
_LEAST_PRESENCE = 0.5


@dataclass(frozen=True)
class FaceSample:
    """A face that was seen.

    Attributes:
        points: (468, 2), landmarks in pixels, NaN where something covers them.
        depths: (468,), of them, as a network gives them; None where there are none.
        camera: that took the picture.
        pose: one that is close; None where none is known.
        patch: (PATCH, PATCH), grey, the part of the picture around the face, turned upright.
        to_patch: (2, 3), from pixels of the picture to those of the patch.
    """

    points: Floats
    depths: Floats | None
    camera: Camera
    pose: Pose | None
    patch: Image
    to_patch: Array

    @classmethod
    def cut(
        cls, image: Image, points: Floats, depths: Floats | None, camera: Camera, pose: Pose | None = None
    ) -> FaceSample:
        """A sample from a picture (H, W, 3) RGB with landmarks (468, 2), all of them finite."""
        region = Region.of_points(points)
        grey: Image = cv2.cvtColor(region.cut(image, PATCH), cv2.COLOR_RGB2GRAY)  # type: ignore[assignment]
        inverse = np.linalg.inv(region.matrix[:, :2]) * PATCH
        to_patch = np.column_stack([inverse, PATCH / 2 - inverse @ region.matrix[:, 2]])
        return cls(points.copy(), depths, camera, pose, grey, to_patch)


class FaceReader:
    """Finds a face in a single picture, without what was before.

    Args:
        bundle: networks.
        face: which of several faces, counted from 0, from left to right; None for the largest.
    """

    def __init__(self, bundle: Bundle, *, face: int | None = None) -> None:
        self._detector, self._net, self._face = FaceDetector(bundle.detector), LandmarkNet(bundle.landmarks), face

    def read(self, image: Image, camera: Camera) -> FaceSample | None:
        """The face in a picture (H, W, 3) RGB; None if there is none."""
        found = self._detector.find(image)
        if self._face is not None:
            found = sorted(found, key=lambda face: float(face.box[0] + face.box[2]))[self._face : self._face + 1]
        if not found:
            return None
        rough = self._net.place(image, Region.around(max(found, key=lambda face: face.size)))
        placed = self._net.place(image, Region.of_points(rough.points))
        if placed.presence < _LEAST_PRESENCE:
            return None
        points = placed.points[:POINTS]
        return FaceSample.cut(image, points[:, :2], points[:, 2], camera)


class Sampler:
    """Keeps faces, evenly over a video of unknown length, in little memory.

    Args:
        least: so many to twice as many are kept, if there are so many.
    """

    def __init__(self, least: int = SAMPLES) -> None:
        self._least = least
        self._stride, self._frames = 1, 0
        self._kept: list[tuple[int, FaceSample]] = []

    def due(self) -> bool:
        """Count the next frame; whether it is one to keep a face from."""
        self._frames += 1
        return (self._frames - 1) % self._stride == 0

    def keep(self, sample: FaceSample) -> None:
        """Keep a face of the frame that was counted last."""
        self._kept.append((self._frames - 1, sample))
        if len(self._kept) > 2 * self._least:
            self._stride *= 2
            self._kept = [(n, sample) for n, sample in self._kept if n % self._stride == 0]

    def add(self, image: Image, tracked: TrackedFrame, camera: Camera) -> None:
        """The next frame; most are passed over, and faces of which little can be seen."""
        if not self.due() or tracked.points is None or tracked.confidence < LEAST_CONFIDENCE:
            return
        if tracked.expressive and tracked.occluded.mean() <= MOST_COVERED:
            sample = FaceSample.cut(image, tracked.points, tracked.depths, camera, tracked.pose)
            sample.points[tracked.occluded] = np.nan
            self.keep(sample)

    @property
    def samples(self) -> list[FaceSample]:
        """What was kept, in the order of time."""
        return [sample for _, sample in self._kept]

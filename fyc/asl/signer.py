"""One signer, learned from faces all over the video before it is measured: shape, look at rest, and baselines."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fyc.asl.face.brows import BrowGauge
from fyc.asl.face.camera import Array, Camera
from fyc.asl.face.detector import Image
from fyc.asl.face.frontal import FrontalView, FrontalWarp
from fyc.asl.face.litert import Floats
from fyc.asl.face.mesh import POINTS
from fyc.asl.face.pose import Pose, fit_pose, project_jacobian
from fyc.asl.face.shape import Observation, ShapeFitter
from fyc.asl.measures import MEASURES
from fyc.asl.neutral import NeutralBaseline
from fyc.asl.samples import FaceSample

#: Pixels of a side of the canonical view.
VIEW = 160
#: Middles of upper and lower lids (left, right eye of the person) and of the inner lips.
_LIDS = ((386, 374), (159, 145))
_LIPS = (13, 14)

#: What is measured on the face itself: brows, eyes, mouth.
VALUES = MEASURES[6:]


@dataclass(frozen=True)
class FaceMeasures:
    """What is measured in one frame.

    Attributes:
        pose: of the head.
        values: (7,), in the order of `VALUES`: brows in cm above rest, eyes as parts of the open eye, mouth in cm
            more open than at rest; NaN where it cannot be seen.
        view: the canonical view, grey.
    """

    pose: Pose
    values: Array
    view: FrontalView


class Signer:
    """A signer whose frames can be measured.

    Args:
        fitter: how faces differ from the canonical one.
        samples: faces of this person, at least three.

    Raises:
        ValueError: with fewer samples.
    """

    def __init__(self, fitter: ShapeFitter, samples: list[FaceSample]) -> None:
        if len(samples) < 3:
            raise ValueError(f"a signer is learned from three frames or more, not {len(samples)}")
        self._weights = fitter.weights
        self.shape = fitter.fit([Observation(sample.points, sample.camera, sample.pose) for sample in samples])
        self._warp = FrontalWarp(fitter.mesh, VIEW)
        poses = [self.pose(sample.points, sample.depths, sample.camera, sample.pose) for sample in samples]
        views = [self._sample_view(sample, pose) for sample, pose in zip(samples, poses, strict=True)]
        self.rest = _median_view(views)
        self._gauge = BrowGauge(fitter.mesh, self.rest)
        raw = np.array([
            self._raw(sample.points, pose, view, sample.camera)
            for sample, pose, view in zip(samples, poses, views, strict=True)
        ])  # fmt: skip
        angles = np.array([pose.angles for pose in poses])
        self._baselines = [_baseline(column, angles) for column in raw.T]

    def pose(self, points: Floats, depths: Floats | None, camera: Camera, start: Pose | None = None) -> Pose:
        """Pose of the head from landmarks (468, 2) in pixels and their depths.

        Raises:
            ValueError: if too few landmarks are known.
        """
        return fit_pose(points, self.shape, self._weights, camera, start, depths)

    def measure(self, image: Image, points: Floats, pose: Pose, camera: Camera) -> FaceMeasures:
        """Measure a frame.

        Args:
            image: (H, W, 3) RGB.
            points: (468, 2), landmarks in pixels.
            pose: of the head, from `pose`.
            camera: that took the frame.
        """
        view = self._view(image, camera.project(pose.place(self.shape)), np.isnan(points[:, 0]))
        raw, angles = self._raw(points, pose, view, camera), pose.angles[None]
        values = np.full(len(VALUES), np.nan)
        for number, (value, baseline) in enumerate(zip(raw, self._baselines, strict=True)):
            if baseline is not None:
                above = float(baseline.above(np.array([value]), angles)[0])
                is_eye = VALUES[number].startswith("eye")
                values[number] = 1 + above / max(baseline.level, 0.05) if is_eye else above
        return FaceMeasures(pose, values, view)

    def _view(self, image: Image, rigid: Array, covered: NDArray[np.bool_]) -> FrontalView:
        """The canonical view from the part of a picture that shows the face, so that little of it is made grey."""
        (left, top), (right, bottom) = np.floor(rigid.min(axis=0)).astype(int), np.ceil(rigid.max(axis=0)).astype(int)
        height, width = image.shape[:2]
        left, top, right, bottom = max(left - 2, 0), max(top - 2, 0), min(right + 2, width), min(bottom + 2, height)
        if right <= left or bottom <= top:
            return self._warp.warp(np.zeros((2, 2), np.uint8), np.full((POINTS, 2), -1e4))
        grey: Image = cv2.cvtColor(image[top:bottom, left:right], cv2.COLOR_RGB2GRAY)  # type: ignore[assignment]
        return self._warp.warp(grey, rigid - (left, top), covered)

    def _sample_view(self, sample: FaceSample, pose: Pose) -> FrontalView:
        rigid = sample.camera.project(pose.place(self.shape))
        covered = np.isnan(sample.points[:, 0])
        return self._warp.warp(sample.patch, rigid @ sample.to_patch[:, :2].T + sample.to_patch[:, 2], covered)

    def _raw(self, points: Floats, pose: Pose, view: FrontalView, camera: Camera) -> Array:
        """(7,), before the baselines are taken off: brows in cm above their median, lids and lips in cm apart."""
        gaps = [_gap(points, pose, self.shape, camera, *pair) for pair in (*_LIDS, _LIPS)]
        return np.array([*self._gauge.measure(view), *gaps])


def _gap(points: Floats, pose: Pose, shape: Array, camera: Camera, upper: int, lower: int) -> float:
    """How far two landmarks are apart, up and down the face, in cm: the pose taken out."""
    middle = pose.place(shape[[upper, lower]].mean(axis=0, keepdims=True))
    up = (project_jacobian(middle, camera) @ pose.rotation)[0, :, 1]
    apart = points[upper].astype(np.float64) - points[lower]
    return float(up @ apart / (up @ up))


def _median_view(views: list[FrontalView]) -> NDArray[np.uint8]:
    """(VIEW, VIEW), the median of what is visible; of everything where nothing is."""
    images = np.array([view.image for view in views], np.float32)
    hidden = ~np.array([view.visible for view in views])
    anywhere = images.copy()
    anywhere[hidden & ~hidden.all(axis=0)] = np.nan
    median: NDArray[np.uint8] = np.nanmedian(anywhere, axis=0).astype(np.uint8)
    return median


def _baseline(values: Array, angles: Array) -> NeutralBaseline | None:
    try:
        return NeutralBaseline.fit(values, angles)
    except ValueError:
        return None

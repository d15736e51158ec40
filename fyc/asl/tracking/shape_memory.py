"""The shape of the face that is followed, learned as it turns; it says where landmarks are that nobody sees."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fyc.asl.face.camera import Array, Camera
from fyc.asl.face.pose import Pose, fit_pose
from fyc.asl.tracking.pose_step import refine_pose

Flags = NDArray[np.bool_]

#: How much of a landmark's displacement is learned from one frame, and how much of what was learned is forgotten.
_LEARNED, _FORGOTTEN = 0.3, 0.01
#: A displacement of more than this is a mistake, in cm.
_MOST = 2.0
#: What a landmark is off by, its neighbours are, too: deviation of a bell, in cm; a sum that counts as no neighbour.
_REACH, _FAINT = 0.8, 0.05
#: Landmarks of weight that a pose needs if it is to be fitted to those that are seen alone.
_FEWEST = 40


class ShapeMemory:
    """The last shape of a face, in three dimensions.

    Args:
        canonical: (468, 3), the canonical face in cm.
        rigidity: (468,), how much each vertex counts for the pose.
    """

    def __init__(self, canonical: Array, rigidity: Array) -> None:
        self._canonical, self._rigidity = canonical, rigidity
        distances = np.linalg.norm(canonical[:, None] - canonical[None], axis=2)
        self._near = np.exp(-((distances / _REACH) ** 2) / 2).astype(np.float32)
        self.forget()

    def forget(self) -> None:
        """Know no more than the canonical face."""
        self.shape = self._canonical.copy()

    def pose(self, points: NDArray[np.floating], covered: Flags, camera: Camera, start: Pose | None) -> Pose | None:
        """The pose of the face from its landmarks; None if there are too few.

        Args:
            points: (468, 2), pixels; NaN where nothing is known.
            covered: (468,), which do not count.
            camera: that took the picture.
            start: a pose close by.
        """
        weights = self._rigidity * ~covered
        if (np.isfinite(points[:, 0]) & (weights > 0)).sum() < _FEWEST:
            weights = self._rigidity
        try:
            if start is None:
                return fit_pose(points, self._canonical, weights, camera)
            return refine_pose(points, self._canonical, weights, camera, start)
        except (ValueError, np.linalg.LinAlgError):
            return None

    def complete(self, points: NDArray[np.floating], covered: Flags, pose: Pose, camera: Camera) -> NDArray[np.float32]:
        """(468, 2), the landmarks; those that are NaN or covered are where the last shape has them in this pose.

        They are off by as much as the neighbours that are known.
        """
        known = np.isfinite(points).all(axis=1) & ~covered
        model = camera.project(pose.place(self.shape)).astype(np.float32)
        if known.all():
            return points.astype(np.float32)
        off = np.where(known[:, None], points - model, 0).astype(np.float32)
        shares = self._near @ np.concatenate([off, known[:, None].astype(np.float32)], axis=1)
        guessed = model + shares[:, :2] / (shares[:, 2:] + _FAINT)
        return np.where(known[:, None], points, guessed).astype(np.float32)

    def learn(self, points: NDArray[np.floating], seen: Flags, pose: Pose, camera: Camera) -> None:
        """Move the vertices that are seen (468,) towards their landmarks, within the plane of the picture."""
        placed = pose.place(self.shape)
        off = (points - camera.project(placed)) * (1, -1) * (-placed[:, 2:] / camera.focal)
        off *= (seen & (np.linalg.norm(off, axis=1) < _MOST))[:, None]
        self.shape += _LEARNED * np.append(off, np.zeros((len(off), 1)), axis=1) @ pose.rotation
        self.shape += _FORGOTTEN * (self._canonical - self.shape)

"""Moves a pose to where the picture looks most like the face that is known: what is seen guides what is covered.

Lucas and Kanade's alignment, in the canonical view, over the six parameters of the pose, with robust weights; cells
that are covered do not count. It is asked for only when something covers the face, since it costs as much as a tracker.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fyc.asl.face.camera import Array, Camera
from fyc.asl.face.detector import Image
from fyc.asl.face.pose import Pose
from fyc.asl.tracking.appearance import AppearanceModel, View
from fyc.asl.tracking.pose_step import moved_pose

Floats = NDArray[np.float32]

#: Changes of the pose by which derivatives are taken: radians, then centimetres; a step goes at most so many of them.
_CHANGES = np.array([0.02, 0.02, 0.02, 0.15, 0.15, 0.8])
_MOST = 4.0
_STEPS = 2
#: Differences of contrast of this size lose half of their weight, roughly.
_SCALE = 0.6


def align(
    looks: AppearanceModel,
    grey: Image,
    points: Floats,
    shape: Array,
    pose: Pose,
    camera: Camera,
    covered: NDArray[np.bool_],
) -> tuple[Floats, Pose] | None:
    """Landmarks and pose that look more like the face; None if too little of it is seen.

    Args:
        looks: what is known of the face.
        grey: (H, W).
        points: (468, 2), landmarks in pixels; they keep their distances to the model.
        shape: (468, 3), the face in cm.
        pose: of the face.
        camera: that took the picture.
        covered: (8, 8), cells that do not count.
    """
    model = camera.project(pose.place(shape))
    change = np.zeros(6)

    def seen(by: Array) -> tuple[Floats, View]:
        moved = moved_pose(pose, by)
        there = (points + camera.project(moved.place(shape)) - model).astype(np.float32)
        return there, looks.see(grey, there, float(pose.angles[0]))

    mean, known = looks.expected(float(pose.angles[0]), covered)
    for _ in range(_STEPS):
        _, view = seen(change)
        counted = known & view.seen
        if counted.sum() < 200:
            return None
        off = (view.contrast - mean)[counted].astype(np.float64)
        slopes = np.stack([
            (seen(change + by)[1].contrast[counted] - view.contrast[counted]) for by in np.diag(_CHANGES)
        ]).astype(np.float64)  # fmt: skip
        weights = 1 / (1 + (off / _SCALE) ** 2) ** 2
        normal = (slopes * weights) @ slopes.T
        normal[np.diag_indices(6)] *= 1.02
        step = np.linalg.solve(normal + 1e-6 * np.eye(6), (slopes * weights) @ off)
        change = change - np.clip(step, -_MOST, _MOST) * _CHANGES
    return seen(change)[0], moved_pose(pose, change)

"""A pose from the pose of the frame before, in a few robust steps: what `fit_pose` finds, at a third of its time.

The estimate is that of `fyc.asl.face.pose`: landmarks that fit badly lose their weight (Geman and McClure).
"""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
from numpy.typing import NDArray

from fyc.asl.face.camera import Array, Camera
from fyc.asl.face.pose import Pose, linearised

_STEPS, _ENOUGH = 6, 1e-4
#: As in `fyc.asl.face.pose`: residuals of this part of the face's size are always trusted.
_LEAST_SCALE = 0.004


def refine_pose(pixels: NDArray[np.floating], shape: Array, weights: Array, camera: Camera, start: Pose) -> Pose:
    """The pose near to another that explains landmarks best.

    Args:
        pixels: (N, 2), landmarks; NaN for those that are not known.
        shape: (N, 3), the same points of the face, in centimetres.
        weights: (N,), how much each one counts.
        camera: that took the picture.
        start: the pose of the frame before.

    Raises:
        ValueError: with fewer than six landmarks of weight.
        numpy.linalg.LinAlgError: if they determine no pose.
    """
    known = np.flatnonzero((weights > 0) & np.isfinite(pixels[:, 0]))
    if len(known) < 6:
        raise ValueError(f"a pose needs six landmarks, there are {len(known)}")
    y, x, w = pixels[known].astype(np.float64), shape[known], weights[known]
    size = max(float(np.sqrt(np.prod(y.max(axis=0) - y.min(axis=0)))), 1.0)
    rotation, translation = start.rotation, start.translation
    for _ in range(_STEPS):
        turned = x @ rotation.T
        residual, jacobian = linearised(turned, translation, y, camera)
        distances = np.sqrt((residual * residual).sum(axis=1))
        middle = float(np.median(distances))
        scale = max(2.5 * middle, _LEAST_SCALE * size)
        trust = 1 / (1 + (distances / scale) ** 2) ** 2
        weighted = jacobian * np.repeat(w * trust, 2)[:, None]
        step = np.linalg.solve(weighted.T @ jacobian + 1e-9 * np.eye(6), weighted.T @ residual.ravel())
        rotation = cv2.Rodrigues(-step[:3])[0] @ rotation
        translation = translation - step[3:]
        if np.abs(step).max() < _ENOUGH:
            break
    trusts = np.zeros(len(pixels))
    trusts[known] = trust
    return Pose(rotation, translation, trusts, middle / size)


def moved_pose(pose: Pose, change: Array) -> Pose:
    """A pose after a small turn (3,) in radians and shift (3,) in centimetres, in the camera's axes."""
    return replace(
        pose, rotation=cv2.Rodrigues(change[:3])[0] @ pose.rotation, translation=pose.translation + change[3:]
    )

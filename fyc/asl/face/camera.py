"""Rotations of a head and a pinhole camera.

Axes of the face and of the camera: x to the right of the picture, y up, z towards the viewer. A face that looks into
the camera has the rotation 1. Angles are in degrees:

- yaw: positive when the face turns to the right of the picture, the person's left
- pitch: positive when the face turns up
- roll: positive when the head tilts clockwise in the picture, to the person's left shoulder

The nose points to (sin yaw cos pitch, sin pitch, cos yaw cos pitch); roll turns the head about it. So
R = Ry(yaw) Rx(-pitch) Rz(-roll), with right-handed rotations about the axes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Camera:
    """A pinhole camera in the origin that looks along -z.

    Attributes:
        focal: focal length, in pixels.
        x, y: where the optical axis meets the picture, in pixels.
    """

    focal: float
    x: float
    y: float

    @classmethod
    def for_picture(cls, width: int, height: int, field_of_view: float = 50.0) -> Camera:
        """A camera for a picture whose longer side covers `field_of_view` degrees, the axis in its centre."""
        focal = max(width, height) / (2 * math.tan(math.radians(field_of_view) / 2))
        return cls(focal, width / 2, height / 2)

    def project(self, points: Array) -> Array:
        """(..., 2) pixels, rows counted downwards, of points (..., 3) in front of the camera (z below 0)."""
        depth = -points[..., 2:]
        return np.array([self.x, self.y]) + self.focal * points[..., :2] * (1, -1) / depth

    def rays(self, pixels: Array) -> Array:
        """(..., 3) unit vectors from the camera through pixels (..., 2)."""
        flat = (pixels - (self.x, self.y)) * (1, -1) / self.focal
        rays = np.concatenate([flat, -np.ones((*flat.shape[:-1], 1))], axis=-1)
        lengths: Array = np.linalg.norm(rays, axis=-1, keepdims=True)
        return rays / lengths


def rotation_of(yaw: ArrayLike, pitch: ArrayLike, roll: ArrayLike) -> Array:
    """(..., 3, 3) rotations of heads with these angles in degrees."""
    y, p, r = np.broadcast_arrays(*(np.radians(np.asarray(angle, np.float64)) for angle in (yaw, pitch, roll)))
    cy, sy, cp, sp, cr, sr = np.cos(y), np.sin(y), np.cos(p), np.sin(p), np.cos(r), np.sin(r)
    rows = [
        [cy * cr + sy * sp * sr, cy * sr - sy * sp * cr, sy * cp],
        [-cp * sr, cp * cr, sp],
        [cy * sp * sr - sy * cr, -cy * sp * cr - sy * sr, cy * cp],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def angles_of(rotation: Array) -> Array:
    """(..., 3) yaw, pitch and roll in degrees of rotations (..., 3, 3).

    Yaw and roll are -180 to 180, pitch -90 to 90. For a pitch of exactly +-90 degrees only yaw and roll together are
    determined: then yaw is what numpy makes of the rounding errors.
    """
    nose = rotation[..., :, 2]
    yaw = np.arctan2(nose[..., 0], nose[..., 2])
    pitch = np.arcsin(np.clip(nose[..., 1], -1, 1))
    cos, sin = np.cos(yaw), np.sin(yaw)
    across = rotation[..., 0, :2] * cos[..., None] - rotation[..., 2, :2] * sin[..., None]
    roll = np.arctan2(across[..., 1], across[..., 0])
    angles: Array = np.degrees(np.stack([yaw, pitch, roll], axis=-1))
    return angles

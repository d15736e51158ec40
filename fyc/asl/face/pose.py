"""Pose of a head from landmarks in a picture: robust least squares under perspective.

The landmarks y are fitted by P(R X + t): X the face's shape in centimetres, P the camera, R and t sought. Landmarks
that do not fit (a hand before the face) lose their weight: min over R, t of sum w rho(|P(R X + t) - y|), rho of Geman
and McClure, by iteratively reweighted Gauss-Newton steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fyc.asl.face.camera import Array, Camera, angles_of

_STEPS = 15
#: Steps that turn by less than this in radians, and shift by less in cm, are the last.
_ENOUGH = 1e-4
#: Guesses at a first pose, each from so many landmarks of one half of the face: one of them will meet no hand.
_GUESSES, _EACH = 24, 12
#: A residual of this part of the face's size in the picture halves a landmark's weight, roughly.
_LEAST_SCALE = 0.004


@dataclass(frozen=True)
class Pose:
    """Where a head is and how it is turned, in the camera's axes.

    Attributes:
        rotation: (3, 3), from the face's axes to the camera's.
        translation: (3,), of the face's origin, in centimetres; its depth is only as right as the focal length.
        trust: (N,), 0 to 1, how well each landmark fits.
        error: median distance between landmarks and model, as a part of the face's size in the picture.
    """

    rotation: Array
    translation: Array
    trust: Array
    error: float

    @property
    def angles(self) -> Array:
        """Yaw, pitch and roll in degrees (`fyc.asl.face.camera`)."""
        return angles_of(self.rotation)

    def place(self, shape: Array) -> Array:
        """(N, 3), points of the face (N, 3) in the camera's axes, in centimetres."""
        return shape @ self.rotation.T + self.translation


def fit_pose(
    pixels: NDArray[np.floating],
    shape: Array,
    weights: Array,
    camera: Camera,
    start: Pose | None = None,
    depths: NDArray[np.floating] | None = None,
) -> Pose:
    """The pose that explains landmarks best.

    Landmarks of a network come with depths. What they say of the pose errs otherwise than what the picture says (on
    synthetic heads, pitch from the picture alone is 10 % too small): with depths, the rotation is half way between.

    Args:
        pixels: (N, 2), landmarks; NaN for those that are not known.
        shape: (N, 3), the same points of the face, in centimetres.
        weights: (N,), how much each one counts; 0 for those that move with the expression.
        camera: the camera.
        start: a pose close by, such as that of the frame before; otherwise one is found from the landmarks alone.
        depths: (N,), in pixels as of a network: smaller is nearer to the camera, along the line of sight to the face.

    Raises:
        ValueError: with fewer than six landmarks of weight.
    """
    known = np.flatnonzero(np.isfinite(pixels).all(axis=1) & (weights > 0))
    if len(known) < 6:
        raise ValueError(f"a pose needs six landmarks, there are {len(known)}")
    y, x, w = pixels[known].astype(np.float64), shape[known], weights[known] / weights[known].sum()
    size = float(np.sqrt(np.ptp(y[:, 0]) * np.ptp(y[:, 1]))) or 1.0
    rotation, translation = _first_guess(y, x, w, camera) if start is None else (start.rotation, start.translation)
    for _ in range(_STEPS):
        turned = x @ rotation.T
        residual, jacobian = linearised(turned, translation, y, camera)
        distances = np.linalg.norm(residual, axis=1)
        scale = max(2.5 * _weighted_median(distances, w), _LEAST_SCALE * size)
        weighted = jacobian * np.repeat(w / (1 + (distances / scale) ** 2) ** 2, 2)[:, None]
        step = np.linalg.solve(weighted.T @ jacobian + 1e-9 * np.eye(6), weighted.T @ residual.ravel())
        rotation = _rotation_about(-step[:3]) @ rotation
        translation = translation - step[3:]
        if np.abs(step).max() < _ENOUGH:
            break
    trust = np.zeros(len(pixels))
    trust[known] = 1 / (1 + (distances / scale) ** 2) ** 2
    if depths is not None:
        share = w * trust[known]
        seen = rotation_from_depths(y, depths[known].astype(np.float64), x, share / share.sum(), camera)
        rotation = nearest_rotation(rotation + seen)
        translation = _refitted(rotation, translation, y, x, share, camera)
    return Pose(rotation, translation, trust, _weighted_median(distances, w) / size)


def _first_guess(y: Array, x: Array, w: Array, camera: Camera) -> tuple[Array, Array]:
    """The best of poses from a few landmarks each, by the median distance of all of them."""
    chance = np.random.default_rng(0)
    guesses = []
    for _ in range(_GUESSES):
        half = np.argsort(x @ chance.normal(size=3))[: max(_EACH, len(x) // 2)]
        some = chance.choice(half, min(_EACH, len(half)), replace=False)
        rotation, translation = _affine_pose(y[some], x[some], w[some] / w[some].sum(), camera)
        distances = np.linalg.norm(camera.project(x @ rotation.T + translation) - y, axis=1)
        guesses.append((_weighted_median(distances, w), rotation, translation))
    _, rotation, translation = min(guesses, key=lambda guess: guess[0])
    return rotation, translation


def _affine_pose(y: Array, x: Array, w: Array, camera: Camera) -> tuple[Array, Array]:
    """Rotation and translation of the scaled orthographic view that is nearest to the best affine one."""
    flat = (y - (camera.x, camera.y)) * (1, -1)
    centre_y, centre_x = w @ flat, w @ x
    root = np.sqrt(w)[:, None]
    affine = np.linalg.lstsq(root * (x - centre_x), root * (flat - centre_y), rcond=None)[0].T
    u, s, vt = np.linalg.svd(affine, full_matrices=False)
    rows = u @ vt
    rotation = np.stack([rows[0], rows[1], np.cross(rows[0], rows[1])])
    depth = camera.focal / max(float(s.mean()), 1e-9)
    seen = np.array([*(centre_y * depth / camera.focal), -depth])
    return rotation, seen - rotation @ centre_x


def linearised(turned: Array, translation: Array, y: Array, camera: Camera) -> tuple[Array, Array]:
    """(N, 2) residuals in pixels, and how they change with a small turn and shift (2 N, 6).

    Args:
        turned: (N, 3), points of the face after the rotation.
        translation: (3,), in cm.
        y: (N, 2), landmarks in pixels.
        camera: that took the picture.
    """
    px, py, pz = (turned + translation).T
    scale = -camera.focal / pz
    u, v = px * scale, -py * scale
    residual = np.stack([u + camera.x - y[:, 0], v + camera.y - y[:, 1]], axis=1)
    ax, ay, az = turned.T
    by_u, by_v = -u / pz, -v / pz
    jacobian = np.zeros((len(y), 2, 6))
    jacobian[:, 0, 0], jacobian[:, 0, 1], jacobian[:, 0, 2] = ay * by_u, az * scale - ax * by_u, -ay * scale
    jacobian[:, 1, 0], jacobian[:, 1, 1], jacobian[:, 1, 2] = ay * by_v + az * scale, -ax * by_v, -ax * scale
    jacobian[:, 0, 3], jacobian[:, 0, 5] = scale, by_u
    jacobian[:, 1, 4], jacobian[:, 1, 5] = -scale, by_v
    return residual, jacobian.reshape(-1, 6)


def rotation_from_depths(y: Array, depths: Array, x: Array, w: Array, camera: Camera) -> Array:
    """The rotation of the similarity that takes a shape (N, 3) to landmarks (N, 2) and their depths, along the ray.

    Args:
        y: (N, 2), pixels.
        depths: (N,), pixels, as for `fit_pose`.
        x: (N, 3), the shape in cm.
        w: (N,), weights that sum to 1.
        camera: the camera.
    """
    target = np.column_stack([y * (1, -1), -depths])
    covariance = (w[:, None] * (target - w @ target)).T @ (x - w @ x)
    return _turned_to(camera.rays(w @ y)) @ nearest_rotation(covariance)


def _turned_to(ray: Array) -> Array:
    """(3, 3), the shortest rotation from the axis of the camera to a line of sight."""
    axis = np.cross((0.0, 0.0, -1.0), ray)
    sine = float(np.linalg.norm(axis))
    return _rotation_about(axis / max(sine, 1e-12) * np.arctan2(sine, -ray[2]))


def nearest_rotation(matrix: Array) -> Array:
    """(3, 3), the rotation that is nearest to a matrix."""
    u, _, vt = np.linalg.svd(matrix)
    rotation: Array = u @ np.diag([1.0, 1.0, np.linalg.det(u @ vt)]) @ vt
    return rotation


def _refitted(rotation: Array, translation: Array, y: Array, x: Array, w: Array, camera: Camera) -> Array:
    """The translation that fits best with a rotation that stays."""
    turned = x @ rotation.T
    for _ in range(3):
        residual = camera.project(turned + translation) - y
        jacobian = project_jacobian(turned + translation, camera)
        normal = np.einsum("n,nki,nkj->ij", w, jacobian, jacobian)
        translation = translation - np.linalg.solve(normal, np.einsum("n,nki,nk->i", w, jacobian, residual))
    return translation


def project_jacobian(points: Array, camera: Camera) -> Array:
    """(N, 2, 3), how pixels change with points (N, 3) in the camera's axes, in pixels per centimetre."""
    px, py, pz = points.T
    focal, zero = camera.focal, np.zeros(len(points))
    across = np.stack([-focal / pz, zero, focal * px / pz**2], axis=1)
    down = np.stack([zero, focal / pz, -focal * py / pz**2], axis=1)
    return np.stack([across, down], axis=1)


def _rotation_about(vector: Array) -> Array:
    """(3, 3), the rotation about a vector by its length in radians (Rodrigues)."""
    angle = float(np.linalg.norm(vector))
    if angle < 1e-12:
        return np.eye(3)
    x, y, z = vector / angle
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    rotation: Array = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    return rotation


def _weighted_median(values: Array, weights: Array) -> float:
    order = np.argsort(values)
    return float(values[order][np.searchsorted(np.cumsum(weights[order]), weights.sum() / 2)])

"""The shape of one signer's face, from landmarks in many frames.

Deformations of the canonical mesh are taken to be smooth, with the standard deviations below, plus the modes that were
learned (`fyc.asl.face.deformation`). Shape and poses are found in turn: the poses for a shape one by one, then the
shape that explains all frames, by least squares with that prior (a bundle adjustment in which the camera is known).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fyc.asl.face.camera import Array, Camera
from fyc.asl.face.deformation import FaceBasis
from fyc.asl.face.mesh import FaceMesh
from fyc.asl.face.pose import Pose, fit_pose, nearest_rotation, project_jacobian

#: Smooth deformations: over how many centimetres they reach, and how large they are across, up and in depth. They
#: allow heads that are 8 % wider or higher and 25 % deeper than the canonical one; no heads were measured for them.
_SMOOTH = ((12.0, (0.6, 0.6, 1.2)), (4.0, (0.25, 0.25, 0.4)), (1.5, (0.08, 0.08, 0.1)))
#: Standard deviation of a landmark in a frame, in cm; frames of one clip err together, so it is not that of one frame.
_NOISE = 0.2
_ROUNDS = 3


@dataclass(frozen=True)
class Observation:
    """Landmarks in one frame.

    Attributes:
        pixels: (468, 2), NaN where unknown.
        camera: that took the frame.
        pose: one that is close; None where none is known.
    """

    pixels: NDArray[np.floating]
    camera: Camera
    pose: Pose | None = None


class ShapeFitter:
    """How faces differ from the canonical one.

    Args:
        mesh: the canonical mesh.
        basis: the learned modes.
    """

    def __init__(self, mesh: FaceMesh, basis: FaceBasis) -> None:
        self.mesh, self.basis = mesh, basis
        self.weights = basis.rigidity()
        count = len(mesh.vertices)
        squares = ((mesh.vertices[:, None] - mesh.vertices[None]) ** 2).sum(axis=2)
        covariance = np.zeros((count, 3, count, 3))
        for reach, sizes in _SMOOTH:
            smooth = np.exp(-squares / (2 * reach**2))
            for axis, size in enumerate(sizes):
                covariance[:, axis, :, axis] += size**2 * smooth
        modes = basis.persons.reshape(len(basis.persons), -1)
        flat = covariance.reshape(3 * count, 3 * count) + modes.T @ modes + 1e-4 * np.eye(3 * count)
        self.precision: Array = np.linalg.inv(flat).astype(np.float64)

    def fit(self, observations: Sequence[Observation]) -> Array:
        """(468, 3), the likeliest shape of the face in all of these frames, in cm, turned to the canonical mesh.

        Args:
            observations: frames of one person; those in which a pose cannot be found are left out.
        """
        shape = self.mesh.vertices
        poses = [seen.pose for seen in observations]
        for _ in range(_ROUNDS):
            poses = [self._pose(seen, shape, before) for seen, before in zip(observations, poses, strict=True)]
            shape = self._shape(observations, poses, shape)
        return shape

    def _pose(self, seen: Observation, shape: Array, before: Pose | None) -> Pose | None:
        try:
            return fit_pose(seen.pixels, shape, self.weights, seen.camera, before)
        except (ValueError, np.linalg.LinAlgError):
            return None

    def _shape(self, observations: Sequence[Observation], poses: Sequence[Pose | None], shape: Array) -> Array:
        count = len(shape)
        information, pull = np.zeros((count, 3, 3)), np.zeros((count, 3))
        for seen, pose in zip(observations, poses, strict=True):
            if pose is not None:
                own, towards = _one_frame(seen, pose, shape)
                information += own
                pull += towards
        if not information.any():
            return shape
        normal = self.precision.reshape(count, 3, count, 3).copy()
        each = np.arange(count)
        normal[each, :, each, :] += information
        wanted = pull + np.einsum("nij,nj->ni", information, shape - self.mesh.vertices)
        change = np.linalg.solve(normal.reshape(3 * count, 3 * count), wanted.ravel()).reshape(count, 3)
        return aligned(self.mesh.vertices + change, self.mesh.vertices, self.weights)


def _one_frame(seen: Observation, pose: Pose, shape: Array) -> tuple[Array, Array]:
    """(468, 3, 3) and (468, 3): what a frame says of the vertices, as parts of the normal equations."""
    placed = pose.place(shape)
    residual = np.nan_to_num(seen.pixels - seen.camera.project(placed))
    jacobian = project_jacobian(placed, seen.camera) @ pose.rotation
    noise = _NOISE * seen.camera.focal / -placed[:, 2].mean()
    weights = pose.trust / noise**2
    weighted = jacobian * weights[:, None, None]
    return np.einsum("nki,nkj->nij", weighted, jacobian), np.einsum("nki,nk->ni", weighted, residual)


def aligned(points: Array, target: Array, weights: Array) -> Array:
    """Points (N, 3) after the similarity that brings them nearest to a target (N, 3)."""
    w = weights / weights.sum()
    middle = w @ target
    centred, wanted = points - w @ points, target - middle
    rotation = nearest_rotation((w[:, None] * centred).T @ wanted)
    turned = centred @ rotation
    scale = float((w[:, None] * turned * wanted).sum() / (w[:, None] * turned**2).sum())
    placed: Array = scale * turned + middle
    return placed

"""Measures of synthetic clips without a picture, from landmarks with the errors of a network. Synthetic."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fyc.asl.face.camera import Array, Camera, angles_of
from fyc.asl.face.deformation import load_basis
from fyc.asl.face.mesh import FaceMesh
from fyc.asl.measures import Measures
from fyc.asl.neutral import NeutralBaseline
from fyc.asl.segments import Segment
from fyc.asl.synthetic.expression import Places
from fyc.asl.synthetic.observation import observe
from fyc.asl.synthetic.projection import HEIGHT, WIDTH, Stage
from fyc.asl.synthetic.script import Script

_EYE_CORNERS = ((263, 362), (33, 133))
_STEPS = 5
#: The network shows a closed eye with so much of its aperture left.
_LEAST_APERTURE = 0.05


def measure_clips(stage: Stage, scripts: Sequence[Script]) -> list[Measures]:
    """Measures of clips of one signer; what their face is like at rest is found from all of them together.

    The camera is taken to see 50 degrees and the face to be the canonical one, whatever they are: so it is with videos.

    Args:
        stage: with the mesh.
        scripts: of one signer.

    Raises:
        ValueError: if they are of several signers.
    """
    if len({script.signer for script in scripts}) > 1:
        raise ValueError("clips of one signer are measured together, these are of several")
    parts = [_measure(stage, script) for script in scripts]
    table = np.concatenate([part for _, part in parts])
    angles = table[:, :2]
    for column in range(6, 13):
        values = table[:, column]
        rest = NeutralBaseline.fit(values, angles)
        above = rest.above(values, angles)
        if column in (10, 11):
            open_eye = np.maximum(values - above, _LEAST_APERTURE)
            table[:, column] = np.maximum(values / open_eye, 0)
        else:
            table[:, column] = above
    ends = np.cumsum([len(part) for _, part in parts])[:-1]
    clips = zip(parts, np.split(table, ends), strict=True)
    return [Measures.from_table(times, np.isfinite(rows[:, 0]).astype(np.float64), rows) for (times, _), rows in clips]


def gold_segments(script: Script, tier: str) -> list[Segment]:
    """The gold segments of a tier, `marker` or `event`, in seconds."""
    rate = script.fps
    return [Segment(part.start / rate, part.end / rate, part.label) for part in script.segments if part.tier == tier]


def _measure(stage: Stage, script: Script) -> tuple[Array, Array]:
    """Times (T,) and a table (T, 13) of raw distances in cm, before anything is taken off for rest."""
    pixels = observe(stage, script)
    known = np.isfinite(pixels).all(axis=(1, 2))
    table = np.full((script.frames, 13), np.nan)
    truth = stage.project(script)
    rotations, places = _fit_poses(pixels[known], stage.mesh, truth.rotations[known], truth.translations[known])
    table[known, :3] = angles_of(rotations)
    table[known, 3:6] = places
    table[known, 6:] = _distances(pixels[known], stage.mesh, rotations, places)
    return np.arange(script.frames) / script.fps, table


def _camera() -> Camera:
    return Camera.for_picture(WIDTH, HEIGHT)


def _fit_poses(pixels: Array, mesh: FaceMesh, rotations: Array, places: Array) -> tuple[Array, Array]:
    """Rotations (T, 3, 3) and translations (T, 3) that explain landmarks (T, 468, 2) best, all frames at once.

    These landmarks have no outliers, so this is least squares; the poses that are given only save the first guess.
    """
    weights = load_basis().rigidity()
    for _ in range(_STEPS):
        turned = mesh.vertices @ rotations.transpose(0, 2, 1)
        points = turned + places[:, None]
        residual = _camera().project(points) - pixels
        by_point = _jacobians(points)
        by_turn = np.cross(turned[:, :, None], by_point)
        jacobian = np.concatenate([by_turn, by_point], axis=3).reshape(len(pixels), -1, 6)
        weighted = jacobian * np.repeat(weights, 2)[:, None]
        normal = weighted.transpose(0, 2, 1) @ jacobian + 1e-9 * np.eye(6)
        gradient = weighted.transpose(0, 2, 1) @ residual.reshape(len(pixels), -1, 1)
        step = -np.linalg.solve(normal, gradient)[..., 0]
        rotations = _turns(step[:, :3]) @ rotations
        places = places + step[:, 3:]
    return rotations, places


def _jacobians(points: Array) -> Array:
    """(T, N, 2, 3), how pixels change with points (T, N, 3), in pixels per cm."""
    focal, zero = _camera().focal, np.zeros(points.shape[:-1])
    x, y, z = np.moveaxis(points, -1, 0)
    across = np.stack([-focal / z, zero, focal * x / z**2], axis=-1)
    down = np.stack([zero, focal / z, -focal * y / z**2], axis=-1)
    return np.stack([across, down], axis=-2)


def _turns(vectors: Array) -> Array:
    """(T, 3, 3), rotations about vectors (T, 3) by their lengths in radians (Rodrigues)."""
    angles = np.linalg.norm(vectors, axis=1)
    x, y, z = (vectors / np.maximum(angles, 1e-12)[:, None]).T
    zero = np.zeros_like(x)
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=1).reshape(-1, 3, 3)
    sine, cosine = np.sin(angles)[:, None, None], np.cos(angles)[:, None, None]
    rotations: Array = np.eye(3) + sine * cross + (1 - cosine) * cross @ cross
    return rotations


def _distances(pixels: Array, mesh: FaceMesh, rotations: Array, places: Array) -> Array:
    """(T, 7) in cm: four brows above the corners of their eyes, two eyes, the mouth.

    How far a landmark is above its vertex of the mesh is measured along the upward axis of the face, as it is projected
    at the pose of the frame.
    """
    points = mesh.vertices @ rotations.transpose(0, 2, 1) + places[:, None]
    upwards = (_jacobians(points) @ rotations[:, None, :, 1:2])[..., 0]
    residual = pixels - _camera().project(points)
    height = mesh.vertices[:, 1] + (residual * upwards).sum(axis=2) / (upwards**2).sum(axis=2)

    def mean(vertices: Sequence[int] | NDArray[np.intp]) -> Array:
        return np.asarray(height[:, vertices].mean(axis=1), np.float64)

    parts = Places.of(mesh)
    corners = [mean(_EYE_CORNERS[number // 2]) for number in range(4)]
    brows = [mean(parts.brows[number]) - corners[number] for number in range(4)]
    middle = slice(2, 5)
    eyes = [mean(parts.upper_lids[eye, middle]) - mean(parts.lower_lids[eye, middle]) for eye in range(2)]
    mouth = mean(parts.upper_lip[3:6]) - mean(parts.lower_lip[3:6])
    return np.column_stack([*brows, *eyes, mouth])

"""Landmarks as a network would see them, without drawing a picture: for fast tests and for training on geometry.

The size of each error is what the 478-point network showed on six rendered heads of the split `fit`, a coordinate and
in distances of the outer eye corners: 0.018 at rest, 0.016 more at 30 degrees yaw, 0.025 at 30 degrees pitch, and
0.006 that wander, with a correlation of 0.91 from frame to frame; brows moved by 63 to 95 % of what they should. The
shape of the errors, smooth random fields over the face, is ours.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fyc.asl.face.mesh import FaceMesh
from fyc.asl.synthetic.projection import Stage
from fyc.asl.synthetic.script import COLUMN, Script
from fyc.asl.synthetic.seeds import generator

Array = NDArray[np.float64]

#: Root mean square of the errors of a coordinate, in distances of the outer eye corners.
AT_REST, AT_30_YAW, AT_30_PITCH, WANDERING = 0.018, 0.016, 0.025, 0.006
_CORRELATION = 0.91
_DAMPING = (0.63, 0.95)
_EYE_CORNERS = (33, 263)
#: How many random fields the wandering error is mixed from.
_MODES = 12


def observe(stage: Stage, script: Script) -> Array:
    """(T, 468, 2) landmarks in pixels, with errors; NaN in black frames. The same script gives the same errors.

    The part of the error that depends on the pose belongs to the signer, and is the same in all their clips.

    Args:
        stage: with the mesh.
        script: what to look at. What covers the face, and the quality of the picture, change nothing.
    """
    signer = script.signer
    rng = generator("landmark errors", signer.split, signer.head, signer.looks)
    damping = rng.uniform(*_DAMPING)
    curves = script.curves.copy()
    curves[:, :4] *= damping
    shown = Script(script.name, signer, curves, script.shots, fps=script.fps)
    projection = stage.project(shown)
    errors = _pose_errors(stage.mesh, script, rng) + _wandering(stage.mesh, script.name, script.frames)
    roll = np.radians(script.curve("roll"))
    turn = np.stack([np.cos(roll), np.sin(roll), -np.sin(roll), np.cos(roll)], axis=1).reshape(-1, 2, 2)
    right, left = _EYE_CORNERS
    eyes = np.linalg.norm(projection.faces[:, right] - projection.faces[:, left], axis=1)
    focal = np.array([camera.focal for camera in projection.cameras])[projection.shots]
    size = eyes * focal / -projection.translations[:, 2]
    points: Array = projection.points + size[:, None, None] * (errors @ turn)
    points[[script.black(frame) for frame in range(script.frames)]] = np.nan
    return points


def _pose_errors(mesh: FaceMesh, script: Script, rng: np.random.Generator) -> Array:
    """(T, 468, 2), a constant field and one for each of yaw and pitch, in the upright picture of the face."""
    constant, by_yaw, by_pitch = (field * size for field, size in zip(_fields(mesh, 3, rng), _SIZES, strict=True))
    yaw, pitch = script.curves[:, COLUMN["yaw"], None, None] / 30, script.curves[:, COLUMN["pitch"], None, None] / 30
    errors: Array = constant + yaw * by_yaw + pitch * by_pitch
    return errors


_SIZES = (AT_REST, AT_30_YAW, AT_30_PITCH)


def _wandering(mesh: FaceMesh, name: str, frames: int) -> Array:
    """(T, 468, 2), an autoregressive process of first order in a few smooth fields."""
    rng = generator("landmark errors", name)
    fields = _fields(mesh, _MODES, rng)
    fresh = rng.standard_normal((frames, _MODES)) * np.sqrt(1 - _CORRELATION**2)
    weights = np.empty_like(fresh)
    weights[0] = fresh[0] / np.sqrt(1 - _CORRELATION**2)
    for frame in range(1, frames):
        weights[frame] = _CORRELATION * weights[frame - 1] + fresh[frame]
    errors: Array = WANDERING / np.sqrt(_MODES) * np.tensordot(weights, fields, 1)
    return errors


def _fields(mesh: FaceMesh, count: int, rng: np.random.Generator) -> Array:
    """(count, 468, 2), smooth random fields over the face with a root mean square of 1 a coordinate."""
    centres = mesh.vertices[rng.choice(len(mesh.vertices), 24, replace=False)]
    distances = np.linalg.norm(mesh.vertices[:, None] - centres[None], axis=2)
    bells = np.exp(-((distances / 2.5) ** 2) / 2)
    fields = np.einsum("vc,nck->nvk", bells, rng.standard_normal((count, 24, 2)))
    scaled: Array = fields / np.sqrt((fields**2).mean(axis=(1, 2), keepdims=True))
    return scaled

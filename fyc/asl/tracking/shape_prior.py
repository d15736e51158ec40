"""Which landmarks can be right: a sparse combination of exemplars explains a face, what it does not explain is wrong.

min over a, e, T of ||T(y) - D a - e||^2 + l1 |a|_1 + l2 |e|_1: y landmarks, T a similarity of the picture, D exemplars
of faces turned to the view, e what they leave, which is not 0 where a landmark is covered or wrong. Sparse shape
composition in this form is the literature's (Zhang et al. 2011); that the tracker of Metaxas et al. (LREC 2012) has it
is our reading.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fyc.asl.face.camera import Array, Camera
from fyc.asl.face.deformation import FaceBasis
from fyc.asl.face.mesh import FaceMesh
from fyc.asl.face.pose import Pose

#: Landmarks that are looked at, spread over the face; an exemplar is a face with one mode at so many deviations.
LANDMARKS, DEVIATIONS = 64, 2.0
#: Weights of the sparsity of coefficients and of errors, in cm^2 and cm: an error is one beyond half of the second.
L1, L2 = 0.02, 0.7
_STEPS = 40


@dataclass(frozen=True)
class SparseFit:
    """How exemplars explain landmarks.

    Attributes:
        coefficients: (K,), a.
        errors: (M, 2), e, in the units of the landmarks.
        similarity: (4,), scale - 1, turn and shift of the picture.
        objective: the least value.
    """

    coefficients: Array
    errors: Array
    similarity: Array
    objective: float


@dataclass(frozen=True)
class ShapeFit:
    """What the prior says of a face.

    Attributes:
        energy: the objective for each landmark, as a part of the square of what counts as an error.
        wrong: (468,), 0 to 1: the error of the nearest landmark that was looked at, in cm, at most 1.
    """

    energy: float
    wrong: Array


class ShapePrior:
    """Exemplars of faces, to be turned to any view.

    Args:
        mesh: the canonical mesh.
        basis: how faces deform.
    """

    def __init__(self, mesh: FaceMesh, basis: FaceBasis) -> None:
        self.landmarks = _spread(mesh.vertices, LANDMARKS)
        modes = np.concatenate([basis.persons, basis.expressions]) * DEVIATIONS
        self._exemplars = modes[:, self.landmarks]
        distances = np.linalg.norm(mesh.vertices[:, None] - mesh.vertices[None, self.landmarks], axis=2)
        self._nearest = distances.argmin(axis=1)

    def fit(self, points: NDArray[np.floating], shape: Array, pose: Pose, camera: Camera) -> ShapeFit:
        """Explain landmarks.

        Args:
            points: (468, 2), pixels, none of them NaN.
            shape: (468, 3), the face as it was known before, in cm.
            pose: of the face.
            camera: that took the picture.
        """
        placed = pose.place(shape[self.landmarks])
        model = camera.project(placed)
        scale = camera.focal / max(-float(placed[:, 2].mean()), 1e-6)
        moved = camera.project(placed + self._exemplars @ pose.rotation.T)
        dictionary = ((moved - model) / scale).reshape(len(moved), -1).T
        centre = model.mean(axis=0)
        fit = sparse_fit((points[self.landmarks] - model) / scale, (model - centre) / scale, dictionary, L1, L2)
        errors = np.minimum(np.linalg.norm(fit.errors, axis=1), 1.0)
        return ShapeFit(fit.objective / LANDMARKS / L2**2, errors[self._nearest])


def sparse_fit(
    residual: Array, shape: Array, dictionary: Array, l1: float, l2: float, steps: int = _STEPS
) -> SparseFit:
    """Solve min over a, e, g of ||r - D a - G g - e||^2 + l1 |a|_1 + l2 |e|_1 by accelerated proximal gradient steps.

    For given a and g the best e is known, so that only those are sought (Beck and Teboulle 2009 for the steps).

    Args:
        residual: (M, 2), r, landmarks less those of the shape.
        shape: (M, 2), around its middle: G g are its changes under small similarities, which cost nothing.
        dictionary: (2 M, K), D.
        l1, l2: weights.
        steps: how many.
    """
    x, y = shape.T
    zero, one = np.zeros_like(x), np.ones_like(x)
    changes = np.stack([np.stack(pair, axis=1).ravel() for pair in ((x, y), (-y, x), (one, zero), (zero, one))], axis=1)
    sizes = np.linalg.norm(changes, axis=0)
    columns = np.concatenate([dictionary, changes / sizes], axis=1)
    count, target = dictionary.shape[1], residual.ravel().astype(np.float64)
    step = 1 / (2 * max(float(np.linalg.eigvalsh(columns.T @ columns)[-1]), 1e-12))
    values = np.zeros(columns.shape[1])
    ahead, momentum = values, 1.0
    for _ in range(steps):
        left = target - columns @ ahead
        new = ahead + 2 * step * (columns.T @ np.clip(left, -l2 / 2, l2 / 2))
        new[:count] = _shrunk(new[:count], step * l1)
        following = (1 + np.sqrt(1 + 4 * momentum * momentum)) / 2
        ahead = new + (momentum - 1) / following * (new - values)
        values, momentum = new, following
    left = target - columns @ values
    errors = _shrunk(left, l2 / 2)
    objective = ((left - errors) ** 2).sum() + l1 * np.abs(values[:count]).sum() + l2 * np.abs(errors).sum()
    return SparseFit(values[:count], errors.reshape(-1, 2), values[count:] / sizes, float(objective))


def _shrunk(values: Array, by: float) -> Array:
    shrunk: Array = np.sign(values) * np.maximum(np.abs(values) - by, 0)
    return shrunk


def _spread(points: Array, count: int) -> NDArray[np.intp]:
    """Numbers of points that are far from each other: each is the farthest from those before it."""
    chosen = [0]
    distances = np.linalg.norm(points - points[0], axis=1)
    while len(chosen) < count:
        chosen.append(int(distances.argmax()))
        distances = np.minimum(distances, np.linalg.norm(points - points[chosen[-1]], axis=1))
    return np.array(chosen)

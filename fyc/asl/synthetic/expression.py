"""Expressions as displacements of the canonical mesh: brows, lids, mouth, cheeks and nose.

Synthetic: the fields are ours, made to look plausible; no face was measured. Brows come in two versions, so that a
recognizer which was fitted on field A can be tested on field B.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fyc.asl.face.mesh import POINTS, FaceMesh

Array = NDArray[np.float64]
Indices = NDArray[np.intp]
BrowField = Literal["A", "B"]

#: The parameters, in their order. Left and right are the person's; brows, mouth, spread, puff and nose are in cm, brows
#: above rest; lids are 0 for the open eye, 1 for the closed one.
EXPRESSIONS = (
    "brow_inner_left", "brow_outer_left", "brow_inner_right", "brow_outer_right",
    "lid_left", "lid_right", "mouth", "spread", "puff", "nose",
)  # fmt: skip
BROWS = EXPRESSIONS[:4]

_RIGHT_INNER, _RIGHT_OUTER = (107, 66, 55, 65), (70, 63, 46, 53)
_RIGHT_UPPER_LID = (246, 161, 160, 159, 158, 157, 173)
_RIGHT_LOWER_LID = (7, 163, 144, 145, 153, 154, 155)
_RIGHT_FOLD = (247, 30, 29, 27, 28, 56, 190)
_UPPER_LIP = (191, 80, 81, 82, 13, 312, 311, 310, 415)
_LOWER_LIP = (95, 88, 178, 87, 14, 317, 402, 318, 324)
_LIP_CORNERS = (78, 308)
#: What part of the way the upper lid goes when the eye closes; the lower one goes the rest.
_UPPER_PART = 0.88


@dataclass(frozen=True)
class Places:
    """Vertices of the mesh by what they are.

    Attributes:
        brows: (4, 4), of the brows, in the order of `BROWS`.
        upper_lids, lower_lids: (2, 7), left and right, opposite each other.
        folds: (2, 7), above the upper lids.
        upper_lip, lower_lip: (9,), the inner contours, opposite each other.
        lip_corners: (2,), right and left.
    """

    brows: Indices
    upper_lids: Indices
    lower_lids: Indices
    folds: Indices
    upper_lip: Indices
    lower_lip: Indices
    lip_corners: Indices

    @classmethod
    def of(cls, mesh: FaceMesh) -> Places:
        """The places of the canonical mesh; the left ones mirror the right ones."""

        def both(right: tuple[int, ...]) -> list[Indices]:
            return [mesh.mirror[list(right)], np.array(right, np.intp)]

        (inner_left, inner_right), (outer_left, outer_right) = both(_RIGHT_INNER), both(_RIGHT_OUTER)
        return cls(
            np.stack([inner_left, outer_left, inner_right, outer_right]),
            np.stack(both(_RIGHT_UPPER_LID)),
            np.stack(both(_RIGHT_LOWER_LID)),
            np.stack(both(_RIGHT_FOLD)),
            np.array(_UPPER_LIP, np.intp),
            np.array(_LOWER_LIP, np.intp),
            np.array(_LIP_CORNERS, np.intp),
        )


class ExpressionModel:
    """Deforms one head.

    Args:
        mesh: the canonical mesh, whose points say where the fields lie.
        rest: (468, 3), the head without expression, in cm.
        field: which brow field. A: round Gaussians that go straight up. B: wide flat Gaussians that slide backwards
            over the forehead; lowered inner brows also come together and forward, and the lids follow a little.
    """

    def __init__(self, mesh: FaceMesh, rest: Array, field: BrowField) -> None:
        self.places = Places.of(mesh)
        self.rest = rest
        self._up, self._down = _brows(mesh, self.places, field)
        others = [*_lids(self.places, rest), _mouth(mesh, self.places), _spread(mesh), _puff(mesh), _nose(mesh)]
        self._others = np.stack(others)

    def deform(self, parameters: Array) -> Array:
        """(..., 468, 3) points in cm for parameters (..., 10) in the order of `EXPRESSIONS`."""
        brows, others = parameters[..., :4], parameters[..., 4:]
        points = self.rest + np.tensordot(np.maximum(brows, 0), self._up, 1)
        points = points + np.tensordot(np.minimum(brows, 0), self._down, 1)
        moved: Array = points + np.tensordot(others, self._others, 1)
        return moved

    def brow_heights(self, points: Array) -> Array:
        """(..., 4) heights of the brows of points (..., 468, 3) above rest, in cm, in the order of `BROWS`."""
        heights: Array = (points - self.rest)[..., self.places.brows, 1].mean(axis=-1)
        return heights

    def eye_apertures(self, points: Array) -> Array:
        """(..., 2) distance of the lids in the middle of the left and the right eye, in cm."""
        middle = slice(2, 5)
        upper, lower = self.places.upper_lids[:, middle], self.places.lower_lids[:, middle]
        apertures: Array = np.linalg.norm(points[..., upper, :] - points[..., lower, :], axis=-1).mean(axis=-1)
        return apertures

    def mouth_opening(self, points: Array) -> Array:
        """(...) distance of the inner lips in the middle of the mouth, in cm."""
        middle = slice(3, 6)
        upper, lower = self.places.upper_lip[middle], self.places.lower_lip[middle]
        opening: Array = np.linalg.norm(points[..., upper, :] - points[..., lower, :], axis=-1).mean(axis=-1)
        return opening


def _bell(points: Array, centre: Array, across: float, upwards: float) -> Array:
    """(468,), a Gaussian over the front of the face."""
    offset = (points[:, :2] - centre[:2]) / (across, upwards)
    bell: Array = np.exp(-(offset**2).sum(axis=1) / 2)
    return bell


def _brows(mesh: FaceMesh, places: Places, field: BrowField) -> tuple[Array, Array]:
    """Two bases (4, 468, 3), for raising and for lowering.

    One cm of a parameter moves its vertices by one cm on average, and those of the other part of the brow not at all.
    """
    points = mesh.vertices
    across, upwards = (1.6, 1.3) if field == "A" else (2.3, 1.0)
    ups, downs = [], []
    for inner, outer in (places.brows[:2], places.brows[2:]):
        bells = np.stack([_bell(points, points[group].mean(axis=0), across, upwards) for group in (inner, outer)])
        bells *= 1 / (1 + np.exp(-4 * points[:, 0] * np.sign(points[inner, 0].mean())))  # not beyond the midline
        means = np.array([[bell[group].mean() for group in (inner, outer)] for bell in bells])
        side = float(np.sign(points[inner, 0].mean()))
        for part, weights in enumerate(np.linalg.inv(means) @ bells):
            up, down = _directions(field, side, inner=part == 0)
            ups.append(weights[:, None] * up)
            downs.append(weights[:, None] * down)
    if field == "B":
        _lids_follow(places, ups)
    return np.stack(ups), np.stack(downs)


def _directions(field: BrowField, side: float, *, inner: bool) -> tuple[Array, Array]:
    """Where a brow goes for one cm up, when it rises and when it sinks; `side` is the sign of its x."""
    if field == "A":
        return np.array([0, 1, -0.1]), np.array([0, 1, -0.1])
    together = side * (0.35 if inner else 0.1)
    return np.array([0.1 * side, 1, -0.3]), np.array([together, 1, -0.2])


def _lids_follow(places: Places, ups: list[Array]) -> None:
    """Folds of the lids follow a raised brow by a seventh; they are no part of the brow, whose height stays."""
    for eye in range(2):
        for part in (0, 1):
            ups[2 * eye + part][places.folds[eye], 1] += 0.07


def _lids(places: Places, rest: Array) -> list[Array]:
    """Close an eye, left and right: the lids meet, the fold above comes along."""
    bases = []
    for eye in range(2):
        upper, lower, fold = places.upper_lids[eye], places.lower_lids[eye], places.folds[eye]
        gap = rest[lower] - rest[upper]
        basis = np.zeros((POINTS, 3))
        basis[upper] = _UPPER_PART * gap
        basis[lower] = -(1 - _UPPER_PART) * gap
        basis[fold] = 0.4 * gap
        basis[upper, 2] += 0.08  # the lid lies on the eyeball
        basis[lower, 2] += 0.08
        bases.append(basis)
    return bases


def _mouth(mesh: FaceMesh, places: Places) -> Array:
    """Open the mouth by one cm: what lies below the lips goes down, with the jaw; the upper lip rises a little."""
    points = mesh.vertices
    contour = np.concatenate([places.lip_corners[:1], places.upper_lip, places.lip_corners[1:]])
    line = np.interp(points[:, 0], points[contour, 0], points[contour, 1])
    line[places.lower_lip] = points[places.lower_lip, 1] + 1e-3  # closed lips touch: which is which is known
    line[places.upper_lip] = points[places.upper_lip, 1] - 1e-3
    below = np.maximum(line - points[:, 1], 0)
    lip = np.clip(1 - (points[:, 0] / 2.3) ** 2, 0, 1)
    jaw = np.clip(1 - (points[:, 0] / 7) ** 2, 0, 1)
    near = np.exp(-below / 2)
    down = np.where(below > 0, near * lip + (1 - near) * jaw, 0)
    up = np.where((below == 0) & (points[:, 1] > line), 0.15 * lip * np.exp(-(points[:, 1] - line) / 0.6), 0)
    basis = (up - 0.85 * down)[:, None] * np.array([0, 1, 0.0]) + down[:, None] * np.array([0, 0, -0.25])
    middle = slice(3, 6)
    opened = basis[places.upper_lip[middle], 1] - basis[places.lower_lip[middle], 1]
    scaled: Array = basis / opened.mean()
    return scaled


def _spread(mesh: FaceMesh) -> Array:
    """Corners of the mouth one cm outwards."""
    points = mesh.vertices
    basis = np.zeros((POINTS, 3))
    for side, corner in zip((-1, 1), _LIP_CORNERS, strict=True):
        basis += _bell(points, points[corner], 1.2, 1.0)[:, None] * np.array([side, 0.15, -0.35])
    return basis


def _puff(mesh: FaceMesh) -> Array:
    """Cheeks one cm out."""
    points, normals = mesh.vertices, mesh.normals()
    bells = sum(_bell(points, np.array([side * 4.3, -3.6]), 1.4, 1.4) for side in (-1, 1))
    basis: Array = np.asarray(bells)[:, None] * normals
    return basis


def _nose(mesh: FaceMesh) -> Array:
    """Wings of the nose one cm up."""
    points = mesh.vertices
    bells = sum(_bell(points, np.array([side * 1.5, -1.4]), 0.8, 0.9) for side in (-1, 1))
    basis: Array = np.asarray(bells)[:, None] * np.array([0, 1, 0.1])
    return basis

"""Heads of people who do not exist: the canonical face, perturbed, with hair, ears and the nape around it.

Synthetic: ranges follow the trial bench (research notes, section 5, version 3), not a survey of people.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from fyc.asl.face.mesh import FaceMesh
from fyc.asl.synthetic.expression import Places
from fyc.asl.synthetic.seeds import generator

Array = NDArray[np.float64]
Indices = NDArray[np.intp]

#: Names of the splits and how many heads each has. The seeds of a head are its split and number: no two share one.
HEAD_SPLITS = {"fit": 24, "calibration": 8, "held-out": 12}

#: Rings around the face, from its outline to the back of the head.
RINGS = 4
_SKULL_CENTRE = np.array([0.0, 3.0, -5.0])
_SKULL_RADII = np.array([7.9, 10.3, 11.0])


@dataclass(frozen=True)
class Head:
    """A head without expression.

    Attributes:
        split, number: where it belongs, see `HEAD_SPLITS`.
        face: (468, 3), cm, in the axes of the canonical mesh.
        scale: (3,), of the whole head, by axis.
        hair: how far hair stands off the skull, in cm.
    """

    split: str
    number: int
    face: Array
    scale: Array
    hair: float


def make_head(mesh: FaceMesh, split: str, number: int) -> Head:
    """The head with this number of a split.

    Width and height +-8 %, depth +-25 %, brow ridge +-0.5 cm, resting brows +-0.3 cm, smooth bumps of up to 0.25 cm;
    left and right differ: bumps, resting brows (0.1 cm), width of the halves (2 %).

    Raises:
        KeyError: if there is no such split.
        IndexError: if the split has fewer heads.
    """
    if not 0 <= number < HEAD_SPLITS[split]:
        raise IndexError(f"the split {split} has {HEAD_SPLITS[split]} heads")
    rng = generator("head", split, number)
    scale = np.array([rng.uniform(0.92, 1.08), rng.uniform(0.92, 1.08), rng.uniform(0.75, 1.25)])
    points = closed_lips(mesh) + _resting_brows(mesh, rng) + _bumps(mesh, rng)
    points[:, 2] += rng.uniform(-0.5, 0.5) * _ridge(mesh)
    halves = np.where(points[:, 0] > 0, 1, 1 + rng.uniform(-0.02, 0.02))
    points[:, 0] *= halves
    return Head(split, number, points * scale, scale, float(rng.uniform(0.2, 1.2)))


def canonical_head(mesh: FaceMesh) -> Head:
    """The canonical face itself, unperturbed but for its lips, with medium hair."""
    return Head("canonical", 0, closed_lips(mesh), np.ones(3), 0.6)


def closed_lips(mesh: FaceMesh) -> Array:
    """(468, 3), the canonical face with its inner lips 0.02 cm apart: they are 0.5 cm apart in it."""
    places = Places.of(mesh)
    points = mesh.vertices.copy()
    gap = points[places.lower_lip] - points[places.upper_lip]
    points[places.upper_lip] += 0.48 * gap
    points[places.lower_lip] -= 0.48 * gap
    return points


def _resting_brows(mesh: FaceMesh, rng: np.random.Generator) -> Array:
    places = Places.of(mesh)
    shift = np.zeros_like(mesh.vertices)
    common = rng.uniform(-0.3, 0.3)
    for groups in (places.brows[:2], places.brows[2:]):
        centre = mesh.vertices[groups.ravel()].mean(axis=0)
        offset = (mesh.vertices[:, :2] - centre[:2]) / (2.2, 1.2)
        height = common + rng.uniform(-0.1, 0.1)
        shift[:, 1] += height * np.exp(-(offset**2).sum(axis=1) / 2)
    return shift


def _ridge(mesh: FaceMesh) -> Array:
    offset = (mesh.vertices[:, 1] - 4.4) / 0.9
    ridge: Array = np.exp(-(offset**2) / 2) * np.clip(1 - (mesh.vertices[:, 0] / 6.5) ** 2, 0, 1)
    return ridge


def _bumps(mesh: FaceMesh, rng: np.random.Generator, count: int = 10) -> Array:
    """Gaussian hills and dents along the normals, 1.5 to 3 cm wide, of 0.25 cm at most."""
    centres = mesh.vertices[rng.choice(len(mesh.vertices), count, replace=False)]
    widths, heights = rng.uniform(1.5, 3.0, count), rng.uniform(-0.25, 0.25, count)
    distances = np.linalg.norm(mesh.vertices[:, None] - centres[None], axis=2)
    height = (heights * np.exp(-((distances / widths) ** 2) / 2)).sum(axis=1)
    bumps: Array = np.clip(height, -0.25, 0.25)[:, None] * mesh.normals()
    return bumps


class Shell:
    """What is around the face: four rings of vertices from its outline over the skull, or under the jaw, to one pole.

    Vertices are numbered after those of the face, ring by ring, the pole last.

    Args:
        mesh: the canonical mesh.
    """

    def __init__(self, mesh: FaceMesh) -> None:
        self.outline = outline_of(mesh)
        self.triangles = self._triangles(len(mesh.vertices))
        self._mesh = mesh

    @property
    def vertices(self) -> int:
        """How many there are."""
        return RINGS * len(self.outline) + 1

    def _triangles(self, first: int) -> Indices:
        around = len(self.outline)
        rings = [self.outline, *(first + ring * around + np.arange(around) for ring in range(RINGS))]
        triangles = []
        for inner, outer in pairwise(rings):
            following, beyond = np.roll(inner, -1), np.roll(outer, -1)
            triangles += [np.stack([following, inner, outer], 1), np.stack([following, outer, beyond], 1)]
        pole = np.full(around, first + RINGS * around)
        triangles.append(np.stack([np.roll(rings[-1], -1), rings[-1], pole], 1))
        return np.concatenate(triangles)

    @cached_property
    def upper(self) -> Array:
        """(n,), 1 where the outline borders on the skull, 0 where it borders on the neck."""
        height = np.clip((self._mesh.vertices[self.outline, 1] + 5) / 5, 0, 1)
        smooth: Array = height**2 * (3 - 2 * height)
        return smooth

    def place(self, head: Head) -> Array:
        """(vertices, 3), cm, around a head without expression."""
        start = head.face[self.outline]
        radii = _SKULL_RADII * head.scale + head.hair * self.upper[:, None] * np.array([0.6, 1, 0.6])
        centre = _SKULL_CENTRE * head.scale
        height = np.clip((start[:, 2] - centre[2]) / radii[:, 2], -0.9, 0.9)
        first = np.arcsin(height)
        around = np.arctan2((start[:, 1] - centre[1]) / radii[:, 1], start[:, 0] / radii[:, 0])
        rings = []
        for ring in range(1, RINGS + 1):
            step = ring / (RINGS + 1)
            back = first + (-np.pi / 2 - first) * step
            flat = np.stack([np.cos(around) * np.cos(back), np.sin(around) * np.cos(back), np.sin(back)], 1)
            skull = centre + radii * flat
            place = self.upper[:, None] * skull + (1 - self.upper[:, None]) * _under_jaw(start, step)
            rings.append(place + (self._ears(head) if ring == 1 else 0))
        pole = centre - (0, 0, radii[:, 2].mean())
        return np.concatenate([*rings, pole[None]])

    def _ears(self, head: Head) -> Array:
        """Ears stand off to the sides in the first ring."""
        points = self._mesh.vertices[self.outline]
        strength = np.exp(-(((points[:, 1] - 0.5) / 2.2) ** 2) / 2) * (np.abs(points[:, 0]) > 6)
        ears = np.zeros_like(points)
        ears[:, 0] = 0.9 * strength * np.sign(points[:, 0]) * head.scale[0]
        return ears

    def follow(self, moved: Array) -> Array:
        """(..., vertices, 3) displacements of the shell when the outline moves by (..., n, 3): less with every ring."""
        rings = [moved * max(1 - ring / 3, 0) for ring in range(1, RINGS + 1)]
        return np.concatenate([*rings, np.zeros_like(moved[..., :1, :])], axis=-2)


def _under_jaw(start: Array, step: float) -> Array:
    """From the outline of the jaw back to the nape."""
    shrink = 1 - 0.45 * step
    y = start[:, 1] + (np.maximum(start[:, 1], -5.5) - start[:, 1]) * step**0.7
    z = start[:, 2] + (-9 - start[:, 2]) * step
    return np.stack([start[:, 0] * shrink, y, z], axis=1)


def outline_of(mesh: FaceMesh) -> Indices:
    """(36,), vertices on the border of the mesh, in order, counter-clockwise seen from outside."""
    edges = {}
    for a, b, c in mesh.triangles.tolist():
        for edge in ((a, b), (b, c), (c, a)):
            edges[edge] = True
    border = {a: b for a, b in edges if (b, a) not in edges}
    start = min(border)
    ordered = [start]
    while border[ordered[-1]] != start:
        ordered.append(border[ordered[-1]])
    return np.array(ordered, np.intp)

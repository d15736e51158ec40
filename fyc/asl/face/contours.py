"""Lines of the face along the vertices of the canonical mesh, for drawing; left and right are the person's."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from fyc.asl.face.mesh import FaceMesh, Indices


@dataclass(frozen=True)
class Contour:
    """Vertices one after another, and whether the last is joined to the first."""

    points: tuple[int, ...]
    closed: bool = False


CONTOURS = {
    "oval": Contour((
        10, 338, 297, 332, 284, 251, 389, 356, 454, 323, 361, 288, 397, 365, 379, 378, 400, 377,
        152, 148, 176, 149, 150, 136, 172, 58, 132, 93, 234, 127, 162, 21, 54, 103, 67, 109,
    ), closed=True),
    "brow_left": Contour((285, 295, 282, 283, 276, 300, 293, 334, 296, 336), closed=True),
    "brow_right": Contour((55, 65, 52, 53, 46, 70, 63, 105, 66, 107), closed=True),
    "eye_left": Contour((263, 249, 390, 373, 374, 380, 381, 382, 362, 398, 384, 385, 386, 387, 388, 466), closed=True),
    "eye_right": Contour((33, 7, 163, 144, 145, 153, 154, 155, 133, 173, 157, 158, 159, 160, 161, 246), closed=True),
    "nose": Contour((168, 6, 197, 195, 5, 4, 1)),
    "lips_outer": Contour((
        61, 146, 91, 181, 84, 17, 314, 405, 321, 375, 291, 409, 270, 269, 267, 0, 37, 39, 40, 185,
    ), closed=True),
    "lips_inner": Contour((
        78, 95, 88, 178, 87, 14, 317, 402, 318, 324, 308, 415, 310, 311, 312, 13, 82, 81, 80, 191,
    ), closed=True),
}  # fmt: skip


def contour_edges() -> Indices:
    """(E, 2), pairs of vertices that the contours join."""
    pairs: list[tuple[int, int]] = []
    for contour in CONTOURS.values():
        points = contour.points + contour.points[: contour.closed]
        pairs += pairwise(points)
    return np.array(pairs, np.intp)


def mesh_edges(mesh: FaceMesh) -> Indices:
    """(E, 2), pairs of vertices that the triangles of the mesh join, each once."""
    pairs = np.vstack([mesh.triangles[:, [0, 1]], mesh.triangles[:, [1, 2]], mesh.triangles[:, [2, 0]]])
    edges: Indices = np.unique(np.sort(pairs, axis=1), axis=0)
    return edges

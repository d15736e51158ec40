"""Neck and shoulders below a head: a coarse mesh, skin above and cloth below.

Synthetic throughout; it keeps the head from floating.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fyc.asl.synthetic.textures import CLOTH_PATCH, SKIN_PATCH

Array = NDArray[np.float64]
Indices = NDArray[np.intp]

#: About which point of the head it turns, in cm.
PIVOT = np.array([0.0, -5.0, -6.0])

_COLUMNS = 15
#: Height, half width, half depth and distance forwards of the axis, in cm below and before the pivot; the first row is
#: under the jaw and goes with the head.
_ROWS = np.array([
    (0.5, 5.2, 4.8, 0.0), (-6.0, 5.6, 5.4, -1.0), (-8.2, 7.5, 6.5, -1.5), (-8.3, 7.7, 6.7, -1.5),
    (-10.0, 14.0, 8.0, -2.5), (-13.0, 20.0, 9.0, -2.5), (-22.0, 22.0, 10.5, -2.5), (-60.0, 21.0, 11.0, -2.5),
])  # fmt: skip
#: From this row on there is cloth.
_COLLAR = 3


def _triangles() -> Indices:
    rows = len(_ROWS)
    grid = np.arange(rows * _COLUMNS).reshape(rows, _COLUMNS)
    a, b, c, d = (part.ravel() for part in (grid[:-1, :-1], grid[:-1, 1:], grid[1:, :-1], grid[1:, 1:]))
    return np.concatenate([np.stack([a, c, b], 1), np.stack([b, c, d], 1)])


def _texels() -> Array:
    """(m, 3, 2), places on the sheet."""
    across = np.tile(np.linspace(0.05, 0.95, _COLUMNS), (len(_ROWS), 1))
    down = np.zeros_like(across)
    down[:_COLLAR] = np.linspace(0.1, 0.9, _COLLAR)[:, None]
    down[_COLLAR:] = np.linspace(0.1, 0.9, len(_ROWS) - _COLLAR)[:, None]
    skin = np.arange(len(_ROWS))[:, None] < _COLLAR
    flat = np.stack([across, down], axis=2)
    places = np.where(skin[..., None], _in_patch(flat, SKIN_PATCH), _in_patch(flat, CLOTH_PATCH)).reshape(-1, 2)
    return places[TRIANGLES]


def _in_patch(places: Array, patch: tuple[int, int, int]) -> Array:
    left, top, side = patch
    inside: Array = np.array([left, top]) + places * side
    return inside


#: (m, 3), counter-clockwise seen from outside.
TRIANGLES = _triangles()
#: (m, 3, 2), their corners on a sheet.
TEXELS = _texels()


def place_body(rotation: Array, pivot: Array, rest: Array) -> Array:
    """(120, 3), vertices in front of the camera, in cm.

    Args:
        rotation: (3, 3), of the head; the top of the neck goes along by half.
        pivot: (3,), where the pivot of the head is.
        rest: (3,), where it would be if the person sat at rest: the shoulders stay, but for a third of the way.
    """
    angles = np.linspace(-np.pi * 0.58, np.pi * 0.58, _COLUMNS)
    flat = np.stack([np.sin(angles), np.zeros(_COLUMNS), np.cos(angles)], axis=1)
    body = rest + (pivot - rest) / 3
    rows = []
    for row, (height, width, depth, forwards) in enumerate(_ROWS):
        points = flat * (width, 0, depth) + (0, height, forwards)
        held = max(0.0, 1 - row / _COLLAR)
        turned = points @ (np.eye(3) + held * 0.5 * (rotation - np.eye(3))).T
        rows.append(turned + held * pivot + (1 - held) * body)
    return np.concatenate(rows)

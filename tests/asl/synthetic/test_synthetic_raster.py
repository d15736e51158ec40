"""The rasterizer, against plain loops."""

from __future__ import annotations

import numpy as np
import pytest

from fyc.asl.synthetic.raster import cover, hidden, paint


def inside(point: np.ndarray, triangle: np.ndarray, margin: float) -> bool:
    """Whether a point lies in a triangle (clockwise in rows and columns), by more than a margin in pixels."""
    for a, b in zip(triangle, np.roll(triangle, -1, axis=0), strict=True):
        edge = b - a
        if (edge[0] * (point[1] - a[1]) - edge[1] * (point[0] - a[0])) / np.hypot(*edge) > -margin:
            return False
    return True


def scene(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Random small triangles, some with their back to the viewer."""
    rng = np.random.default_rng(seed)
    pixels = (rng.uniform(5, 55, (12, 1, 2)) + rng.uniform(-14, 14, (12, 3, 2))).reshape(-1, 2)
    depths = np.repeat(rng.uniform(40, 80, 12), 3)
    return pixels, depths, np.arange(36).reshape(-1, 3)


@pytest.mark.parametrize("seed", range(2))
def test_the_nearest_triangle_is_seen(seed: int) -> None:
    pixels, depths, triangles = scene(seed)
    coverage = cover(pixels, depths, triangles, (50, 60))
    ids = np.zeros((50, 60), int)
    ids[coverage.part] = coverage.ids
    checked = 0
    for row in range(50):
        for column in range(60):
            point = np.array([column + 0.5, row + 0.5])
            surely = [number for number in range(12) if inside(point, pixels[triangles[number]], 1.0)]
            maybe = [number for number in range(12) if inside(point, pixels[triangles[number]], -1.5)]
            if surely != maybe:
                continue  # on a border
            checked += 1
            nearest = min(surely, key=lambda number: depths[3 * number], default=-1)
            assert ids[row, column] == nearest + 1
    assert checked > 500


def test_layers_go_before_depth() -> None:
    pixels = np.array([[0, 0], [0, 20], [20, 0], [0, 0], [0, 20], [20, 0]], float)
    depths = np.array([50.0] * 3 + [60] * 3)
    triangles = np.arange(6).reshape(2, 3)
    assert cover(pixels, depths, triangles, (20, 20)).ids.max() == 1
    layers = np.array([0, 1])
    assert cover(pixels, depths, triangles, (20, 20), layers).ids.max() == 2


@pytest.mark.parametrize("seed", range(3))
def test_texels_are_interpolated(seed: int) -> None:
    """Colours are linear in the texture here, so each pixel can be computed from its triangle alone."""
    pixels, depths, triangles = scene(seed)
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:100, 0:100]
    texture = np.stack([2 * x, 2 * y, x + y], axis=2).astype(np.uint8)
    texels = rng.uniform(5, 95, (12, 3, 2))
    shade = rng.uniform(0.5, 1, (12, 3))
    coverage = cover(pixels, depths, triangles, (50, 60))
    painted = paint(coverage, texture, texels, shade)
    checked = 0
    for row, column in zip(*np.nonzero(coverage.ids), strict=True):
        number = coverage.ids[row, column] - 1
        corners = pixels[triangles[number]]
        point = np.array([column + coverage.left + 0.5, row + coverage.top + 0.5])
        if not inside(point, corners, 0.0):
            continue
        weights = np.linalg.solve(np.vstack([corners.T, np.ones(3)]), [*point, 1])
        u, v = weights @ texels[number] - 0.5
        expected = np.array([2 * u, 2 * v, u + v]) * (weights @ shade[number])
        assert np.abs(painted[row, column] - expected).max() < 3.5
        checked += 1
    assert checked > 100


def test_what_lies_behind_is_hidden() -> None:
    pixels = np.array([[5, 5], [5, 35], [35, 5], [10, 10], [10, 20], [20, 10], [60, 60.0]])
    depths = np.array([50, 50, 50, 60, 60, 60, 50.0])
    triangles = np.array([[0, 1, 2], [3, 4, 5]])
    coverage = cover(pixels, depths, triangles, (40, 40))
    assert hidden(coverage, depths, 7)[3:].tolist() == [True, True, True, True]
    nearer = np.array([50, 50, 50, 40, 40, 40, 50.0])
    coverage = cover(pixels, nearer, triangles, (40, 40))
    assert hidden(coverage, nearer, 6).tolist()[3:] == [False, False, False]


def test_nothing_in_the_picture() -> None:
    pixels = np.array([[-50, -50], [-50, -40], [-40, -50.0]])
    coverage = cover(pixels, np.full(3, 50.0), np.array([[0, 1, 2]]), (40, 40))
    assert coverage.ids.size == 0 or not coverage.ids.any()

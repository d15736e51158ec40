"""Draw textured triangle meshes: which triangle covers a pixel by the painter's algorithm, then all texels at once."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Floats = NDArray[np.float32]
Indices = NDArray[np.intp]
Image = NDArray[np.uint8]
Ids = NDArray[np.int32]

_FRACTION_BITS = 4


@dataclass(frozen=True)
class Coverage:
    """Which triangles are seen where, in a part of a picture.

    Attributes:
        left, top: where the part begins, in pixels.
        ids: (h, w), the number of a triangle plus one; 0 for none.
        pixels: (n, 2), the projected vertices, in pixels of the whole picture; the centre of the first pixel is at 0.5.
        triangles: (m, 3).
    """

    left: int
    top: int
    ids: Ids
    pixels: Array
    triangles: Indices

    @property
    def part(self) -> tuple[slice, slice]:
        """Rows and columns of the whole picture."""
        height, width = self.ids.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)

    def planes(self, values: Array) -> Floats:
        """(m + 1, 3, k), a + b x + c y for values (m, 3, k) at the triangles' corners, x and y from the part's corner.

        Triangles that are edge-on, and number 0, are zero.
        """
        corners = (self.pixels - (self.left, self.top))[self.triangles]
        ax, ay = corners[:, 1, 0] - corners[:, 0, 0], corners[:, 1, 1] - corners[:, 0, 1]
        bx, by = corners[:, 2, 0] - corners[:, 0, 0], corners[:, 2, 1] - corners[:, 0, 1]
        area = ax * by - ay * bx
        inverse = np.where(np.abs(area) > 1e-6, 1 / np.where(np.abs(area) > 1e-6, area, 1), 0)[:, None]
        da, db = values[:, 1] - values[:, 0], values[:, 2] - values[:, 0]
        across = (da * by[:, None] - db * ay[:, None]) * inverse
        down = (db * ax[:, None] - da * bx[:, None]) * inverse
        origin = values[:, 0] - across * corners[:, 0, :1] - down * corners[:, 0, 1:]
        planes = np.zeros((len(values) + 1, 3, values.shape[2]), np.float32)
        planes[1:] = np.stack([origin, across, down], axis=1)
        return planes

    def interpolate(self, values: Array) -> Floats:
        """(k, h, w), values (m, 3, k) of the triangles' corners at the centres of the pixels, linear in the picture."""
        height, width = self.ids.shape
        planes = self.planes(values)
        numbers = self.ids.ravel().astype(np.intp)
        x = np.arange(width, dtype=np.float32) + np.float32(0.5)
        y = np.arange(height, dtype=np.float32)[:, None] + np.float32(0.5)
        fields = np.empty((values.shape[2], height, width), np.float32)
        for k in range(len(fields)):  # one number at a time: rows of a table are gathered three times slower
            origin, across, down = (
                np.take(np.ascontiguousarray(planes[:, part, k]), numbers).reshape(height, width) for part in range(3)
            )
            across *= x
            down *= y
            np.add(origin, across, out=fields[k])
            fields[k] += down
        return fields


def cover(
    pixels: Array, depths: Array, triangles: Indices, size: tuple[int, int], layers: Indices | None = None
) -> Coverage:
    """Find what is seen: triangles that face the viewer, the farthest drawn first.

    Args:
        pixels: (n, 2), projected vertices.
        depths: (n,), distances from the camera.
        triangles: (m, 3), counter-clockwise seen from outside.
        size: height and width of the picture.
        layers: (m,), triangles of a higher layer are drawn over those of a lower one, whatever their depth.
    """
    corners = pixels[triangles]
    a, b = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    facing = a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0] < 0  # rows are counted downwards
    near = depths[triangles].mean(axis=1)
    order = np.lexsort((-near,) if layers is None else (-near, layers))
    order = order[facing[order]]
    height, width = size
    shown = corners[order].reshape(-1, 2)
    if len(shown) == 0:
        return Coverage(0, 0, np.zeros((0, 0), np.int32), pixels, triangles)
    left, top = (int(value) for value in np.clip(np.floor(shown.min(axis=0)) - 1, 0, (width, height)))
    right, bottom = (int(value) for value in np.clip(np.ceil(shown.max(axis=0)) + 1, (left, top), (width, height)))
    ids = np.zeros((bottom - top, right - left), np.int32)
    if ids.size:
        shifted = (corners[order] - (left + 0.5, top + 0.5)) * (1 << _FRACTION_BITS)
        for polygon, number in zip(np.round(shifted).astype(np.int32), (order + 1).tolist(), strict=True):
            cv2.fillConvexPoly(ids, polygon, number, shift=_FRACTION_BITS)
    return Coverage(left, top, ids, pixels, triangles)


def paint(coverage: Coverage, texture: Image, texels: Array, shade: Array | None = None) -> Image:
    """(h, w, 3), the part of the picture that a coverage describes; where nothing is seen, anything.

    Args:
        coverage: of the mesh.
        texture: (H, W, 3).
        texels: (m, 3, 2), places of the triangles' corners in the texture, in its pixels.
        shade: (m, 3), factors of brightness at the corners.
    """
    values = texels if shade is None else np.concatenate([texels, shade[:, :, None]], axis=2)
    fields = coverage.interpolate(values)
    half = np.float32(0.5)
    colours = cv2.remap(texture, fields[0] - half, fields[1] - half, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    if shade is None:
        return colours  # type: ignore[return-value]
    return cv2.multiply(colours, cv2.merge([fields[2]] * 3), dtype=cv2.CV_8U)  # type: ignore[return-value]


def hidden(coverage: Coverage, depths: Array, vertices: int, margin: float = 0.6) -> NDArray[np.bool_]:
    """(vertices,), which of the first vertices lie behind what is drawn at their place, or outside of the picture.

    Args:
        coverage: of the mesh.
        depths: (n,), distances of its vertices from the camera, in cm.
        vertices: how many are asked for.
        margin: how far behind, in cm: the painter's triangles are not exact.
    """
    places = coverage.pixels[:vertices] - (coverage.left, coverage.top)
    height, width = coverage.ids.shape
    columns, rows = np.floor(places).astype(np.intp).T
    inside = (columns >= 0) & (rows >= 0) & (columns < width) & (rows < height)
    gone: NDArray[np.bool_] = ~inside
    numbers = coverage.ids[rows[inside], columns[inside]]
    planes = coverage.planes(depths[coverage.triangles][:, :, None])[numbers, :, 0]
    x, y = places[inside].T
    gone[inside] = planes[:, 0] + planes[:, 1] * x + planes[:, 2] * y < depths[:vertices][inside] - margin
    gone[inside] |= numbers == 0
    return gone

"""The canonical face mesh: 468 points in centimetres that fit the first 468 landmarks of the network, one by one.

Axes: x to the left of the face (to the right in a picture of it), y up, z out of the face towards the camera.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Indices = NDArray[np.intp]

#: Landmarks of the mesh; the network gives ten more, for the irises.
POINTS = 468

_FLOATS_PER_VERTEX = 5  # x, y, z, u, v


@dataclass(frozen=True, repr=False)
class FaceMesh:
    """A triangle mesh of a neutral face.

    Attributes:
        vertices: (468, 3), centimetres.
        uv: (468, 2), place in the canonical view, 0 to 1, v downwards.
        triangles: (898, 3), vertex numbers, counter-clockwise seen from outside.
        rigid: (33,), vertices that expressions move little.
        rigid_weights: (33,), their weights when a pose is fitted.
    """

    vertices: Array
    uv: Array
    triangles: Indices
    rigid: Indices
    rigid_weights: Array

    @cached_property
    def mirror(self) -> Indices:
        """(468,), for every vertex the one on the other side of the face; itself on the midline."""
        flipped = self.vertices * (-1.0, 1.0, 1.0)
        distances = np.linalg.norm(self.vertices[:, None] - flipped[None], axis=2)
        nearest: Indices = distances.argmin(axis=0)
        return nearest

    def normals(self, vertices: Array | None = None) -> Array:
        """(468, 3), unit normals of this mesh, or of a deformed one, pointing outwards."""
        points = self.vertices if vertices is None else vertices
        a, b, c = (points[self.triangles[:, corner]] for corner in range(3))
        faces = np.cross(b - a, c - a)
        sums = np.zeros_like(points)
        for corner in range(3):
            np.add.at(sums, self.triangles[:, corner], faces)
        lengths: Array = np.linalg.norm(sums, axis=1, keepdims=True)
        return sums / np.maximum(lengths, 1e-12)


def read_mesh(metadata: bytes) -> FaceMesh:
    """Read the mesh of a face landmarker bundle, from its `geometry_pipeline_metadata_landmarks.binarypb`.

    Args:
        metadata: a protocol buffer: field 1 a mesh (3 vertices, 4 triangles), field 2 weighted landmarks (1 number,
            2 weight).

    Raises:
        ValueError: if it is something else.
    """
    try:
        fields = list(_fields(metadata))
        mesh = list(_fields(next(bytes(value) for number, value in fields if number == 1)))  # type: ignore[arg-type]
        basis = [dict(_fields(value)) for number, value in fields if number == 2 and isinstance(value, bytes)]
        numbers = np.array([value for number, value in mesh if number == 3], dtype=np.float64)
        corners = np.array([value for number, value in mesh if number == 4], dtype=np.intp)
        vertices = numbers.reshape(-1, _FLOATS_PER_VERTEX)
        triangles = corners.reshape(-1, 3)
        rigid = np.array([entry[1] for entry in basis], dtype=np.intp)
        weights = np.array([entry[2] for entry in basis], dtype=np.float64)
    except (StopIteration, IndexError, KeyError, TypeError, struct.error) as error:
        raise ValueError(f"not the geometry of a face landmarker: {error!r}") from error
    if len(vertices) != POINTS or triangles.max(initial=0) >= POINTS or rigid.max(initial=0) >= POINTS:
        raise ValueError(f"not the geometry of a face landmarker: {len(vertices)} vertices instead of {POINTS}")
    return FaceMesh(vertices[:, :3], vertices[:, 3:], triangles, rigid, weights)


def _fields(message: bytes) -> Iterator[tuple[int, int | float | bytes]]:
    """Fields of a protocol buffer: whole numbers, 32-bit floats, and bytes."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            value, at = _varint(message, at)
            yield number, value
        elif kind == 5:
            yield number, struct.unpack_from("<f", message, at)[0]
            at += 4
        elif kind == 2:
            length, at = _varint(message, at)
            if at + length > len(message):
                raise IndexError("a field reaches beyond the end")
            yield number, message[at : at + length]
            at += length
        else:
            raise ValueError(f"not the geometry of a face landmarker: a field of kind {kind}")


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at

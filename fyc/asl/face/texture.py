"""Texture of a face in the canonical view: local binary patterns or gradients, in a pyramid of cells over its parts.

Local binary patterns after Ojala, Pietikainen and Maenpaa (2002): eight neighbours, patterns with more than two changes
are one class. The pyramid (1x1, 2x2, 4x4) is that of Lazebnik, Schmid and Ponce (2006). Which parts of the face is our
own choice.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from fyc.asl.face.frontal import FrontalView, Image
from fyc.asl.face.mesh import FaceMesh

Floats = NDArray[np.float32]
Descriptor = Literal["lbp", "gradients"]

#: Cells along a side, at each level.
LEVELS = (1, 2, 4)
#: Classes of a local binary pattern: 58 with at most two changes, and the rest.
PATTERNS = 59
#: Directions of gradients, over 180 degrees.
DIRECTIONS = 9

#: Landmarks around each part of the face.
PARTS: dict[str, tuple[int, ...]] = {
    "forehead": (54, 10, 284, 105, 334),
    "brows": (104, 333, 70, 300, 133, 362),
    "nose": (168, 98, 327, 94, 117, 346),
    "mouth": (57, 287, 164, 18),
}


@dataclass(frozen=True)
class Part:
    """A rectangle of the view: rows and columns."""

    name: str
    top: int
    bottom: int
    left: int
    right: int


class TexturePyramid:
    """Describes the texture of faces.

    Args:
        mesh: the canonical mesh.
        size: of the views, in pixels.
        descriptor: `lbp` or `gradients`.
    """

    def __init__(self, mesh: FaceMesh, size: int = 128, *, descriptor: Descriptor = "lbp") -> None:
        self.descriptor: Descriptor = descriptor
        self.bins = PATTERNS if descriptor == "lbp" else DIRECTIONS
        self.parts = tuple(_part(name, mesh.uv[list(points)] * size, size) for name, points in PARTS.items())
        self._cells = [_cells(part) for part in self.parts]

    @property
    def length(self) -> int:
        """Numbers in a description."""
        return len(self.parts) * sum(level**2 for level in LEVELS) * self.bins

    def describe(self, view: FrontalView) -> Floats:
        """(length,) histograms, part by part, level by level, cell by cell; each sums to 1, or to 0 when invisible."""
        grey = view.image if view.image.ndim == 2 else cv2.cvtColor(view.image, cv2.COLOR_RGB2GRAY)
        classes, weights = local_patterns(grey) if self.descriptor == "lbp" else _directions(grey)  # type: ignore[arg-type]
        kernel = np.ones((3, 3), np.uint8)
        inner = cv2.erode(view.visible.astype(np.uint8), kernel, borderValue=0)
        weights = weights * inner
        histograms = []
        for part, levels in zip(self.parts, self._cells, strict=True):
            rows, columns = slice(part.top, part.bottom), slice(part.left, part.right)
            there, weight = classes[rows, columns].ravel(), weights[rows, columns].ravel()
            for level, cells in zip(LEVELS, levels, strict=True):
                flat = np.bincount(cells * self.bins + there, weight, level**2 * self.bins)
                counts = flat.reshape(-1, self.bins)
                histograms.append(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1e-6))
        return np.concatenate(histograms).ravel().astype(np.float32)


def local_patterns(grey: Image) -> tuple[NDArray[np.intp], Floats]:
    """Class of the local binary pattern of each pixel of a grey picture (H, W), 0 to 58, and ones as weights.

    A neighbour counts when it is at least as light as the pixel. Pixels on the border compare with themselves.
    """
    padded = np.pad(grey, 1, mode="edge")
    height, width = grey.shape
    code = np.zeros(grey.shape, np.uint8)
    for bit, (down, right) in enumerate(((0, 0), (0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0))):
        neighbour = padded[down : down + height, right : right + width]
        code |= (neighbour >= grey).astype(np.uint8) << np.uint8(bit)
    return _UNIFORM[code], np.ones(grey.shape, np.float32)


def _uniform_classes() -> NDArray[np.intp]:
    """(256,), the class of each pattern."""
    classes, following = [], 0
    for code in range(256):
        bits = [code >> bit & 1 for bit in range(8)]
        if sum(a != b for a, b in pairwise([*bits, bits[0]])) <= 2:
            classes.append(following)
            following += 1
        else:
            classes.append(PATTERNS - 1)
    return np.array(classes, dtype=np.intp)


_UNIFORM = _uniform_classes()


def _directions(grey: Image) -> tuple[NDArray[np.intp], Floats]:
    """Direction of the gradient of each pixel, 0 to 8 over 180 degrees, and its strength as weight."""
    across = cv2.Sobel(grey, cv2.CV_32F, 1, 0)
    down = cv2.Sobel(grey, cv2.CV_32F, 0, 1)
    strength = np.hypot(across, down).astype(np.float32)
    turns = np.arctan2(down, across) / np.pi % 1.0
    return np.minimum((turns * DIRECTIONS).astype(np.intp), DIRECTIONS - 1), strength


def _part(name: str, places: NDArray[np.float64], size: int) -> Part:
    (left, top), (right, bottom) = np.floor(places.min(axis=0)), np.ceil(places.max(axis=0))
    left, right = min(left, size - right), max(right, size - left)
    return Part(name, int(top), int(bottom), int(left), int(right))


def _cells(part: Part) -> list[NDArray[np.intp]]:
    """For each level, the cell of every pixel of a part, in rows."""
    height, width = part.bottom - part.top, part.right - part.left
    rows, columns = np.mgrid[0:height, 0:width]
    return [((rows * level // height) * level + columns * level // width).ravel() for level in LEVELS]

"""How the face that is followed looks, in the canonical view: what matches is the face, what does not is before it.

Views are compared cell by cell by normalised correlation of their local contrast, which light changes little. The model
is the slowly adapting mean of what was seen, one for each range of yaw; cells that are covered do not enter it.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fyc.asl.face.frontal import FrontalWarp
from fyc.asl.face.mesh import FaceMesh

Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]
Image = NDArray[np.uint8]

#: Pixels and cells along a side of the view.
SIZE, CELLS = 64, 8
#: Ranges of yaw, each so many degrees wide, the middle one around 0.
_RANGES, _RANGE_WIDTH = 5, 25.0
#: A new view counts 1/n among the first n, later never less than this.
_LEAST_RATE = 0.03
#: Grey levels that are added to the local deviation: noise of flat skin stays small.
_NOISE = 6.0
#: A cell with a lower correlation is covered; one with less contrast than this says nothing by itself.
COVERED_BELOW, _LEAST_CONTRAST = 0.35, 0.12
#: A cell that is seen by less than this part is not judged.
_LEAST_SEEN = 0.4


@dataclass(frozen=True)
class View:
    """A face in the canonical view.

    Attributes:
        contrast: (64, 64), local contrast; 0 where nothing is seen.
        seen: (64, 64), True where the picture shows this part of the face.
        yaw: of the face, in degrees.
    """

    contrast: Floats
    seen: Flags
    yaw: float


@dataclass(frozen=True)
class Match:
    """How a view agrees with the model.

    Attributes:
        similarity: -1 to 1, correlation over what is seen.
        cost: 0 to 1, mean over the face's cells of how little they agree; covered cells cost 1 each.
        cells: (8, 8), correlation of the cells, NaN where nothing is known or seen.
        covered: (8, 8), True where something else is seen.
        share: 0 to 1, the part of the judged face that is covered.
    """

    similarity: float
    cost: float
    cells: Floats
    covered: Flags
    share: float


class AppearanceModel:
    """What is known of a face's looks.

    Args:
        mesh: the canonical mesh.
    """

    def __init__(self, mesh: FaceMesh) -> None:
        self._warp = FrontalWarp(mesh, SIZE)
        places = np.clip((mesh.uv * CELLS).astype(np.intp), 0, CELLS - 1)
        self._cell_of = places[:, 1] * CELLS + places[:, 0]
        self._triangles = mesh.triangles
        #: What part of the view the face takes up.
        self.extent = float(self._warp.warp(np.ones((SIZE, SIZE), np.uint8), mesh.uv * SIZE).visible.mean())
        self.forget()

    def forget(self) -> None:
        """Know nothing, as of another face."""
        self._mean = np.zeros((_RANGES, SIZE, SIZE), np.float32)
        self._weight = np.zeros((_RANGES, SIZE, SIZE), np.float32)
        self.views = 0

    def see(self, grey: Image, points: NDArray[np.floating], yaw: float) -> View:
        """The canonical view of a face.

        Args:
            grey: (H, W).
            points: (468, 2), pixels.
            yaw: of the face, in degrees.
        """
        view = self._warp.warp(grey, points)
        seen = view.visible
        weights = seen.astype(np.float32)
        values = view.image.astype(np.float32) * weights
        around = np.maximum(_blurred(weights), 1e-3)
        mean = _blurred(values) / around
        spread = np.sqrt(np.maximum(_blurred(values * values) / around - mean * mean, 0))
        contrast = (values - mean) / (spread + _NOISE) * weights
        return View(contrast.astype(np.float32, copy=False), seen, yaw)

    def compare(self, view: View) -> Match | None:
        """How a view agrees with what is known; None if nothing is known of what it shows."""
        best: Floats | None = None
        for number in self._near(view.yaw):
            known = (self._weight[number] > 0) & view.seen
            sums = _sums(view.contrast, self._mean[number], known)
            if best is None:
                best = sums
            else:
                better = (sums[..., 3] > _LEAST_SEEN) & (_correlation(sums) > _correlation(best))
                best = np.where((better | (best[..., 3] <= _LEAST_SEEN))[..., None], sums, best)
        if best is None or not (judged := best[..., 3] > _LEAST_SEEN).any():
            return None
        cells = _correlation(best)
        weights = np.where(judged, best[..., 2] / (best[..., 2] + np.float32(_LEAST_CONTRAST)), np.float32(0))
        smooth = _smooth(cells, weights)
        covered = judged & (smooth < COVERED_BELOW)
        both, own, other = (weights[..., None] * best[..., :3]).sum(axis=(0, 1), dtype=np.float64)
        similarity = float(both / max(np.sqrt(own * other), 1e-6))
        agreement = np.clip(smooth, 0, 1) * ~covered
        cost = 1 - float((weights * agreement).sum() / max(float(weights.sum()), 1e-6))
        share = float((weights * covered).sum() / max(float(weights.sum()), 1e-6))
        return Match(similarity, cost, np.where(judged, cells, np.float32(np.nan)), covered, share)

    def learn(self, view: View, covered: Flags | None = None) -> None:
        """Adapt to a view; cells (8, 8) that are covered are left out, and those around them."""
        number = self._range(view.yaw)
        fresh = view.seen.copy()
        if covered is not None and covered.any():
            wide = cv2.dilate(covered.astype(np.uint8), np.ones((3, 3), np.uint8))
            fresh &= ~_spread(wide > 0)
        weight = self._weight[number]
        weight[fresh] = np.minimum(weight[fresh] + 1, 1 / _LEAST_RATE)
        self._mean[number][fresh] += (view.contrast[fresh] - self._mean[number][fresh]) / weight[fresh]
        self.views += 1

    def expected(self, yaw: float, covered: Flags) -> tuple[Floats, Flags]:
        """(64, 64), the contrast that is known at this yaw, and where it is known and no cell (8, 8) is covered."""
        near = self._near(yaw)
        if not near:
            return np.zeros((SIZE, SIZE), np.float32), np.zeros((SIZE, SIZE), bool)
        return self._mean[near[0]], (self._weight[near[0]] > 0) & ~_spread(covered)

    def at_landmarks(self, covered: Flags) -> Flags:
        """(468,), whether the landmarks lie in covered cells."""
        at: Flags = covered.ravel()[self._cell_of]
        return at

    def facing_landmarks(self, points: NDArray[np.floating]) -> NDArray[np.intp]:
        """Numbers of landmarks of triangles that face the camera."""
        return np.unique(self._triangles[self._warp.facing(points)])

    def _range(self, yaw: float) -> int:
        return int(np.clip(round(yaw / _RANGE_WIDTH) + _RANGES // 2, 0, _RANGES - 1))

    def _near(self, yaw: float) -> list[int]:
        """Ranges of which something is known: the nearest, and its neighbours."""
        known = [number for number in range(_RANGES) if self._weight[number].any()]
        place = yaw / _RANGE_WIDTH + _RANGES // 2
        return sorted(known, key=lambda number: abs(number - place))[:2]


def _spread(cells: Flags) -> Flags:
    """(64, 64), the pixels of cells (8, 8)."""
    return np.repeat(np.repeat(cells, SIZE // CELLS, 0), SIZE // CELLS, 1)


def _blurred(values: Floats) -> Floats:
    return cv2.boxFilter(values, -1, (13, 13), borderType=cv2.BORDER_CONSTANT)  # type: ignore[return-value]


def _pooled(values: Floats) -> Floats:
    """(8, 8), means of cells."""
    return cv2.resize(values, (CELLS, CELLS), interpolation=cv2.INTER_AREA)  # type: ignore[return-value]


def _sums(seen: Floats, model: Floats, known: Flags) -> Floats:
    """(8, 8, 4), of each cell: mean product, mean squares of both, and what part of it is known."""
    weights = known.astype(np.float32)
    a, b = seen * weights, model * weights
    return np.stack([_pooled(part) for part in (a * b, a * a, b * b, weights)], axis=2)


def _correlation(sums: Floats) -> Floats:
    correlation: Floats = sums[..., 0] / (np.sqrt(sums[..., 1] * sums[..., 2]) + np.float32(0.02))
    return correlation


def _smooth(cells: Floats, weights: Floats) -> Floats:
    """Means with the neighbours, which count less."""
    kernel = np.array([[0.1, 0.2, 0.1], [0.2, 1, 0.2], [0.1, 0.2, 0.1]], np.float32)
    total = cv2.filter2D(weights, -1, kernel, borderType=cv2.BORDER_CONSTANT)
    sums = cv2.filter2D(cells * weights, -1, kernel, borderType=cv2.BORDER_CONSTANT)
    return (sums / np.maximum(total, 1e-3)).astype(np.float32, copy=False)

"""The canonical frontal view: what a face would show if it looked into the camera.

Each pixel of the view belongs to a triangle of the mesh; its colour is taken from where that triangle lies in the
picture (Metaxas et al., LREC 2012, warp frames to a frontal view; that the warp is affine on each triangle of a mesh is
our own choice).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fyc.asl.face.mesh import FaceMesh

Image = NDArray[np.uint8]
Array = NDArray[np.float64]


@dataclass(frozen=True)
class FrontalView:
    """A face in the canonical view.

    Attributes:
        image: (size, size) or (size, size, 3), grey or RGB; 0 where there is no face.
        visible: (size, size), True where the picture shows this part of the face.
    """

    image: Image
    visible: NDArray[np.bool_]


class FrontalWarp:
    """Warps faces to the canonical view.

    Args:
        mesh: the canonical mesh; the view is its texture map.
        size: pixels of a side of the view.
        most_slant: triangles whose area in the picture is less than this part of their area in the view, at the scale
            of the whole face, are seen too flatly to say much, and are marked invisible.
    """

    def __init__(self, mesh: FaceMesh, size: int = 128, *, most_slant: float = 0.25) -> None:
        self.size = size
        self._triangles = mesh.triangles
        self._most_slant = most_slant
        corners = mesh.uv[mesh.triangles] * size - 0.5
        self._areas = _signed_areas(corners)
        self._owner, self._inside = _owners(corners, size)
        self._owner = self._owner[self._inside]
        self._vertices = mesh.triangles[self._owner].T
        self._shares = _barycentric(corners[self._owner], np.argwhere(self._inside)[:, ::-1]).T.astype(np.float32)

    def warp(self, image: Image, points: NDArray[np.floating], covered: NDArray[np.bool_] | None = None) -> FrontalView:
        """The canonical view of a face.

        Args:
            image: (H, W) or (H, W, 3).
            points: (468, 2) or wider; x and y of the mesh's vertices in the picture, in pixels, pixel centres at .5.
            covered: (468,), vertices that something hides; a triangle with two of them is not visible.
        """
        flat = points[:, :2].astype(np.float32) - np.float32(0.5)
        places = np.full((self.size, self.size, 2), -1e6, np.float32)
        places[self._inside] = sum(
            flat[vertices] * shares[:, None] for vertices, shares in zip(self._vertices, self._shares, strict=True)
        )
        seen = cv2.remap(image, places, None, cv2.INTER_LINEAR)  # type: ignore[call-overload]
        height, width = image.shape[:2]
        within = (places >= 0) & (places <= (width - 1, height - 1))
        visible = within[..., 0] & within[..., 1]
        seen_triangles = self.facing(points)
        if covered is not None:
            seen_triangles &= covered[self._triangles].sum(axis=1) < 2
        visible[self._inside] &= seen_triangles[self._owner]
        return FrontalView(seen, visible)

    def facing(self, points: NDArray[np.floating]) -> NDArray[np.bool_]:
        """(898,), which triangles are turned towards the camera, and not too flatly."""
        areas = _signed_areas(points[self._triangles, :2].astype(np.float64))
        scale = np.abs(areas).sum() / np.abs(self._areas).sum()
        ratios: NDArray[np.bool_] = areas / self._areas > self._most_slant * scale
        return ratios


def _signed_areas(corners: Array) -> Array:
    return _cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]) / 2


def _owners(corners: Array, size: int) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """(size, size), the triangle of each pixel of the view; and which pixels have one."""
    owner = np.full((size, size), -1, np.int32)
    for number, corner in enumerate(corners):
        fine = np.round(corner * 256).astype(np.int32)
        cv2.fillConvexPoly(owner, fine, number, lineType=cv2.LINE_8, shift=8)
    return owner.astype(np.intp), owner >= 0


def _barycentric(corners: Array, places: NDArray[np.intp]) -> Array:
    """(N, 3), shares of the corners (N, 3, 2) of triangles in places (N, 2)."""
    to_b, to_c, to_place = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0], places - corners[:, 0]
    whole = _cross(to_b, to_c)
    share_b, share_c = _cross(to_place, to_c) / whole, _cross(to_b, to_place) / whole
    return np.stack([1 - share_b - share_c, share_b, share_c], axis=1)


def _cross(a: Array, b: Array) -> Array:
    return a[:, 0] * b[:, 1] - a[:, 1] * b[:, 0]

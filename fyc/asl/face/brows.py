"""How far brows are above rest, by registration in the canonical view.

The landmark network damps what brows do (on synthetic heads it shows 40 % of a raise of 0.35 cm). In the canonical view
of a signer, warped with the rigid head, brows move by as much as they really do, and pose moves them hardly. Each part
of a brow is looked for, up and down, as it looks at rest; what the nose does there is taken off.
(The eyes would be nearer, but look otherwise in a blink: with them brows seemed to jump by half a centimetre.)
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fyc.asl.face.camera import Array
from fyc.asl.face.frontal import FrontalView
from fyc.asl.face.mesh import FaceMesh

Grey = NDArray[np.float32]

#: Parts of the brows, in the order of the results; left and right are the person's.
BROW_PARTS = ("inner_left", "outer_left", "inner_right", "outer_right")
_RIGHT = {"inner": (66, 107, 65, 55, 105, 52), "outer": (70, 63, 105, 46, 53, 52)}
_RIGHT_EYE = (33, 133, 159, 145)
_RIGHT_NOSE = (6, 197, 195, 5, 4, 98, 129, 48, 115)
#: Around the landmarks of a part, in cm: to the sides, above, below.
_BROW_MARGINS = (0.3, 0.5, 0.3)
_NOSE_MARGINS = (0.6, 0.3, 0.3)
#: How far a part is looked for, in cm, up and down, and how improbable that is: standard deviation in cm.
_REACH, _SPREAD = 1.0, 0.6
#: A part of which less is visible is not measured.
_LEAST_VISIBLE = 0.6
#: A part that looks less like at rest than this, as a correlation, wherever it is looked for, is not measured.
_LEAST_LIKENESS = 0.5


@dataclass(frozen=True)
class _Box:
    """A rectangle of the view."""

    top: int
    bottom: int
    left: int
    right: int


class BrowGauge:
    """Measures brows against the look of a signer at rest.

    Args:
        mesh: the canonical mesh.
        rest: the canonical view at rest, such as the median of many: its image (size, size), grey.
    """

    def __init__(self, mesh: FaceMesh, rest: NDArray[np.uint8]) -> None:
        self._rest: Grey = rest.astype(np.float32)
        size = rest.shape[0]
        #: Scale of the view up and down, around the eyes.
        self.pixels_per_cm = _pixels_per_cm(mesh, size)
        brows, noses = [], []
        for side in ("left", "right"):
            swap = mesh.mirror if side == "left" else np.arange(len(mesh.mirror))
            for points in _RIGHT.values():
                brows.append(self._box(mesh.uv[swap[list(points)]] * size, _BROW_MARGINS))
            noses.append(self._box(mesh.uv[swap[list(_RIGHT_NOSE)]] * size, _NOSE_MARGINS))
        self._brows, self._noses = brows, noses

    def measure(self, view: FrontalView) -> Array:
        """(4,), heights of `BROW_PARTS` above rest in cm; NaN where too little is visible.

        Args:
            view: of the same signer, warped like those at rest, grey.
        """
        image: Grey = view.image.astype(np.float32)
        visible = view.visible.astype(np.float32)
        noses = [self._shift(image, visible, box) for box in self._noses]
        brows = [self._shift(image, visible, box) for box in self._brows]
        heights: Array = (np.array(brows) - np.repeat(noses, 2)) / self.pixels_per_cm
        return heights

    def _shift(self, image: Grey, visible: Grey, box: _Box) -> float:
        """How many pixels up the part of the face in a box at rest has gone, to a fraction of a pixel."""
        if visible[box.top : box.bottom, box.left : box.right].mean() < _LEAST_VISIBLE:
            return np.nan
        reach = min(round(_REACH * self.pixels_per_cm), box.top, len(image) - box.bottom)
        around = image[box.top - reach : box.bottom + reach, box.left - 2 : box.right + 2]
        part = self._rest[box.top : box.bottom, box.left : box.right]
        likeness = cv2.matchTemplate(around, part, cv2.TM_CCOEFF_NORMED).max(axis=1)
        if likeness.max() < _LEAST_LIKENESS:
            return np.nan
        shifts = reach - np.arange(len(likeness))
        scores = likeness - 0.5 * (shifts / (_SPREAD * self.pixels_per_cm)) ** 2 * (1 - likeness.max())
        best = int(scores.argmax())
        return float(shifts[best] - _vertex(scores, best))

    def _box(self, places: Array, margins: tuple[float, float, float]) -> _Box:
        sides, above, below = (margin * self.pixels_per_cm for margin in margins)
        (left, top), (right, bottom) = places.min(axis=0), places.max(axis=0)
        return _Box(int(top - above), int(np.ceil(bottom + below)), int(left - sides), int(np.ceil(right + sides)))


def _vertex(values: NDArray[np.floating], best: int) -> float:
    """How far beyond index `best` the parabola through it and its neighbours is highest, -0.5 to 0.5."""
    if not 0 < best < len(values) - 1:
        return 0.0
    before, there, after = (float(value) for value in values[best - 1 : best + 2])
    bend = before - 2 * there + after
    return float(np.clip((before - after) / (2 * bend), -0.5, 0.5)) if bend < 0 else 0.0


def _pixels_per_cm(mesh: FaceMesh, size: int) -> float:
    """Of the view, up and down around the brows and eyes."""
    points = [point for part in _RIGHT.values() for point in part] + list(_RIGHT_EYE)
    slope, _ = np.polyfit(mesh.vertices[points, 1], mesh.uv[points, 1] * size, 1)
    return float(abs(slope))

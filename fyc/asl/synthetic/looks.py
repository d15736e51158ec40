"""What a person looks like beyond the frame the texture comes from: tone of skin and hair, light, creases, cloth.

None of this is real: it is recolouring and painting over a real texture, see `fyc.asl.synthetic.textures`.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from fyc.asl.face.mesh import FaceMesh
from fyc.asl.synthetic.expression import Places
from fyc.asl.synthetic.seeds import generator
from fyc.asl.synthetic.textures import CLOTH_PATCH, SHEET, SOURCES, Layout, Sheet, Source

Array = NDArray[np.float64]
Floats = NDArray[np.float32]
Image = NDArray[np.uint8]


@dataclass(frozen=True)
class Looks:
    """How the texture of a person is made.

    Attributes:
        source: the frame it is taken from.
        second: another frame of the same person to blend in.
        blend: how much of it, 0 to 0.5.
        skin: factors of the lightness and the colourfulness of the face and all skin (CIELAB).
        hair: the same for the hair around the face.
        hue: (2,), added to a and b, which OpenCV scales to 0 to 255.
        contrast: factor of the contrast of lightness.
        cloth: (3,), RGB.
        crease: how dark the creases are that come with brows, 0 for none; 0.3 is much.
        grain: standard deviation of fine detail of the skin, in grey levels.
        light: (3,), direction to the light, a unit vector; in the axes of the camera.
        directed: what part of the light comes from there, 0 to 0.6.
        seed: of creases and grain.
    """

    source: Source
    second: Source
    blend: float
    skin: tuple[float, float]
    hair: tuple[float, float]
    hue: tuple[float, float]
    contrast: float
    cloth: tuple[float, float, float]
    crease: float
    grain: float
    light: tuple[float, float, float]
    directed: float
    seed: int


def plain_looks(source: Source) -> Looks:
    """The texture as it was filmed, in even light, without creases."""
    return Looks(source, source, 0, (1, 1), (1, 1), (0, 0), 1, (120, 124, 130), 0, 0, (0, 0, 1), 0, 0)


def draw_looks(split: str, number: int) -> Looks:
    """The looks with this number; splits have their own frames and seeds. A third of them have no creases.

    Raises:
        KeyError: if there is no such split.
    """
    rng = generator("looks", split, number)
    sources = SOURCES[split]
    first, second = (sources[int(index)] for index in rng.choice(len(sources), 2, replace=False))
    dark = float(rng.uniform(0, 1) ** 1.5)
    light = np.array([rng.uniform(-0.8, 0.8), rng.uniform(0, 0.7), 1.0])
    light /= np.linalg.norm(light)
    return Looks(
        first, second, float(rng.uniform(0, 0.5)),
        (1.1 - 0.6 * dark, float(rng.uniform(0.7, 1))), (float(rng.uniform(0.5, 1.4)), float(rng.uniform(0.3, 1.3))),
        (float(rng.uniform(-4, 4)), float(rng.uniform(-5, 6))),
        float(rng.uniform(0.85, 1.15)),
        (float(rng.uniform(20, 220)), float(rng.uniform(20, 220)), float(rng.uniform(20, 220))),
        float(max(0.0, rng.uniform(-0.12, 0.24))), float(rng.uniform(1, 4)),
        (float(light[0]), float(light[1]), float(light[2])), float(rng.uniform(0.1, 0.5)), number,
    )  # fmt: skip


def colour(looks: Looks, first: Sheet, second: Sheet) -> Image:
    """(640, 640, 3) RGB, the sheet of a person.

    Args:
        looks: what to do.
        first, second: the sheets of `looks.source` and `looks.second`.
    """
    image = cv2.addWeighted(first.image, 1 - looks.blend, second.image, looks.blend, 0)
    skin = ((1 - looks.blend) * first.skin + looks.blend * second.skin)[..., None]
    face = np.maximum(skin, first.face[..., None])
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB).astype(np.float32)
    middle = np.median(lab[..., 0])
    lab[..., 0] = middle + looks.contrast * (lab[..., 0] - middle)
    lab[..., :1] *= face * looks.skin[0] + (1 - face) * looks.hair[0]
    lab[..., 1:] = 128 + (lab[..., 1:] - 128) * (face * looks.skin[1] + (1 - face) * looks.hair[1])
    lab[..., 1:] += np.array(looks.hue, np.float32) * face
    rng = generator("grain", looks.seed)
    grain = cv2.GaussianBlur(rng.normal(0, 1, (SHEET, SHEET)).astype(np.float32), (0, 0), 0.8) * 2.5
    lab[..., 0] += looks.grain * grain * skin[..., 0]
    coloured = cv2.cvtColor(np.clip(lab, 0, 255).astype(np.uint8), cv2.COLOR_LAB2RGB)
    left, top, side = CLOTH_PATCH
    cloth = first.image[top : top + side, left : left + side].astype(np.float32) - 128
    coloured[top : top + side, left : left + side] = np.clip(cloth + np.array(looks.cloth), 0, 255)
    return coloured  # type: ignore[return-value]


class Creases:
    """Horizontal creases of the forehead over a raised brow, vertical ones between lowered brows.

    Args:
        looks: whose.
        mesh: the canonical mesh.
        layout: of the sheet.
    """

    def __init__(self, looks: Looks, mesh: FaceMesh, layout: Layout) -> None:
        self._strength = looks.crease
        brows = layout.points[Places.of(mesh).brows.ravel()]
        top = float(layout.points[10, 1])
        (left, low), (right, high) = brows.min(axis=0), brows.max(axis=0)
        self._rows = slice(int(top), int(high) + 12)
        self._columns = slice(int(left) - 6, int(right) + 6)
        y, x = np.mgrid[self._rows, self._columns].astype(np.float64) + 0.5
        rng = generator("creases", looks.seed)
        lines = _lines(x, y, (top + 0.35 * (low - top), low - 2), rng)
        middle = float(layout.points[9, 0])
        to_left = 1 / (1 + np.exp(-(x - middle) / 12))
        between = _between(x - middle, y - float(layout.points[9, 1]), rng)
        self._maps = np.stack([lines * to_left, lines * (1 - to_left), between]).astype(np.float32)

    def draw(self, sheet: Image, brows: Array) -> Image:
        """The sheet with the creases of brows (4,), in cm above rest; the sheet itself if there is nothing to draw.

        A crease is full at 0.5 cm.
        """
        left, right = brows[:2].mean(), brows[2:].mean()
        weights = np.clip(np.array([left, right, -brows[[0, 2]].mean()]) / 0.5, 0, 1.5) * self._strength
        if not weights.any():
            return sheet
        factor = 1 - np.tensordot(weights.astype(np.float32), self._maps, 1)
        creased = sheet.copy()
        part = np.ascontiguousarray(sheet[self._rows, self._columns])
        creased[self._rows, self._columns] = cv2.multiply(part, cv2.merge([factor] * 3), dtype=cv2.CV_8U)
        return creased


def _lines(x: Array, y: Array, between: tuple[float, float], rng: np.random.Generator) -> Array:
    """Three or four lines across, dark with a brighter upper edge, a little curved."""
    count = int(rng.integers(3, 5))
    places = np.linspace(*between, count + 2)[1:-1] + rng.uniform(-3, 3, count)
    middle, half = x.mean(), np.ptp(x) / 2
    lines = np.zeros_like(x)
    for place in places:
        bend = rng.uniform(-8, 2) * ((x - middle) / half) ** 2 + 2 * np.sin((x - middle) / 20 + rng.uniform(0, 6))
        off = (y - place - bend) / rng.uniform(1.5, 2.5)
        lines += np.exp(-(off**2) / 2) - 0.5 * np.exp(-((off + 2.5) ** 2) / 4)
    edge: Array = lines * np.clip(1.3 - 1.3 * ((x - middle) / half) ** 4, 0, 1)
    return edge


def _between(x: Array, y: Array, rng: np.random.Generator) -> Array:
    """Two lines upwards from the root of the nose."""
    lines = np.zeros_like(x)
    for side in (-1, 1):
        off = (x - side * rng.uniform(7, 11) - 0.12 * side * y) / rng.uniform(1.5, 2.5)
        lines += np.exp(-(off**2) / 2) * np.exp(-((y / 16) ** 2) / 2)
    return lines

"""Hands with forearms, and panels, that pass in front of a face: painted once, then moved, turned and scaled.

Synthetic: a hand is a palm and fingers of capsules, shaded as if they were round, with grain and creases. It has the
skin of the signer and a random handshape. No real hand was looked at.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from fyc.asl.face.camera import Camera
from fyc.asl.synthetic.script import Occluder
from fyc.asl.synthetic.seeds import generator

Array = NDArray[np.float64]
Floats = NDArray[np.float32]
Image = NDArray[np.uint8]

#: Resolution of what is painted, in pixels a centimetre.
_PER_CM = 16
#: The hand lies in a rectangle: cm left and right of the palm's middle, above and below.
_HALF_WIDTH, _ABOVE, _BELOW = 9, 14, 40
#: Fingers: where they begin, how far they spread, length and radius, in cm; index to little finger.
_FINGERS = (
    (-2.9, 3.6, -9.0, 7.2, 0.85),
    (-1.0, 4.2, -2.0, 8.0, 0.88),
    (0.9, 4.0, 4.0, 7.5, 0.84),
    (2.7, 3.2, 11.0, 5.9, 0.72),
)
#: Which of the fingers are stretched, by handshape.
_SHAPES = ((1, 1, 1, 1), (1, 1, 1, 1), (1, 0, 0, 0), (1, 1, 0, 0), (0, 0, 0, 0), (1, 1, 1, 0))


class Cutout:
    """A painted occluder.

    Args:
        occluder: which.
        skin: (3,) RGB of the signer's skin.
        cloth: (3,) RGB of the sleeve, and of a panel.
    """

    def __init__(self, occluder: Occluder, skin: Array, cloth: Array) -> None:
        self._occluder = occluder
        rng = generator("occluder", occluder.kind, occluder.seed)
        paint = _hand if occluder.kind == "hand" else _panel
        self.colour, self.alpha, self._middle = paint(rng, skin, cloth)

    def draw(self, picture: Image, camera: Camera, origin: Array, frame: int) -> NDArray[np.uint8]:
        """Draw it into a picture, in place, and return (H, W) how much of each pixel it hides, 0 to 255.

        Args:
            picture: (H, W, 3).
            camera: that takes it.
            origin: (3,), what the places of its path are counted from, in cm.
            frame: the number of the frame.
        """
        height, width = picture.shape[:2]
        place = origin + self._occluder.place(frame)
        matrix = self._matrix(camera, place)
        corners = np.array([[0, 0], [1, 0], [0, 1], [1, 1]]) * self.alpha.shape[::-1]
        reach = corners @ matrix[:, :2].T + matrix[:, 2]
        left, top = (int(value) for value in np.clip(np.floor(reach.min(axis=0)), 0, (width, height)))
        right, bottom = (int(value) for value in np.clip(np.ceil(reach.max(axis=0)), 0, (width, height)))
        hidden = np.zeros((height, width), np.uint8)
        if right <= left or bottom <= top:
            return hidden
        matrix = matrix - np.array([[0, 0, left], [0, 0, top]])
        size = (right - left, bottom - top)
        colour = cv2.warpAffine(self.colour, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        alpha = cv2.warpAffine(self.alpha, matrix, size, flags=cv2.INTER_LINEAR)
        part = picture[top:bottom, left:right]
        weight = alpha.astype(np.float32) / 255
        part[:] = cv2.blendLinear(colour, np.ascontiguousarray(part), weight, 1 - weight)
        hidden[top:bottom, left:right] = alpha
        return hidden

    def _matrix(self, camera: Camera, place: Array) -> Array:
        """(2, 3), from pixels of the painting to those of the picture."""
        scale = camera.focal / -place[2] / _PER_CM
        angle = np.radians(self._occluder.angle)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        linear = scale * turn @ np.diag([self._occluder.flat, 1.0])
        middle = camera.project(place)
        return np.concatenate([linear, (middle - linear @ self._middle)[:, None]], axis=1)


def _panel(rng: np.random.Generator, skin: Array, cloth: Array) -> tuple[Image, Image, Array]:
    height, width = 30 * _PER_CM, 12 * _PER_CM
    grain = cv2.GaussianBlur(rng.normal(0, 1, (height, width)).astype(np.float32), (0, 0), 3)[..., None] * 30
    light = np.linspace(10, -10, height)[:, None, None]
    colour = np.clip(rng.uniform(30, 220, 3) + grain + light, 0, 255).astype(np.uint8)
    return colour, np.full((height, width), 255, np.uint8), np.array([width / 2, height / 2])


def _hand(rng: np.random.Generator, skin: Array, cloth: Array) -> tuple[Image, Image, Array]:
    """Colours, alpha and where the middle of the palm is, in pixels."""
    y, x = np.mgrid[0 : (_ABOVE + _BELOW) * _PER_CM, 0 : 2 * _HALF_WIDTH * _PER_CM].astype(np.float32) / _PER_CM
    x, y = x - _HALF_WIDTH, _ABOVE - y
    height = np.full(x.shape, -1, np.float32)
    shade = np.zeros_like(height)
    for start, end, radii in _capsules(rng):
        bulge, tilt = _capsule(x, y, start, end, radii)
        higher = bulge > height
        height = np.where(higher, bulge, height)
        shade = np.where(higher, tilt, shade)
    alpha = np.clip(height * 40, 0, 1)
    grain = cv2.GaussianBlur(rng.normal(0, 1, x.shape).astype(np.float32), (0, 0), 1.5) * 12
    light = 0.72 + 0.33 * np.clip(height, 0, 1.2) + 0.12 * shade
    creases = _creases(x, y, rng)
    sleeve = (y < -12)[..., None]
    base = np.where(sleeve, cloth, skin * rng.uniform(0.9, 1.15)).astype(np.float32)
    colour = base * (light * (1 - creases))[..., None] + grain[..., None]
    return (
        np.clip(colour, 0, 255).astype(np.uint8), (255 * alpha).astype(np.uint8),
        np.array([_HALF_WIDTH, _ABOVE], np.float64) * _PER_CM,
    )  # fmt: skip


Capsule = tuple[tuple[float, float], tuple[float, float], tuple[float, float]]


def _capsules(rng: np.random.Generator) -> list[Capsule]:
    """Parts of a hand: start, end, radii at both, in cm; y up, the middle of the palm in the origin."""
    parts: list[Capsule] = [((0, -8), (0, -40), (2.9, 4.2)), ((0, -3), (0, -9), (3.0, 2.8))]
    parts += [((x, -3.0), (1.12 * x, 3.0), (1.9, 1.6)) for x in (-2.2, -0.7, 0.8, 2.2)]
    shape = _SHAPES[int(rng.integers(len(_SHAPES)))]
    spread = rng.uniform(0.3, 1.8)
    for (x, y, lean, length, radius), stretched in zip(_FINGERS, shape, strict=True):
        angle = np.radians(lean * spread + rng.uniform(-3, 3))
        reach = length * (rng.uniform(0.92, 1.05) if stretched else 0.28)
        middle = (x + 0.5 * reach * np.sin(angle), y + 0.5 * reach * np.cos(angle))
        bend = angle + np.radians(rng.uniform(-4, 4))
        tip = (middle[0] + 0.5 * reach * np.sin(bend), middle[1] + 0.5 * reach * np.cos(bend))
        parts += [((x, y - 1), middle, (radius * 1.08, radius)), (middle, tip, (radius, radius * 0.82))]
    out = np.radians(rng.uniform(-70, -25))
    knuckle = (-3.2 + 3.4 * np.sin(out), -2.5 + 3.4 * np.cos(out))
    tip = (knuckle[0] + 3.0 * np.sin(out * 0.6), knuckle[1] + 3.0 * np.cos(out * 0.6))
    return [*parts, ((-2.2, -4), knuckle, (1.6, 1.1)), (knuckle, tip, (1.1, 0.85))]


def _capsule(
    x: Floats, y: Floats, start: tuple[float, float], end: tuple[float, float], radii: tuple[float, float]
) -> tuple[Floats, Floats]:
    """How high a capsule stands over the plane, in units of its radius, negative outside; and how far its surface leans
    to the upper left, -1 to 1."""
    ax, ay, bx, by = *start, end[0] - start[0], end[1] - start[1]
    along = np.clip(((x - ax) * bx + (y - ay) * by) / (bx * bx + by * by), 0, 1)
    radius = radii[0] + (radii[1] - radii[0]) * along
    dx, dy = (x - ax - along * bx) / radius, (y - ay - along * by) / radius
    inside = 1 - dx * dx - dy * dy
    height = np.where(inside > 0, np.sqrt(np.maximum(inside, 0)), inside)
    return height.astype(np.float32), np.clip((dy - dx) / 1.4, -1, 1).astype(np.float32)


def _creases(x: Floats, y: Floats, rng: np.random.Generator) -> Floats:
    """Dark lines across the palm."""
    lines = np.zeros_like(x)
    for _ in range(3):
        level, slope, bend = rng.uniform(-3, 2.5), rng.uniform(-0.4, 0.4), rng.uniform(-0.06, 0.06)
        off = (y - level - slope * x - bend * x * x) / 0.09
        lines += 0.16 * np.exp(-(off**2) / 2) * (np.abs(x) < 3)
    return lines

"""Backgrounds, and what a camera does to a picture: blur, smear, low light, noise, few pixels. Synthetic throughout."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from fyc.asl.synthetic.script import Quality
from fyc.asl.synthetic.seeds import generator

Array = NDArray[np.float64]
Image = NDArray[np.uint8]

_NOISE_MARGIN = 64


def background(seed: int, width: int, height: int) -> Image:
    """(height, width, 3) RGB: a plain wall with a soft light; for every third seed clouds of colour, for every third
    furniture of rectangles."""
    rng = generator("background", seed)
    base = rng.uniform(40, 215, 3)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    slope = rng.uniform(-35, 35, 2)
    light = slope[0] * (x / width - 0.5) + slope[1] * (y / height - 0.5)
    picture = base[None, None] + light[..., None]
    if seed % 3 == 1:
        clouds = (rng.normal(0, 22, (12, 16, 1)) + rng.normal(0, 8, (12, 16, 3))).astype(np.float32)
        picture = picture + cv2.resize(clouds, (width, height), interpolation=cv2.INTER_CUBIC)
    if seed % 3 == 2:
        for _ in range(int(rng.integers(4, 9))):
            left, top = rng.uniform(-0.2, 0.9, 2) * (width, height)
            right, bottom = (left, top) + rng.uniform(0.08, 0.5, 2) * (width, height)
            x0, y0, x1, y1 = (int(max(value, 0)) for value in (left, top, right, bottom))
            picture[y0:y1, x0:x1] = 0.5 * picture[y0:y1, x0:x1] + 0.5 * rng.uniform(20, 235, 3)
        picture = cv2.GaussianBlur(picture, (0, 0), rng.uniform(1, 4))
    picture = picture + rng.normal(0, 1.5, (height, width, 1))
    clipped: Image = np.clip(picture, 0, 255).astype(np.uint8)
    return clipped


class CameraFaults:
    """Applies a `Quality` to the pictures of one clip.

    The noise of a frame is a part of one larger field of noise, at a place drawn for that frame: to draw the noise of
    each frame anew would cost more than the picture.

    Args:
        quality: what to do.
        seed: of the noise.
        width, height: of its pictures.
    """

    def __init__(self, quality: Quality, seed: int, width: int, height: int) -> None:
        self._quality, self._seed = quality, seed
        self._noise: NDArray[np.int16] | None = None
        if quality.noise > 0:
            shape = (height + _NOISE_MARGIN, width + _NOISE_MARGIN, 3)
            noise = generator("noise", seed).standard_normal(shape, dtype=np.float32)
            self._noise = np.round(quality.noise * noise).astype(np.int16)

    def smear(self, picture: Image, mask: Image, motion: Array) -> Image:
        """Blur what moves along its motion while the shutter is open.

        Args:
            picture: (H, W, 3).
            mask: (H, W), 255 where the head is.
            motion: (2,), of the head since the frame before, in pixels.
        """
        shift = self._quality.shutter * motion
        length = float(np.hypot(*shift))
        if length < 0.5:
            return picture
        half = int(np.ceil(length / 2))
        kernel = np.zeros((2 * half + 1, 2 * half + 1), np.float32)
        for part in np.linspace(-0.5, 0.5, 4 * half + 1):
            column, row = half + part * shift
            left, top = int(np.floor(column)), int(np.floor(row))
            for dx, dy in ((0, 0), (1, 0), (0, 1), (1, 1)):
                weight = (1 - abs(column - left - dx)) * (1 - abs(row - top - dy))
                if weight > 0:
                    kernel[top + dy, left + dx] += weight
        kernel /= kernel.sum()
        smeared = cv2.filter2D(picture, -1, kernel)
        weight = cv2.filter2D(mask, -1, kernel).astype(np.float32) / 255
        return cv2.blendLinear(smeared, picture, weight, 1 - weight)  # type: ignore[return-value]

    def take(self, picture: Image, frame: int) -> Image:
        """The picture as the camera delivers it."""
        quality = self._quality
        height, width = picture.shape[:2]
        if quality.blur > 0:
            picture = cv2.GaussianBlur(picture, (0, 0), quality.blur)  # type: ignore[assignment]
        if quality.gain != 1:
            picture = cv2.convertScaleAbs(picture, alpha=quality.gain)  # type: ignore[assignment]
        if quality.shrink > 1:
            few = (max(round(width / quality.shrink), 1), max(round(height / quality.shrink), 1))
            picture = cv2.resize(picture, few, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
        if self._noise is not None:
            rows, columns = picture.shape[:2]
            left, top = generator("noise", self._seed, frame).integers(0, _NOISE_MARGIN, 2)
            noise = self._noise[top : top + rows, left : left + columns]
            picture = np.clip(picture.astype(np.int16) + noise, 0, 255).astype(np.uint8)
        if quality.shrink > 1:
            picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_LINEAR)  # type: ignore[assignment]
        return picture

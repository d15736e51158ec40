"""Small pictures of a video, evenly over its length, taken while it is analysed, in constant memory."""

from __future__ import annotations

from dataclasses import dataclass

import cv2

from fyc.asl.face.detector import Image
from fyc.asl.video.reader import Frame

#: Longer side in pixels, about, and quality of the JPEG pictures.
_SIDE, _QUALITY = 144, 60
#: Seconds between two pictures at least, and bytes of all of them at most.
LEAST_STEP, MOST_BYTES = 0.2, 3_000_000


@dataclass(frozen=True, repr=False)
class Thumbnail:
    """A small picture of a frame: its number and a JPEG file."""

    frame: int
    jpeg: bytes


class Thumbnails:
    """Takes frames and keeps the first of every step; the step doubles when the pictures become too many bytes."""

    def __init__(self, step_s: float = LEAST_STEP, most_bytes: int = MOST_BYTES) -> None:
        self.step_s = step_s
        self._most, self._bytes = most_bytes, 0
        self._kept: dict[int, Thumbnail] = {}

    def add(self, frame: Frame) -> None:
        """The next frame."""
        slot = int(frame.time_s / self.step_s + 1e-6)
        if frame.image is None or slot in self._kept:
            return
        small = cv2.cvtColor(_small(frame.image), cv2.COLOR_RGB2BGR)
        jpeg = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1].tobytes()
        self._kept[slot] = Thumbnail(frame.index, jpeg)
        self._bytes += len(jpeg)
        while self._bytes > self._most and len(self._kept) > 1:
            self._thin()

    def within(self, most_bytes: int) -> list[Thumbnail]:
        """The pictures, fewer of them if they are more bytes than `most_bytes`; at least one if there was a picture."""
        kept = list(self._kept.values())
        while sum(len(picture.jpeg) for picture in kept) > most_bytes and len(kept) > 1:
            kept = kept[::2]
        return kept

    def _thin(self) -> None:
        self.step_s *= 2
        kept: dict[int, Thumbnail] = {}
        for slot, picture in self._kept.items():
            kept.setdefault(slot // 2, picture)
        self._kept = kept
        self._bytes = sum(len(picture.jpeg) for picture in self._kept.values())


def _small(image: Image) -> Image:
    """A whole number of pixels becomes one: OpenCV does only that fast."""
    height, width = image.shape[:2]
    factor = max(1, round(max(height, width) / _SIDE))
    size = max(1, width // factor), max(1, height // factor)
    whole = image[: size[1] * factor, : size[0] * factor]
    return cv2.resize(whole, size, interpolation=cv2.INTER_AREA)  # type: ignore[return-value]

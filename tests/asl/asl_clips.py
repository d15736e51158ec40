"""Makes small videos for tests: frames that say their own number in their brightness, in any container."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

TICKS = 90_000


def shade(index: int) -> int:
    """Brightness of frame `index`."""
    return 20 + 4 * (index % 50)


def picture(index: int, size: tuple[int, int] = (64, 48)) -> NDArray[np.uint8]:
    """RGB frame `index`: its shade, and a red block in the upper left corner."""
    image = np.full((size[1], size[0], 3), shade(index), np.uint8)
    image[: size[1] // 3, : size[0] // 3] = (220, 0, 0)
    return image


def noise(index: int, size: tuple[int, int] = (64, 48)) -> NDArray[np.uint8]:
    """RGB frame `index` that does not compress, so that a short clip has some kilobytes."""
    return np.random.default_rng(index).integers(0, 256, (size[1], size[0], 3), np.uint8)


def make_video(
    path: Path,
    times: Sequence[float],
    *,
    size: tuple[int, int] = (64, 48),
    codec: str = "libx264",
    container: str | None = None,
    rate: int = 25,
    rotation: int = 0,
    hflip: bool = False,
    draw: Any = picture,
    options: dict[str, str] | None = None,
    codec_options: dict[str, str] | None = None,
) -> Path:
    """A video whose frames are shown at `times` seconds; `rotation` in degrees counterclockwise, as PyAV counts."""
    with av.open(str(path), "w", format=container, options=options or {}) as output:
        stream: Any = output.add_stream(codec, rate=rate)
        stream.width, stream.height = size
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        if codec == "libx264":
            stream.codec_context.time_base = Fraction(1, TICKS)
        stream.codec_context.options = codec_options or {}
        if rotation or hflip:
            stream.set_display_rotation(rotation, hflip=hflip)
        base = stream.codec_context.time_base or Fraction(1, rate)
        for index, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(draw(index, size), format="rgb24")
            frame.pts, frame.time_base = round(Fraction(time) / base), base
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def make_sound(path: Path, seconds: float = 0.5) -> Path:
    """A file with sound only."""
    with av.open(str(path), "w") as output:
        stream = output.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, int(16000 * seconds)), np.float32), format="fltp", layout="mono"
        )
        frame.sample_rate, frame.pts = 16000, 0
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return path


def regular(count: int, rate: int = 25) -> list[float]:
    """The times of `count` frames."""
    return [index / rate for index in range(count)]

"""Writes an MP4 that browsers play: H.264, yuv420p, with the presentation time of every frame."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fyc.asl.video.container import reason_of, require_av
from fyc.errors import VideoError, resource_error

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.video.stream import VideoStream

#: Ticks a second of the timestamps: that of MPEG systems; 24, 25, 30, 50, 60 and 30/1.001 frames a second are exact.
_TICKS = 90_000


class VideoWriter:
    """Takes the frames of a video in order. Made by `write_video`.

    Attributes:
        frames: how many were added.
    """

    def __init__(
        self, container: OutputContainer, stream: VideoStream, target: Path, size: tuple[int, int], rate: float
    ) -> None:
        self._container, self._stream, self._target = container, stream, target
        self._width, self._height = size
        self._step = round(_TICKS / rate)
        self._last: int | None = None
        self.frames = 0

    def add(self, image: NDArray[np.uint8], time_s: float | None = None) -> None:
        """Add a frame.

        Args:
            image: uint8 (height, width, 3), RGB.
            time_s: seconds at which it is shown, at least a tick (1/90000 s) after the frame before; None for one
                frame's length, at the video's rate, after it.

        Raises:
            VideoError: FYC-V05 if the image has another shape, the time does not grow, or writing fails.
            ResourceError: FYC-S01 if the disk is full.
        """
        import av

        if image.shape != (self._height, self._width, 3) or image.dtype != np.uint8:
            wanted = f"not uint8 {(self._height, self._width, 3)}"
            raise self._misused("an image does not fit the video", f"it is {image.dtype} {image.shape}, {wanted}")
        following = 0 if self._last is None else self._last + self._step
        ticks = following if time_s is None else round(time_s * _TICKS)
        if ticks < 0 or (self._last is not None and ticks <= self._last):
            before = "" if self._last is None else f" after {self._last / _TICKS:.5f} s"
            raise self._misused("the times of a video must grow from 0", f"{ticks / _TICKS:.5f} s comes{before}")
        frame = av.VideoFrame.from_ndarray(_even(image), format="rgb24")
        frame.pts, frame.time_base = ticks, Fraction(1, _TICKS)
        with _writing(self._target):
            self._container.mux(self._stream.encode(frame))
        self._last = ticks
        self.frames += 1

    def finish(self) -> None:
        """Write what the encoder still holds, and the index. `write_video` does it.

        Raises:
            VideoError: FYC-V05 if there are no frames, or writing fails.
            ResourceError: FYC-S01 if the disk is full.
        """
        if not self.frames:
            raise self._misused("a video needs at least one frame", "none was added")
        with _writing(self._target):
            self._container.mux(self._stream.encode(None))
            self._container.close()

    def _misused(self, what: str, why: str) -> VideoError:
        return VideoError("FYC-V05", what, where=str(self._target), why=why)


def _even(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The image with its last row and column repeated where its size is odd: yuv420p has one colour for 2x2 pixels."""
    height, width = image.shape[:2]
    if height % 2 == 0 and width % 2 == 0:
        return np.ascontiguousarray(image)
    return np.pad(image, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")


@contextlib.contextmanager
def write_video(path: str | Path, size: tuple[int, int], rate: float = 25.0) -> Iterator[VideoWriter]:
    """Write a video: it appears at `path`, whole, when the `with` block ends without an error, else not at all.

    Args:
        path: the `.mp4` to write; what is there is replaced.
        size: width and height of the images in pixels. A video of odd size has one more column or row.
        rate: usual frames per second; frames that are added without a time follow each other at it.

    Raises:
        VideoError: FYC-V05 if it cannot be written or no frame was added, FYC-M06 if PyAV is not installed.
        ResourceError: FYC-S01 if the disk is full.
    """
    target = Path(path)
    av = require_av(target)
    temporary = target.with_name(f".{target.name}.new")
    try:
        with _writing(target):
            temporary.touch()  # PyAV would try only when the first frame comes
            # The index goes to the front, so that a browser starts before it has everything.
            container = av.open(f"file:{temporary}", "w", format="mp4", options={"movflags": "faststart"})
        try:
            writer = VideoWriter(container, _h264(container, size, rate), target, size, rate)
            yield writer
            writer.finish()
        finally:
            with contextlib.suppress(OSError, av.error.FFmpegError):
                container.close()
        with _writing(target):
            _sync(temporary)
            temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _writing(target: Path) -> Iterator[None]:
    """Turn what goes wrong while writing into fyc's errors."""
    from av.error import FFmpegError

    try:
        yield
    except (OSError, FFmpegError) as error:
        full = resource_error(error, where=str(target))
        raise full or VideoError(
            "FYC-V05", "the video cannot be written", where=str(target), why=reason_of(error),
            next="give a folder that you may write",
        ) from error  # fmt: skip


def _sync(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _h264(container: OutputContainer, size: tuple[int, int], rate: float) -> VideoStream:
    stream: VideoStream = container.add_stream("libx264", rate=Fraction(rate).limit_denominator(1001))
    stream.width, stream.height = size[0] + size[0] % 2, size[1] + size[1] % 2
    stream.pix_fmt = "yuv420p"
    stream.codec_context.time_base = Fraction(1, _TICKS)
    # Without B-frames the order of decoding is that of the times, and no player cuts off the last frames.
    stream.codec_context.options = {"preset": "veryfast", "crf": "23", "bf": "0"}
    return stream

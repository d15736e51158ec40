"""Reads a video frame by frame, with the time at which a player, and ELAN, shows each of them.

`Frame.time_s` is the container's presentation timestamp (PTS), edit lists included, on the clock of players. An MP4,
MOV, Matroska, WebM or AVI file has a timeline that begins at zero: a first frame with a PTS of 0.08 s keeps 0.08 s. An
MPEG transport or program stream begins anywhere, and its first timestamp, of sound or picture, is zero
(`VideoInfo.origin_s` says what was subtracted). Milliseconds of an ELAN document are on the same clock, so
`round(1000 * time_s)` is where ELAN shows the frame, unless its media descriptor has a TIME_ORIGIN.
"""

from __future__ import annotations

import struct
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fyc.asl.video.container import (
    VideoInfo,
    counts_packets,
    damaged,
    family,
    is_variable,
    open_container,
    origin,
    reason_of,
    stated_duration,
    stated_rate,
)
from fyc.errors import ResourceError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

__all__ = ["Frame", "Video", "VideoInfo", "open_video"]

#: Reading goes on after so many errors of the container in a row, and no more.
_MOST_FAILURES = 32
#: Lost frames that are held back until it is known which frames come before them; more than any codec reorders.
_MOST_WAITING = 32
#: Step, in seconds, by which a frame follows one that has the same or a later timestamp: ELAN's resolution.
_LEAST_STEP = 0.001
_BACKWARDS = 1.0
_FALLBACK_RATE = 25.0
_UPRIGHT = (1, 0, 0, 0, 1, 0, 0, 0, 1)


@dataclass(frozen=True)
class Frame:
    """One frame, or the place of one that is lost.

    Attributes:
        index: number of the frame, from 0, lost ones counted.
        time_s: seconds at which it is shown; greater than that of the frame before.
        image: uint8 (height, width, 3), RGB, upright; None if it cannot be decoded.
        problem: what is wrong; empty for a sound frame. With an image: parts of it are damaged, or its time was
            repaired.
    """

    index: int
    time_s: float
    image: NDArray[np.uint8] | None
    problem: str = ""


def open_video(path: str | Path) -> Video:
    """Open a video; use it with `with`.

    Raises:
        VideoError: FYC-V01 not there, FYC-V02 no video, FYC-V03 sound only, FYC-V04 no frame can be decoded, FYC-M06
            PyAV is not installed.
    """
    return Video(Path(path))


class Video:
    """An open video: iterate over it, once, for its frames. It holds one frame at a time.

    Attributes:
        info: what is known before the frames are read.
        problem: after the last frame: what was wrong with the file as a whole, empty if nothing.
    """

    def __init__(self, path: Path) -> None:
        self.problem = ""
        self._container, self._stream = open_container(path)
        try:
            self._packets_read = 0
            self._reached = 0.0
            rate = stated_rate(self._stream)
            self._clock = _Clock(self._container, self._stream, 1 / (rate or _FALLBACK_RATE))
            self._orientation = (0, False)
            self._size: tuple[int, int] | None = None
            self._frames = self._read()
            self._first = self._until_first_image(path)
            self.info = self._describe(path, rate)
        except BaseException:
            self._container.close()
            raise
        self._started = False

    def __enter__(self) -> Video:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file. Safe to call twice."""
        self._frames.close()
        self._container.close()

    def __iter__(self) -> Iterator[Frame]:
        if self._started:
            raise RuntimeError("a video is read once; open it again")
        self._started = True
        while self._first:
            yield self._first.pop(0)
        yield from self._frames

    def _until_first_image(self, path: Path) -> list[Frame]:
        """Frames up to the first that has an image: only then are its true size and rotation known."""
        seen = []
        for frame in self._frames:
            seen.append(frame)
            if frame.image is not None:
                return seen
        raise damaged(path, self.problem or (seen[-1].problem if seen else "it holds no frames"))

    def _describe(self, path: Path, rate: float | None) -> VideoInfo:
        image = self._first[-1].image
        assert image is not None
        quarter, mirrored = self._orientation
        aspect = float(self._stream.sample_aspect_ratio or 1) or 1.0
        return VideoInfo(
            path=path,
            width=image.shape[1],
            height=image.shape[0],
            rotation=90 * quarter,
            mirrored=mirrored,
            rate=rate,
            duration_s=stated_duration(self._container, self._stream),
            frames=self._stream.frames or None,
            codec=self._stream.codec_context.codec.canonical_name,
            variable_rate=is_variable(self._container, self._stream),
            origin_s=float(self._clock.origin),
            pixel_aspect=1 / aspect if quarter % 2 else aspect,
        )

    def _read(self) -> Generator[Frame, None, None]:
        """All frames, and a last lost one if the file ends before it should."""
        index = 0
        for pts, picture, problem in self._pictures():
            time, late = self._clock.time_of(pts)
            image, trouble = (None, "") if picture is None else self._image(picture)
            yield Frame(index, time, image, "; ".join(filter(None, (problem, trouble, late))))
            index += 1
        missing = self._missing()
        if missing:
            self._note(missing)
            time, _ = self._clock.time_of(None)
            yield Frame(index, time, None, self.problem)

    def _pictures(self) -> Iterator[tuple[int | None, VideoFrame | None, str]]:
        """Timestamp, picture (None for a lost frame) and problem of every frame, in order of presentation."""
        waiting: dict[int, str] = {}
        exact = counts_packets(self._container, self._stream)
        for packet in self._packets():
            pictures, problem = self._decode(packet)
            if packet is not None and packet.pts is not None and (problem or (exact and not packet.is_discard)):
                waiting[packet.pts] = problem or "the decoder left it out: what it refers to is lost"
            elif problem and packet is not None:
                yield None, None, problem
            for picture in pictures:
                waiting.pop(picture.pts, None) if picture.pts is not None else None
                yield from self._overdue(waiting, picture.pts)
                yield picture.pts, picture, "parts of the picture are damaged" if picture.is_corrupt else ""
            while len(waiting) > _MOST_WAITING:
                first = min(waiting)
                yield first, None, waiting.pop(first)
        for pts in sorted(waiting):
            yield pts, None, waiting[pts]

    @staticmethod
    def _overdue(waiting: dict[int, str], shown: int | None) -> Iterator[tuple[int, None, str]]:
        """The lost frames that should have come before the one that is shown now."""
        if shown is not None:
            for pts in sorted(pts for pts in waiting if pts < shown):
                yield pts, None, waiting.pop(pts)

    def _packets(self) -> Iterator[Packet[VideoStream] | None]:
        """Packets of the picture; None at the end, so that the decoder gives out what it holds."""
        from av.error import EOFError as EndOfFile
        from av.error import FFmpegError

        failures = 0
        while failures < _MOST_FAILURES:
            try:
                for packet in self._container.demux(self._stream):
                    if packet.size:
                        failures = 0
                        self._packets_read += 1
                        self._reached = max(self._reached, self._clock.end_of(packet))
                        yield packet
                break
            except EndOfFile:
                break
            except FFmpegError as error:
                failures += 1
                self._note(f"the file is damaged after {self._clock.last or 0:.3f} s: {reason_of(error)}")
        yield None

    def _decode(self, packet: Packet[VideoStream] | None) -> tuple[list[VideoFrame], str]:
        from av.error import EOFError as EndOfFile
        from av.error import FFmpegError

        try:
            return list(self._stream.codec_context.decode(packet)), ""
        except EndOfFile:
            return [], ""
        except FFmpegError as error:
            return [], f"it cannot be decoded: {reason_of(error)}"

    def _image(self, picture: VideoFrame) -> tuple[NDArray[np.uint8] | None, str]:
        """The upright RGB image, or None and the reason.

        Raises:
            ResourceError: FYC-S02 if memory is short: the frame is not lost in the video.
        """
        from av.error import FFmpegError

        size = (picture.width, picture.height)
        if self._size is not None and size != self._size:
            first = f"{self._size[0]}x{self._size[1]}"
            return None, f"it has {size[0]}x{size[1]} pixels, the frames before it {first}"
        try:
            pixels = picture.to_ndarray(format="rgb24").astype(np.uint8, copy=False)
        except MemoryError as error:
            raise ResourceError(
                "FYC-S02", "not enough memory", where=str(self.info.path),
                why=f"a frame of {size[0]}x{size[1]} pixels cannot be held",
                next="use fewer --workers, or a machine with more memory",
            ) from error  # fmt: skip
        except (FFmpegError, ValueError) as error:
            return None, f"it cannot be turned into RGB: {reason_of(error)}"
        if self._size is None:  # only once: PyAV's access to side data keeps the picture until garbage is collected
            self._size = size
            self._orientation = orientation(_display_matrix(picture))
        return upright(pixels, *self._orientation), ""

    def _missing(self) -> str:
        """What to say if the container states more frames, or a longer picture, than there was; else nothing."""
        stated = self._stream.frames if family(self._container) == "mov" else 0  # others count empty packets, too
        if stated and self._packets_read < stated:
            return f"the file ends early: {stated - self._packets_read} of {stated} frames are missing"
        length = stated_duration(self._container, self._stream)
        if not stated and length is not None and self._reached + 1.5 * self._clock.step < length:
            return f"the file ends early: at {self._reached:.3f} of {length:.3f} s"
        return ""

    def _note(self, problem: str) -> None:
        self.problem = f"{self.problem}; {problem}" if self.problem else problem


class _Clock:
    """Turns timestamps into seconds that always grow."""

    def __init__(self, container: InputContainer, stream: VideoStream, step: float) -> None:
        self.origin = origin(container)
        self.step = step
        self.last: float | None = None
        self._unit = stream.time_base or Fraction(1, 1_000_000)
        length = stated_duration(container, stream)
        start = float(stream.start_time * self._unit - self.origin) if stream.start_time is not None else 0.0
        self._end = None if length is None else start + length + max(10.0, length)
        self._shift = 0.0

    def time_of(self, pts: int | None) -> tuple[float, str]:
        """Seconds for a timestamp, and what had to be repaired."""
        time, problem = self._time_of(pts)
        self.last = time
        return time, problem

    def end_of(self, packet: Packet[VideoStream]) -> float:
        """Seconds until which a packet's frame is shown, as far as its container says."""
        if packet.pts is None:
            return 0.0
        return float((packet.pts + (packet.duration or 0)) * self._unit - self.origin)

    def _time_of(self, pts: int | None) -> tuple[float, str]:
        following = 0.0 if self.last is None else self.last + self.step
        if pts is None:  # streams without timestamps, such as raw H.264: the stated rate is all there is
            return following, ""
        time = float(pts * self._unit - self.origin) + self._shift
        if self._end is not None and time > self._end:
            return following, f"its timestamp, {time:.3f} s, lies far beyond the end of the video and was not used"
        if self.last is None or time > self.last:
            return time, ""
        if self.last - time > _BACKWARDS:
            self._shift += following - time
            return (
                following,
                f"the timestamps jump back from {self.last:.3f} to {time:.3f} s here; later ones are moved",
            )
        return self.last + _LEAST_STEP, f"its timestamp, {time:.3f} s, does not follow the one before"


def _display_matrix(picture: VideoFrame) -> tuple[int, ...]:
    from av.sidedata.sidedata import Type

    try:
        side_data: Any = picture.side_data
        raw = bytes(side_data[Type.DISPLAYMATRIX])
    except KeyError:
        return _UPRIGHT
    return struct.unpack("=9i", raw) if len(raw) == 36 else _UPRIGHT


def orientation(matrix: tuple[int, ...]) -> tuple[int, bool]:
    """Quarter turns clockwise, and whether to mirror left to right after them, of a display matrix.

    Args:
        matrix: nine integers (a, b, u, c, d, v, x, y, w); a pixel at (p, q), counted right and down, is shown at
            (a p + c q + x, b p + d q + y) (ISO/IEC 14496-12, section 6.2.2). An angle between is rounded to the
            nearest quarter.
    """
    a, b, _, c, d = matrix[:5]
    mirrored = a * d - b * c < 0
    if mirrored:  # undo the mirroring of the result: x -> -x
        a, c = -a, -c
    angle = np.arctan2(b - c, a + d)
    return int(np.rint(angle / (np.pi / 2))) % 4, mirrored


def upright(pixels: NDArray[np.uint8], quarter: int, mirrored: bool) -> NDArray[np.uint8]:
    """Pixels (H, W, 3) turned clockwise by quarters, then mirrored left to right if asked; C-contiguous."""
    turned = np.rot90(pixels, -quarter)
    return np.ascontiguousarray(turned[:, ::-1] if mirrored else turned)

"""Opens video files with PyAV: what is no video is refused with a clear error before anything is decoded."""

from __future__ import annotations

import itertools
import os
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from fyc.errors import VideoError

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

#: Demuxers of FFmpeg that turn texts, pictures and lists of other files into "videos".
_NO_VIDEO_FORMATS = {"tty", "bin", "xbin", "adf", "idf", "image2", "ico", "hls", "concat", "dash", "sdp", "imf"}
#: How the usual containers begin: (offset, bytes). A file that begins so and cannot be opened is damaged.
_MAGIC = (
    (4, b"ftyp"), (4, b"moov"), (4, b"mdat"), (4, b"wide"), (0, b"\x1aE\xdf\xa3"), (0, b"RIFF"),
    (0, b"\x00\x00\x01\xba"), (0, b"\x00\x00\x01\xb3"), (0, b"FLV"), (0, b"OggS"),
    (0, b"\x30\x26\xb2\x75"), (0, b"\x47\x40"),
)  # fmt: skip
#: Containers in which one packet is one frame, and codecs for which that holds.
_EXACT_CONTAINERS = {"mov", "matroska"}
_EXACT_CODECS = {"h264", "hevc", "av1", "libdav1d", "mjpeg", "prores"}


@dataclass(frozen=True)
class VideoInfo:
    """What is known of a video before its frames are read.

    Attributes:
        path: the file.
        width: columns of a frame after rotation, in pixels.
        height: rows of a frame after rotation, in pixels.
        rotation: degrees clockwise by which the coded pictures are turned to stand upright: 0, 90, 180 or 270.
        mirrored: whether they are mirrored left to right after that, as some front cameras ask for.
        rate: average frames per second that the container states, None if it does not. Never used where frames have
            times of their own.
        duration_s: length of the picture in seconds that the container states, None if it does not.
        frames: number of frames that the container states, None if it does not.
        codec: FFmpeg's name of the codec.
        variable_rate: whether frames come at uneven intervals. Known for MP4 and MOV, which list all times; for others
            True if the stated rates disagree, else None.
        origin_s: seconds that were subtracted from the container's timestamps. See `fyc.asl.video.reader`.
        pixel_aspect: width of a pixel over its height; 1 unless the video is anamorphic (DV, MPEG-2). Frames are not
            stretched.
    """

    path: Path
    width: int
    height: int
    rotation: int
    mirrored: bool
    rate: float | None
    duration_s: float | None
    frames: int | None
    codec: str
    variable_rate: bool | None
    origin_s: float
    pixel_aspect: float


def require_av(path: Path) -> ModuleType:
    """The package av.

    Raises:
        VideoError: FYC-M06 if it is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise VideoError(
            "FYC-M06", "videos need the package av", where=str(path), why=str(error), next="pip install 'fyc[asl]'"
        ) from error
    return av


def open_container(path: Path) -> tuple[InputContainer, VideoStream]:
    """The opened file and its first moving picture.

    Only local files are opened: no address, and nothing that the file refers to on the network.

    Raises:
        VideoError: FYC-V01 to FYC-V04, FYC-M06.
    """
    av = require_av(path)
    head = _read_head(path)
    try:
        container: InputContainer = av.open(
            f"file:{os.fspath(path)}", options={"protocol_whitelist": "file"}, metadata_errors="replace"
        )
    except av.error.FFmpegError as error:
        raise _unreadable(path, head, error) from error
    try:
        return container, _moving_picture(container, path)
    except BaseException:
        container.close()
        raise


def require_file(path: Path) -> None:
    """Refuse what is no file.

    Raises:
        VideoError: FYC-V01 if there is nothing, a folder, a device or a pipe.
    """
    if not path.exists():
        raise VideoError("FYC-V01", "the video cannot be found", where=str(path), next="check the path")
    if not path.is_file():
        kind = "a folder" if path.is_dir() else "a device or pipe"
        raise VideoError("FYC-V01", f"this is {kind}, not a video file", where=str(path), next="give one video file")


def _read_head(path: Path) -> bytes:
    require_file(path)
    try:
        with path.open("rb") as stream:
            head = stream.read(16)
    except OSError as error:
        why = error.strerror or str(error)
        raise VideoError(
            "FYC-V01", "the video cannot be opened", where=str(path), why=why, next="check the rights of the file"
        ) from error
    if not head:
        raise _not_video(path, "it has no bytes")
    return head


def _not_video(path: Path, why: str) -> VideoError:
    advice = "give a video file, such as .mp4, .mov, .mkv, .webm, .avi or .mpg"
    return VideoError("FYC-V02", "the file is not a video", where=str(path), why=why, next=advice)


def damaged(path: Path, why: str) -> VideoError:
    """The FYC-V04 for a file of which no frame can be had."""
    advice = "copy or download it again; for a recording that was broken off, try a tool that rebuilds its index"
    return VideoError("FYC-V04", "no frame of the video can be decoded", where=str(path), why=why, next=advice)


def _unreadable(path: Path, head: bytes, error: Exception) -> VideoError:
    reason = reason_of(error)
    if any(head[offset : offset + len(magic)] == magic for offset, magic in _MAGIC):
        if head[4:8] in {b"ftyp", b"mdat", b"wide"}:
            reason = f"the index of an MP4 or MOV file (moov) is missing or damaged: {reason}"
        return damaged(path, reason)
    return _not_video(path, reason)


def _moving_picture(container: InputContainer, path: Path) -> VideoStream:
    from av.stream import Disposition

    name = container.format.name
    if name in _NO_VIDEO_FORMATS or name.endswith("_pipe"):
        raise _not_video(path, f"FFmpeg takes it for {container.format.long_name}")
    moving = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not moving:
        kinds = sorted({stream.type or "unknown data" for stream in container.streams})
        raise VideoError(
            "FYC-V03", "the file holds no moving picture", where=str(path),
            why=f"it holds {', '.join(kinds) or 'nothing'}", next="give the file that has the picture",
        )  # fmt: skip
    if moving[0].codec_context is None:
        raise damaged(path, "the installed PyAV has no decoder for its codec")
    return moving[0]


def reason_of(error: Exception) -> str:
    """FFmpeg's words for an error, without the file name."""
    return str(getattr(error, "strerror", None) or error)


def family(container: InputContainer) -> str:
    """The kind of container: FFmpeg's first name for it, such as `mov`, `matroska`, `mpegts`, `avi`."""
    return container.format.name.split(",")[0]


def counts_packets(container: InputContainer, stream: VideoStream) -> bool:
    """Whether every packet is one frame, so that a packet without a frame means a lost frame."""
    return family(container) in _EXACT_CONTAINERS and stream.codec_context.name in _EXACT_CODECS


def origin(container: InputContainer) -> Fraction:
    """Timestamp, in seconds, that players call zero.

    MP4, MOV, Matroska, WebM and AVI have a timeline of their own that begins at zero. MPEG transport and program
    streams begin anywhere (FFmpeg marks them with AVFMT_TS_DISCONT); players count from their first timestamp.
    """
    from av.format import Flags

    if Flags.ts_discont in Flags(container.format.flags) and container.start_time is not None:
        return Fraction(container.start_time, 1_000_000)
    return Fraction(0)


def stated_rate(stream: VideoStream) -> float | None:
    """Average frames per second that the container states."""
    rate = stream.average_rate or stream.base_rate
    return float(rate) if rate else None


def stated_duration(container: InputContainer, stream: VideoStream) -> float | None:
    """Seconds of picture that the container states."""
    if stream.duration is not None and stream.time_base is not None:
        return float(stream.duration * stream.time_base)
    tag = str(stream.metadata.get("DURATION", "")).split(":")
    try:
        if len(tag) == 3:  # Matroska's tag, such as 00:00:04.080000000
            return int(tag[0]) * 3600 + int(tag[1]) * 60 + float(tag[2])
    except ValueError:
        pass
    if container.duration is not None and not container.streams.audio:
        return container.duration / 1_000_000
    return None


def is_variable(container: InputContainer, stream: VideoStream) -> bool | None:
    """Whether frames come at uneven intervals; None if the container does not tell."""
    if family(container) == "mov" and len(stream.index_entries) > 2:
        times = [entry.timestamp for entry in stream.index_entries]
        steps = [after - before for before, after in itertools.pairwise(times)]
        spread = max(steps) - min(steps)
        return spread > 2 and spread > 0.02 * sum(steps) / len(steps)
    average, base = stream.average_rate, stream.base_rate
    if average and base and abs(average / base - 1) > 0.01:
        return True
    return None

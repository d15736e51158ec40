"""Videos whose timestamps, sizes or pictures are wrong in a known way."""

from __future__ import annotations

import http.server
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from asl_clips import make_video, noise, picture, regular, shade

from fyc.asl.video.reader import Frame, open_video
from fyc.errors import VideoError

MS = Fraction(1, 1000)


def jpeg(index: int, size: tuple[int, int] = (64, 48)) -> bytes:
    """Frame `index` as a JPEG picture."""
    context: Any = av.CodecContext.create("mjpeg", "w")
    context.width, context.height, context.pix_fmt, context.time_base = *size, "yuvj420p", MS
    frame = av.VideoFrame.from_ndarray(picture(index, size), format="rgb24").reformat(format="yuvj420p")
    return b"".join(bytes(packet) for packet in [*context.encode(frame), *context.encode(None)])


def mux(path: Path, pictures: Sequence[bytes], times_ms: Sequence[int]) -> Path:
    """A video of ready-made JPEG pictures, whose timestamps need not grow."""
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream("mjpeg", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        for place, (content, time) in enumerate(zip(pictures, times_ms, strict=True)):
            packet = av.Packet(content)
            packet.stream, packet.time_base, packet.dts, packet.pts = stream, MS, place, time
            packet.is_keyframe = True
            output.mux(packet)
    return path


def frames_of(path: Path) -> list[Frame]:
    with open_video(path) as video:
        return list(video)


def test_timestamps_that_repeat_or_step_back_are_moved_by_a_millisecond(tmp_path: Path) -> None:
    frames = frames_of(mux(tmp_path / "a.mkv", [jpeg(i) for i in range(6)], [0, 40, 40, 39, 120, 160]))
    assert [frame.time_s for frame in frames] == pytest.approx([0, 0.04, 0.041, 0.042, 0.12, 0.16])
    assert [bool(frame.problem) for frame in frames] == [False, False, True, True, False, False]
    assert "0.039 s, does not follow" in frames[3].problem
    assert all(frame.image is not None for frame in frames)


def test_timestamps_that_start_again_go_on(tmp_path: Path) -> None:
    """As in two recordings that were put together without new timestamps."""
    frames = frames_of(mux(tmp_path / "a.mkv", [jpeg(i) for i in range(6)], [3000, 3040, 3080, 10, 60, 110]))
    assert [frame.time_s for frame in frames] == pytest.approx([3, 3.04, 3.08, 3.12, 3.17, 3.22])
    assert [bool(frame.problem) for frame in frames] == [False, False, False, True, False, False]


def test_a_timestamp_far_beyond_the_end_is_not_used(tmp_path: Path) -> None:
    path = mux(tmp_path / "a.mkv", [jpeg(i) for i in range(5)], [0, 40, 1_000_000, 120, 160])
    content = path.read_bytes()
    stated = b"00:16:40.0"
    assert content.count(stated) == 1
    path.write_bytes(content.replace(stated, b"00:00:00.2"))
    frames = frames_of(path)
    assert [frame.time_s for frame in frames[:5]] == pytest.approx([0, 0.04, 0.08, 0.12, 0.16])
    assert [index for index, frame in enumerate(frames) if frame.problem] == [2]
    assert "far beyond the end" in frames[2].problem


def test_a_frame_of_another_size_is_lost(tmp_path: Path) -> None:
    pictures = [jpeg(0), jpeg(1), jpeg(2, (32, 32)), jpeg(3)]
    frames = frames_of(mux(tmp_path / "a.mkv", pictures, [0, 40, 80, 120]))
    assert [frame.image is None for frame in frames] == [False, False, True, False]
    assert frames[2].problem == "it has 32x32 pixels, the frames before it 64x48"


def test_frames_that_cannot_be_decoded_keep_their_places(tmp_path: Path) -> None:
    """A hundred in a row: more than are held back, and at the end of the file."""
    pictures = [jpeg(i) if i < 4 or i in {110, 111} else b"\xff\xd8 no picture" for i in range(150)]
    times = [40 * i for i in range(150)]
    frames = frames_of(mux(tmp_path / "a.mkv", pictures, times))
    assert [frame.time_s for frame in frames] == pytest.approx([time / 1000 for time in times])
    assert [index for index, frame in enumerate(frames) if frame.image is not None] == [0, 1, 2, 3, 110, 111]
    assert all(frame.problem for frame in frames if frame.image is None)
    assert float(np.median(frames[110].image)) == pytest.approx(shade(110), abs=4)  # type: ignore[arg-type]


def test_lost_frames_are_given_out_while_the_file_is_read(tmp_path: Path) -> None:
    """What cannot be decoded is not collected: memory stays the same, however long the damage."""
    path = mux(tmp_path / "a.mkv", [jpeg(0), *[b"\xff\xd8"] * 200], [40 * i for i in range(201)])
    with open_video(path) as video:
        frames = iter(video)
        for _ in range(20):
            next(frames)
        assert video._packets_read < 100


@pytest.mark.skipif(sys.platform != "linux", reason="limits its own memory")
def test_a_frame_that_memory_is_too_short_for_is_not_called_damaged(tmp_path: Path) -> None:
    make_video(tmp_path / "a.mkv", regular(6), size=(1920, 1080))
    script = """
import resource, sys
from pathlib import Path
from fyc.asl.video.reader import open_video
from fyc.errors import ResourceError
with open_video(Path(sys.argv[1])) as video:
    frames = iter(video)
    kept = [next(frames).image]
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 5_000_000,) * 2)
    try:
        kept += [frame.image for frame in frames]
    except ResourceError as error:
        print(error.code, error.why)
"""
    words = [sys.executable, "-c", script, str(tmp_path / "a.mkv")]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "FYC-S02 a frame of 1920x1080 pixels cannot be held"


def test_a_concealed_picture_is_given_with_its_problem(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mkv", regular(12), draw=noise, codec_options={"bf": "0", "g": "12"})
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    for place in range(middle, middle + 300):
        content[place] ^= 0x5A
    path.write_bytes(content)
    troubled = [frame for frame in frames_of(path) if frame.problem]
    assert troubled
    assert [frame for frame in troubled if frame.image is not None and "damaged" in frame.problem]


@pytest.mark.parametrize(("rotation", "aspect"), [(0, 16 / 15), (90, 15 / 16)])
def test_pixels_that_are_not_square_are_told(tmp_path: Path, rotation: int, aspect: float) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as output:
        stream: Any = output.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(16, 15)
        stream.set_display_rotation(rotation)
        for index in range(3):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture(index), format="rgb24")))
        output.mux(stream.encode(None))
    with open_video(path) as video:
        assert video.info.pixel_aspect == pytest.approx(aspect)


def test_a_cover_is_no_moving_picture(tmp_path: Path) -> None:
    path = tmp_path / "song.mp4"
    with av.open(str(path), "w") as output:
        sound: Any = output.add_stream("aac", rate=16000)
        cover: Any = output.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 64, 48, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), format="fltp", layout="mono")
        samples.sample_rate, samples.pts = 16000, 0
        output.mux(sound.encode(samples))
        output.mux(sound.encode(None))
        packet = av.Packet(jpeg(0))
        packet.stream, packet.time_base, packet.pts, packet.dts, packet.is_keyframe = cover, MS, 0, 0, True
        output.mux(packet)
    with pytest.raises(VideoError) as caught:
        frames_of(path)
    assert caught.value.code == "FYC-V03"


@pytest.fixture
def asked() -> Iterator[tuple[str, list[str]]]:
    """The address of a server on this machine, and what was asked of it."""
    requests: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append(self.path)
            self.send_error(404)

        def log_message(self, format: str, *args: object) -> None:
            del format, args

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", requests
    server.shutdown()
    server.server_close()


def test_nothing_is_fetched_from_the_network(tmp_path: Path, asked: tuple[str, list[str]]) -> None:
    address, requests = asked
    contents = {
        "a.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{address}/a.ts\n#EXT-X-ENDLIST\n",
        "a.ffconcat": f"ffconcat version 1.0\nfile '{address}/a.mp4'\n",
        "a.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\n",
    }
    for name, content in contents.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
        with pytest.raises(VideoError) as caught:
            frames_of(tmp_path / name)
        assert caught.value.code == "FYC-V02"
    assert requests == []

"""Reading videos: times, rotation, damage, and what is no video."""

from __future__ import annotations

import builtins
import itertools
import os
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from asl_clips import make_sound, make_video, noise, regular, shade
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fyc.asl.video.reader import Frame, Video, open_video, orientation, upright
from fyc.errors import VideoError


def read(path: Path) -> tuple[list[Frame], Video]:
    with open_video(path) as video:
        frames = list(video)
    return frames, video


def check_contract(frames: list[Frame]) -> None:
    """What holds for every video, however damaged."""
    assert [frame.index for frame in frames] == list(range(len(frames)))
    assert all(before.time_s < after.time_s for before, after in itertools.pairwise(frames))
    assert all(frame.problem for frame in frames if frame.image is None)
    images = [frame.image for frame in frames if frame.image is not None]
    assert {(image.shape, image.dtype, image.flags.c_contiguous) for image in images} <= {
        (images[0].shape, np.dtype(np.uint8), True)
    }


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mp4", "libx264"), ("a.mov", "libx264"), ("a.mkv", "libx264"), ("a.avi", "mpeg4"), ("a.ts", "mpeg2video")],
)
def test_frames_come_in_order_with_their_times(tmp_path: Path, name: str, codec: str) -> None:
    path = make_video(tmp_path / name, regular(30), codec=codec)
    frames, video = read(path)
    check_contract(frames)
    assert len(frames) == 30
    assert [frame.time_s for frame in frames] == pytest.approx(regular(30), abs=0.0011)
    shades = [float(np.median(frame.image)) for frame in frames if frame.image is not None]
    assert shades == pytest.approx([shade(index) for index in range(30)], abs=4)
    assert {frame.problem for frame in frames} == {""}
    assert video.problem == ""
    info = video.info
    assert (info.width, info.height, info.rotation, info.pixel_aspect) == (64, 48, 0, 1.0)
    assert info.rate == pytest.approx(25)
    assert info.duration_s == pytest.approx(1.2, abs=0.05)
    assert info.codec == {"libx264": "h264"}.get(codec, codec)
    assert info.frames == (30 if name in {"a.mp4", "a.mov", "a.avi"} else None)


def test_variable_rates_keep_the_times_of_the_container(tmp_path: Path) -> None:
    times = [0.0, 0.04, 0.12, 0.1534, 0.5, 0.54, 1.3, 1.34]
    for name in ("a.mp4", "a.mkv"):
        frames, video = read(make_video(tmp_path / name, times))
        assert [frame.time_s for frame in frames] == pytest.approx(times, abs=0.0006)
        assert video.info.variable_rate is (True if name == "a.mp4" else None)
    assert read(make_video(tmp_path / "b.mp4", regular(20)))[1].info.variable_rate is False


def test_the_rate_in_the_header_does_not_matter(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", regular(20), rate=10)
    assert [frame.time_s for frame in read(path)[0]] == pytest.approx(regular(20))


def test_a_first_frame_that_comes_late_keeps_its_time(tmp_path: Path) -> None:
    times = [time + 0.2 for time in regular(10)]
    for name in ("a.mp4", "a.mkv"):
        frames, video = read(make_video(tmp_path / name, times))
        assert [frame.time_s for frame in frames] == pytest.approx(times, abs=0.0006)
        assert video.info.origin_s == 0


def test_a_transport_stream_begins_at_zero(tmp_path: Path) -> None:
    frames, video = read(make_video(tmp_path / "a.ts", [time + 7 for time in regular(10)]))
    assert [frame.time_s for frame in frames] == pytest.approx(regular(10))
    assert video.info.origin_s == pytest.approx(7)


@pytest.mark.parametrize("counterclockwise", [0, 90, 180, 270])
@pytest.mark.parametrize("hflip", [False, True])
def test_rotation_flags_are_honoured(tmp_path: Path, counterclockwise: int, hflip: bool) -> None:
    path = make_video(tmp_path / "a.mp4", regular(3), rotation=counterclockwise, hflip=hflip)
    frames, video = read(path)
    assert video.info.rotation == (360 - counterclockwise) % 360
    assert video.info.mirrored == hflip
    image = frames[1].image
    assert image is not None
    assert image.shape == (video.info.height, video.info.width, 3)
    assert image.shape[:2] == ((64, 48) if counterclockwise in {90, 270} else (48, 64))
    red = (image[..., 0] > 120) & (image[..., 1] < 80)
    corners = {(0, 0): red[:8, :8], (0, 1): red[:8, -8:], (1, 0): red[-8:, :8], (1, 1): red[-8:, -8:]}
    row, column = {0: (0, 0), 90: (1, 0), 180: (1, 1), 270: (0, 1)}[counterclockwise]
    expected = (row, 1 - column) if hflip else (row, column)
    assert {corner for corner, part in corners.items() if part.mean() > 0.5} == {expected}


@given(quarter=st.integers(0, 3), mirrored=st.booleans(), seed=st.integers(0, 9))
def test_a_display_matrix_moves_pixels_as_its_formula_says(quarter: int, mirrored: bool, seed: int) -> None:
    cos, sin = [(1, 0), (0, 1), (-1, 0), (0, -1)][quarter]
    a, b, c, d = cos, sin, -sin, cos
    if mirrored:
        a, c = -a, -c
    matrix = tuple(65536 * value for value in (a, b, 0, c, d, 0, 0, 0, 16384))
    assert orientation(matrix) == (quarter, mirrored)
    pixels = np.random.default_rng(seed).integers(0, 256, (3, 5, 3), np.uint8)
    shown = upright(pixels, quarter, mirrored)
    places = {(q, p): (a * p + c * q, b * p + d * q) for q in range(3) for p in range(5)}
    left, top = (min(place[axis] for place in places.values()) for axis in (0, 1))
    for (q, p), (x, y) in places.items():
        assert (shown[y - top, x - left] == pixels[q, p]).all()


@pytest.mark.parametrize("size", [(160, 120), (3840, 2160)])
def test_small_and_large_frames(tmp_path: Path, size: tuple[int, int]) -> None:
    path = make_video(tmp_path / "a.mp4", regular(2), size=size, codec_options={"preset": "ultrafast"})
    frames, video = read(path)
    assert (video.info.width, video.info.height) == size
    assert len([frame for frame in frames if frame.image is not None]) == 2


@pytest.mark.parametrize("name", ["with space.mp4", "手話 видео é.mp4", "100% #1?.mp4", "file:http:a.mp4"])
def test_names_of_all_kinds(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make_video(tmp_path / "a.mp4", regular(3)).rename(tmp_path / name)
    assert len(read(tmp_path / name)[0]) == 3
    monkeypatch.chdir(tmp_path)
    assert len(read(Path(name))[0]) == 3


def refused(path: Path) -> VideoError:
    with pytest.raises(VideoError) as caught:
        read(path)
    assert caught.value.where == str(path)
    assert caught.value.next
    return caught.value


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path / "missing.mp4").code == "FYC-V01"
    assert refused(tmp_path).code == "FYC-V01"
    os.mkfifo(tmp_path / "pipe.mp4")
    assert refused(tmp_path / "pipe.mp4").code == "FYC-V01"
    contents = {
        "empty.mp4": b"",
        "text.mp4": b"This is a letter.\n" * 50,
        "list.mp4": b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/a.ts\n",
        "zeros.mp4": bytes(5000),
        "random.mp4": np.random.default_rng(0).bytes(5000),
        "ansi.txt": b"\x1b[31mred\n" * 100,
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        assert refused(tmp_path / name).code == "FYC-V02", name
    assert refused(make_sound(tmp_path / "sound.m4a")).code == "FYC-V03"
    still = make_video(tmp_path / "still.jpg", [0.0], codec="mjpeg", container="mjpeg")
    assert refused(still).code == "FYC-V02"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", regular(3))
    path.chmod(0)
    assert refused(path).code == "FYC-V01"


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_video(tmp_path / "a.mp4", regular(3))
    real = builtins.__import__

    def without_av(name: str, *rest: object) -> object:
        if name == "av":
            raise ImportError("No module named 'av'")
        return real(name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without_av)
    error = refused(path)
    assert (error.code, error.next) == ("FYC-M06", "pip install 'fyc[asl]'")


def test_an_mp4_without_its_index_says_so(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", regular(30), draw=noise)
    path.write_bytes(path.read_bytes()[:-2000])
    error = refused(path)
    assert error.code == "FYC-V04"
    assert "moov" in error.why


def damaged_beyond_repair(path: Path) -> bool:
    """Whether no frame can be had, which has an error of its own."""
    try:
        read(path)
    except VideoError as error:
        return error.code in {"FYC-V02", "FYC-V03", "FYC-V04"}
    return False


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_a_cut_file_gives_what_there_is_and_says_that_it_ends(tmp_path: Path, name: str) -> None:
    options = {"movflags": "faststart"} if name == "a.mp4" else {}
    whole = make_video(tmp_path / name, regular(60), draw=noise, options=options)
    content = whole.read_bytes()
    assert len(read(whole)[0]) == 60
    last = 0
    for length in range(3000, len(content) - 2500, 3000):
        cut = tmp_path / f"cut-{name}"
        cut.write_bytes(content[:length])
        if length < 12_000 and damaged_beyond_repair(cut):
            continue
        frames, video = read(cut)
        check_contract(frames)
        assert len(frames) <= 61
        sound = [frame for frame in frames if not frame.problem]
        assert len(sound) >= last
        last = len(sound)
        assert frames[-1].image is None
        assert frames[-1].problem.startswith("the file ends early")
        assert frames[-1].problem in video.problem
        assert {round(25 * frame.time_s, 1) for frame in sound} <= set(range(60))
    assert last > 40


def test_a_damaged_stretch_costs_only_its_frames(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", regular(40), codec="mjpeg", draw=noise)
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 4000] = bytes(4000)
    path.write_bytes(content)
    frames, _ = read(path)
    check_contract(frames)
    assert [frame.time_s for frame in frames] == pytest.approx(regular(40))
    troubled = [frame.index for frame in frames if frame.problem]
    assert 1 <= len(troubled) <= 6
    assert troubled == list(range(troubled[0], troubled[-1] + 1))


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("clips")
    kinds = {"a.mp4": "libx264", "a.mkv": "libx264", "a.avi": "mpeg4", "a.ts": "mpeg2video"}
    return {n: make_video(folder / n, regular(12), codec=c, draw=noise).read_bytes() for n, c in kinds.items()}


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_flipped_bytes_never_hang_or_break_the_contract(
    tmp_path: Path, clips: dict[str, bytes], data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(sorted(clips)))
    content = bytearray(clips[name])
    for _ in range(data.draw(st.integers(1, 12))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / f"flipped-{name}"
    path.write_bytes(content)
    if damaged_beyond_repair(path):
        return
    frames, _ = read(path)
    check_contract(frames)
    assert len(frames) < 200


def test_a_video_is_read_once(tmp_path: Path) -> None:
    with open_video(make_video(tmp_path / "a.mp4", regular(3))) as video:
        list(video)
        with pytest.raises(RuntimeError, match="open it again"):
            list(video)
    video.close()


_GROWTH = """
import sys
from fyc.asl.video.reader import open_video
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
with open_video(sys.argv[1]) as video:
    for frame in video:
        if frame.index == 300:
            start = resident()
print(frame.index, resident() - start)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
def test_memory_does_not_grow_with_the_length(tmp_path: Path) -> None:
    path = make_video(tmp_path / "long.mp4", regular(3000), codec_options={"preset": "ultrafast"})
    done = subprocess.run(
        [sys.executable, "-c", _GROWTH, str(path)], capture_output=True, text=True, check=True, timeout=120
    )
    last, growth = map(int, done.stdout.split())
    assert last == 2999
    assert growth < 4_000_000  # 2700 frames of 9 kB would be 24 MB
    assert resource.getpagesize() == 4096

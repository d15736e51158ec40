"""Writing the overlay video: times, sizes, and nothing half written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from asl_clips import picture, regular, shade
from numpy.typing import NDArray

from fyc.asl.video.reader import open_video
from fyc.asl.video.writer import write_video
from fyc.errors import VideoError


def write(path: Path, times: list[float | None], size: tuple[int, int] = (64, 48), rate: float = 25.0) -> Path:
    with write_video(path, size, rate) as video:
        for index, time in enumerate(times):
            video.add(picture(index, size), time)
        assert video.frames == len(times)
    return path


@pytest.mark.parametrize("times", [regular(30), [0.0, 0.04, 0.3, 0.3334, 1.1, 2.0], [0.2, 0.24, 0.28], [1.5]])
def test_times_are_kept(tmp_path: Path, times: list[float]) -> None:
    path = write(tmp_path / "手話 out.mp4", list(times))
    assert [file.name for file in tmp_path.iterdir()] == ["手話 out.mp4"]
    with open_video(path) as video:
        frames = list(video)
    assert [frame.time_s for frame in frames] == pytest.approx(times, abs=1e-5)
    assert [frame.problem for frame in frames] == [""] * len(times)
    shades = [float(np.median(frame.image)) for frame in frames if frame.image is not None]
    assert shades == pytest.approx([shade(index) for index in range(len(times))], abs=4)
    assert video.info.duration_s == pytest.approx(times[-1] - times[0] + 0.04, abs=0.001)


def test_frames_without_times_follow_at_the_rate(tmp_path: Path) -> None:
    with open_video(write(tmp_path / "a.mp4", [None] * 6, rate=30000 / 1001)) as video:
        assert [frame.time_s for frame in video] == pytest.approx(
            [index * 1001 / 30000 for index in range(6)], abs=2e-5
        )


def test_browsers_can_play_it(tmp_path: Path) -> None:
    """H.264 in 8 bits and 4:2:0, with the index in front of the pictures."""
    path = write(tmp_path / "a.mp4", list(regular(5)))
    with av.open(str(path)) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


@pytest.mark.parametrize(("size", "written"), [((63, 48), (64, 48)), ((64, 47), (64, 48)), ((33, 31), (34, 32))])
def test_odd_sizes_get_one_more_pixel(tmp_path: Path, size: tuple[int, int], written: tuple[int, int]) -> None:
    with open_video(write(tmp_path / "a.mp4", [0.0, 0.04], size)) as video:
        assert (video.info.width, video.info.height) == written
        for frame in video:
            assert frame.image is not None
            assert frame.image[-1, -1].astype(int) == pytest.approx([shade(frame.index)] * 3, abs=6)


def interrupted(path: Path) -> None:
    with write_video(path, (64, 48)) as video:
        video.add(picture(0))
        raise ZeroDivisionError


def test_an_error_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"old")
    with pytest.raises(ZeroDivisionError):
        interrupted(path)
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["a.mp4"]


def add_all(path: Path, frames: list[tuple[NDArray[Any], float]]) -> None:
    with write_video(path, (64, 48)) as video:
        for image, time in frames:
            video.add(image, time)


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    cases: list[list[tuple[NDArray[Any], float]]] = [
        [(np.zeros((48, 64), np.uint8), 0.0)],
        [(np.zeros((48, 65, 3), np.uint8), 0.0)],
        [(np.zeros((48, 64, 3), np.float32), 0.0)],
        [(picture(0), -0.1)],
        [(picture(0), 0.4), (picture(1), 0.4)],
        [],
    ]
    for case in cases:
        with pytest.raises(VideoError) as caught:
            add_all(tmp_path / "a.mp4", case)
        assert caught.value.code == "FYC-V05"
        assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(VideoError) as caught, write_video(tmp_path / "no" / "a.mp4", (64, 48)):
        pass
    assert caught.value.code == "FYC-V05"
    assert "No such file" in caught.value.why


_FULL = """
import resource, sys
import numpy as np
from fyc.asl.video.writer import write_video
from fyc.errors import ResourceError
if limit := int(sys.argv[2]):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
random = np.random.default_rng(0)
try:
    with write_video(sys.argv[1], (64, 48)) as video:
        for _ in range(100):
            video.add(random.integers(0, 256, (48, 64, 3), np.uint8))
except ResourceError as error:
    print(error.code)
"""


def test_a_full_disk_leaves_nothing(tmp_path: Path) -> None:
    """The limit of the process on file sizes stands for the full disk: both end a write in the same way."""
    path = tmp_path / "a.mp4"

    def run(limit: int) -> str:
        command = [sys.executable, "-c", _FULL, str(path), str(limit)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert run(0) == ""
    size = path.stat().st_size
    path.unlink()
    for limit in (1, size // 2, size - 1):  # at the first frame, within, and when the index is moved to the front
        assert run(limit) == "FYC-S01\n"
        assert not list(tmp_path.iterdir())

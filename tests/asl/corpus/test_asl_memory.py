"""Memory of a run does not grow with the video, but for the table and what a signer is learned from."""

from __future__ import annotations

import resource
from itertools import islice
from pathlib import Path

import av
import pytest

from fyc.asl.analysis import Analyst
from fyc.asl.face.bundle import Bundle
from fyc.asl.run import Results, run_video
from fyc.asl.video.writer import write_video
from fyc.plugins import load_plugins

pytestmark = [
    pytest.mark.assets,
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="NO /proc HERE: memory is not measured"),
]
SIZE = (160, 128)
#: Bytes a frame that are allowed; a picture has 61440, the landmarks of a frame have 3744.
MOST = 2500


def rss() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def test_memory_is_flat(talking: Path, face_bundle: Bundle, tmp_path: Path) -> None:
    video = tmp_path / "long.mp4"
    with av.open(str(talking)) as container, write_video(video, SIZE, 24.0) as writer:
        for frame in islice(container.decode(video=0), 1500):
            writer.add(frame.reformat(*SIZE).to_ndarray(format="rgb24"))
    measured: dict[tuple[str, int], int] = {}

    def tell(stage: str, done: int, total: int | None) -> None:
        if done in {500, 1500}:
            measured[stage, done] = rss()

    run_video(video, Results.in_folder(tmp_path / "out", "long"), Analyst(face_bundle, load_plugins()), progress=tell)
    assert (tmp_path / "out" / "long.track.safetensors").stat().st_size > 1500 * MOST  # it is written, not held
    for stage in {stage for stage, _ in measured}:
        growth = (measured[stage, 1500] - measured[stage, 500]) / 1000
        assert growth < MOST, f"{stage}: {growth:.0f} bytes a frame"

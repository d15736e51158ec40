"""Two readings of a video: what if they differ?"""

from __future__ import annotations

import shutil
from pathlib import Path

import av
import pytest

from fyc.asl.analysis import Analyst
from fyc.asl.face.bundle import Bundle
from fyc.asl.signer import FaceMeasures
from fyc.asl.tracking.track_file import write_track
from fyc.asl.video.reader import Frame
from fyc.asl.video.writer import write_video
from fyc.errors import VideoError
from fyc.plugins import load_plugins

pytestmark = pytest.mark.assets


@pytest.fixture(scope="module")
def films(talking: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A real face for twelve frames, and for nine."""
    folder = tmp_path_factory.mktemp("films")
    with av.open(str(talking)) as container:
        frames = [f.to_ndarray(format="rgb24") for f, _ in zip(container.decode(video=0), range(12), strict=False)]
    paths = folder / "long.mp4", folder / "short.mp4"
    for path, count in zip(paths, (12, 9), strict=True):
        height, width = frames[0].shape[:2]
        with write_video(path, (width, height), 25.0) as writer:
            for frame in frames[:count]:
                writer.add(frame)
    return paths


def test_a_video_that_changes_while_it_is_read(films: tuple[Path, Path], face_bundle: Bundle, tmp_path: Path) -> None:
    video = Path(shutil.copy(films[0], tmp_path / "a.mp4"))
    analyst = Analyst(face_bundle, load_plugins())
    target = tmp_path / "a.track"
    with pytest.raises(VideoError) as caught, write_track(target, {}) as track:  # noqa: PT012 - the track ends with it
        followed = analyst.follow(video, track, lambda *_: None)
        signer = analyst.learn(followed)
        shutil.copy(films[1], video)
        analyst.measure(followed, signer, track, lambda *_: None)
    assert caught.value.code == "FYC-V07"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4"]


def test_every_frame_is_watched_once(films: tuple[Path, Path], face_bundle: Bundle, tmp_path: Path) -> None:
    watched: list[tuple[int, bool]] = []

    def watch(frame: Frame, measured: FaceMeasures | None) -> None:
        watched.append((frame.index, measured is not None))

    with write_track(tmp_path / "a.track", {}) as track:
        analysis = Analyst(face_bundle, load_plugins()).analyse(films[0], track, None, watch)
    assert watched == [(number, True) for number in range(12)]
    assert len(analysis.measures) == 12

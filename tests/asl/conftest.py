"""What the tests of `fyc asl` share: networks, mesh and a real clip, fetched by the first test that needs them."""

from __future__ import annotations

import shutil
from itertools import islice
from pathlib import Path

import av
import numpy as np
import pytest

from fyc.asl.face.bundle import Bundle, load_bundle
from fyc.asl.video.writer import write_video
from fyc.assets import fetch


def fetched(name: str) -> Path:
    """An asset's file; the rest of the tests stays off the network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("HF_HUB_OFFLINE", raising=False)
        return fetch(name)


@pytest.fixture(scope="session")
def landmarker_file() -> Path:
    """The bundle of networks and mesh, as published."""
    return fetched("face-landmarker")


@pytest.fixture(scope="session")
def face_bundle(landmarker_file: Path) -> Bundle:
    """The networks and the mesh."""
    return load_bundle(landmarker_file)


@pytest.fixture(scope="session")
def talking() -> Path:
    """A clip of a real man who talks: 4800 frames, 360x288."""
    if shutil.which("npm") is None:
        pytest.skip("npm is NOT INSTALLED: nothing is tested on real video")
    return fetched("face-talking")


@pytest.fixture(scope="session")
def talking_frames(talking: Path) -> list[np.ndarray]:
    """The first ten frames of that clip, (288, 360, 3) RGB."""
    with av.open(str(talking)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in islice(container.decode(video=0), 10)]


@pytest.fixture(scope="session")
def talking_clip(
    talking_frames: list[np.ndarray], landmarker_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Those ten frames as a video."""
    path = tmp_path_factory.mktemp("clip") / "talking 手.mp4"
    with write_video(path, (360, 288), 24.0) as writer:
        for frame in talking_frames:
            writer.add(frame)
    return path

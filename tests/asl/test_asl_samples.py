"""Which faces of a video are kept to learn the signer from."""

from __future__ import annotations

import numpy as np
import pytest

from fyc.asl.face.bundle import Bundle
from fyc.asl.face.camera import Camera
from fyc.asl.face.mesh import POINTS
from fyc.asl.samples import PATCH, SAMPLES, FaceSample, Sampler
from fyc.asl.tracking.ensemble import TrackedFrame

pytestmark = pytest.mark.assets

CAMERA = Camera.for_picture(160, 120)
IMAGE = np.zeros((120, 160, 3), np.uint8)


@pytest.fixture(scope="module")
def points(face_bundle: Bundle) -> np.ndarray:
    return CAMERA.project(face_bundle.mesh.vertices - (0, 0, 60)).astype(np.float32)


def tracked(points: np.ndarray | None, number: int = 0, *, confidence: float = 0.9, covered: int = 0) -> TrackedFrame:
    occluded = np.arange(POINTS) < covered
    depths = None if points is None else np.full(POINTS, number, np.float32)
    return TrackedFrame(number, points, depths, "", None, confidence, occluded, True, "network", None, False, 1, None)


@pytest.mark.parametrize("frames", [10, 2 * SAMPLES, 2 * SAMPLES + 1, 1000])
def test_a_video_of_any_length_is_sampled_evenly(points: np.ndarray, frames: int) -> None:
    sampler = Sampler()
    for number in range(frames):
        sampler.add(IMAGE, tracked(points, number), CAMERA)
    kept = [int(sample.depths[0]) for sample in sampler.samples if sample.depths is not None]
    assert min(frames, SAMPLES) <= len(kept) <= 2 * SAMPLES
    assert kept[0] == 0
    assert len(set(np.diff(kept))) == 1
    assert kept[-1] >= frames - kept[1]


def test_doubtful_and_covered_faces_are_left_out(points: np.ndarray) -> None:
    sampler = Sampler()
    sampler.add(IMAGE, tracked(None), CAMERA)
    sampler.add(IMAGE, tracked(points, confidence=0.3), CAMERA)
    sampler.add(IMAGE, tracked(points, covered=POINTS // 2), CAMERA)
    assert sampler.samples == []
    sampler.add(IMAGE, tracked(points, covered=30), CAMERA)
    (sample,) = sampler.samples
    assert np.isnan(sample.points[:30]).all()
    assert np.array_equal(sample.points[30:], points[30:])


def test_the_patch_shows_the_face(points: np.ndarray) -> None:
    """What lies at a landmark of the picture lies there in the patch, too."""
    x, y = points[1].round().astype(int)
    image = IMAGE.copy()
    image[y - 1 : y + 2, x - 1 : x + 2] = 255
    sample = FaceSample.cut(image, points, None, CAMERA)
    row, column = np.unravel_index(int(sample.patch.argmax()), sample.patch.shape)
    expected = sample.to_patch @ (x, y, 1)
    assert sample.patch.shape == (PATCH, PATCH)
    assert np.hypot(column - expected[0], row - expected[1]) < 6

"""A pose is moved to where the picture looks right."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from fyc.asl.face.bundle import Bundle
from fyc.asl.face.camera import Camera, rotation_of
from fyc.asl.face.pose import Pose
from fyc.asl.tracking.alignment import align
from fyc.asl.tracking.appearance import CELLS, AppearanceModel

CAMERA = Camera.for_picture(640, 480)


def posed(*angles: float, at: tuple[float, float, float] = (0, 0, -50)) -> Pose:
    return Pose(rotation_of(*angles), np.array(at, float), np.ones(468), 0.0)


@pytest.fixture(scope="module")
def grey() -> np.ndarray:
    rng = np.random.default_rng(0)
    layers = [cv2.resize(rng.normal(0, 40, (480 // s, 640 // s)), (640, 480)) for s in (16, 40)]
    return np.clip(128 + sum(layers), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("cover", [False, True])
def test_an_offset_shrinks(face_bundle: Bundle, grey: np.ndarray, cover: bool) -> None:
    shape, looks = face_bundle.mesh.vertices, AppearanceModel(face_bundle.mesh)
    truth = posed(0, 0, 0)
    points = CAMERA.project(truth.place(shape))
    looks.learn(looks.see(grey, points, 0))
    covered = np.zeros((CELLS, CELLS), bool)
    picture = grey.copy()
    if cover:
        covered[:, CELLS // 2 :] = True
        picture[:, 320:] = 90
    start = posed(3, -2, 2, at=(0.25, -0.2, -50))
    there, pose = CAMERA.project(start.place(shape)).astype(np.float32), start
    off = [np.linalg.norm(there - points, axis=1)[shape[:, 0] < 0].mean()]
    for _ in range(3):
        found = align(looks, picture, there, shape, pose, CAMERA, covered)
        assert found is not None
        there, pose = found
        off.append(np.linalg.norm(there - points, axis=1)[shape[:, 0] < 0].mean())
    assert off[1] < 0.75 * off[0]
    assert off[3] < 0.35 * off[0]
    assert np.allclose(CAMERA.project(pose.place(shape)), there, atol=0.01)


def test_a_face_that_is_covered_guides_nothing(face_bundle: Bundle, grey: np.ndarray) -> None:
    looks, pose = AppearanceModel(face_bundle.mesh), posed(0, 0, 0)
    points = CAMERA.project(pose.place(face_bundle.mesh.vertices)).astype(np.float32)
    looks.learn(looks.see(grey, points, 0))
    everything = np.ones((CELLS, CELLS), bool)
    assert align(looks, grey, points, face_bundle.mesh.vertices, pose, CAMERA, everything) is None

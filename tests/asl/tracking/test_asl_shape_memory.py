"""The shape of a face as it was last seen."""

from __future__ import annotations

import numpy as np
import pytest

from fyc.asl.face.bundle import Bundle
from fyc.asl.face.camera import Camera, rotation_of
from fyc.asl.face.deformation import load_basis
from fyc.asl.face.pose import Pose
from fyc.asl.tracking.shape_memory import ShapeMemory

CAMERA = Camera.for_picture(640, 480)
NONE = np.zeros(468, bool)


def posed(*angles: float) -> Pose:
    return Pose(rotation_of(*angles), np.array([1, 0, -55.0]), np.ones(468), 0.0)


@pytest.fixture
def memory(face_bundle: Bundle) -> ShapeMemory:
    return ShapeMemory(face_bundle.mesh.vertices, load_basis().rigidity())


def test_a_shape_is_learned_and_shown_from_elsewhere(memory: ShapeMemory, face_bundle: Bundle) -> None:
    face = face_bundle.mesh.vertices + 2 * load_basis().expressions[0] * (1, 1, 0)
    for _ in range(30):
        memory.learn(CAMERA.project(posed(0, 0, 0).place(face)), ~NONE, posed(0, 0, 0), CAMERA)
    blind = np.full((468, 2), np.nan)
    truth = CAMERA.project(posed(25, 5, 0).place(face))
    learned = np.abs(memory.complete(blind, NONE, posed(25, 5, 0), CAMERA) - truth).max()
    memory.forget()
    canonical = np.abs(memory.complete(blind, NONE, posed(25, 5, 0), CAMERA) - truth).max()
    assert learned < 0.2 * canonical


def test_covered_landmarks_are_not_learned(memory: ShapeMemory, face_bundle: Bundle) -> None:
    pose, left = posed(0, 0, 0), face_bundle.mesh.vertices[:, 0] > 0
    memory.learn(CAMERA.project(pose.place(face_bundle.mesh.vertices + np.array([0, 0.5, 0]))), ~left, pose, CAMERA)
    moved = memory.shape[:, 1] - face_bundle.mesh.vertices[:, 1]
    assert moved[~left].min() > 0.1
    assert np.abs(moved[left]).max() == 0


def test_what_is_missing_follows_its_neighbours(memory: ShapeMemory, face_bundle: Bundle) -> None:
    pose = posed(10, 0, 0)
    truth = CAMERA.project(pose.place(face_bundle.mesh.vertices)) + np.array([4, -3])
    points = truth.copy()
    points[np.arange(468) % 3 > 0] = np.nan
    whole = memory.complete(points, NONE, pose, CAMERA)
    assert np.array_equal(whole[::3], truth[::3].astype(np.float32))
    assert np.linalg.norm(whole - truth, axis=1).mean() < 1
    far = face_bundle.mesh.vertices[:, 0] > 1
    guessed = memory.complete(truth, far, pose, CAMERA)
    edge = face_bundle.mesh.vertices[:, 0] > 6
    assert np.allclose(guessed[edge], truth[edge] - (4, -3), atol=0.6)


def test_the_pose_of_a_face_that_is_half_covered(memory: ShapeMemory, face_bundle: Bundle) -> None:
    truth, covered = posed(20, -5, 10), face_bundle.mesh.vertices[:, 0] > 0
    points = CAMERA.project(truth.place(face_bundle.mesh.vertices))
    points[covered] += (15, 15)
    for start in (None, posed(15, 0, 5)):
        found = memory.pose(points, covered, CAMERA, start)
        assert found is not None
        assert found.angles == pytest.approx((20, -5, 10), abs=0.1)
    assert memory.pose(np.full((468, 2), np.nan), covered, CAMERA, None) is None

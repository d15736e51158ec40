"""The pose of a head, against poses that are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fyc.asl.face.bundle import Bundle
from fyc.asl.face.camera import Camera, angles_of, rotation_of
from fyc.asl.face.mesh import FaceMesh
from fyc.asl.face.pose import fit_pose

pytestmark = pytest.mark.assets

ones = np.ones(468)
angle = st.floats(-50, 50)
seeds = st.integers(0, 2**32 - 1)


@pytest.fixture(scope="module")
def mesh(face_bundle: Bundle) -> FaceMesh:
    return face_bundle.mesh


def degrees_between(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.degrees(np.arccos(np.clip((np.trace(a.T @ b) - 1) / 2, -1, 1))))


@given(angle, angle, angle, st.floats(-15, 15), st.floats(-10, 10), st.floats(-150, -35), st.floats(25, 80))
def test_exact_landmarks_give_the_exact_pose(
    mesh: FaceMesh, yaw: float, pitch: float, roll: float, x: float, y: float, z: float, view: float
) -> None:
    camera = Camera.for_picture(640, 480, view)
    rotation, translation = rotation_of(yaw, pitch, roll), np.array([x, y, z])
    pose = fit_pose(camera.project(mesh.vertices @ rotation.T + translation), mesh.vertices, ones, camera)
    assert degrees_between(pose.rotation, rotation) < 1e-3
    assert np.allclose(pose.translation, translation, atol=1e-3)
    assert np.allclose(pose.angles, (yaw, pitch, roll), atol=1e-2)
    assert pose.error < 1e-5
    assert pose.trust.min() > 0.99


@given(seeds)
@settings(max_examples=30)
def test_a_third_of_the_landmarks_on_a_hand(mesh: FaceMesh, seed: int) -> None:
    """Landmarks of one side of the face go astray together; the others are jittered."""
    rng = np.random.default_rng(seed)
    camera = Camera.for_picture(640, 480)
    rotation = rotation_of(*rng.uniform(-25, 25, 3))
    pixels = camera.project(mesh.vertices @ rotation.T + (0, 0, -50)) + rng.normal(0, 0.5, (468, 2))
    astray = np.argsort(mesh.vertices @ rng.normal(size=3))[: 468 // 3]
    pixels[astray] += rng.uniform(20, 40, 2) + rng.normal(0, 8, (len(astray), 2))
    pose = fit_pose(pixels, mesh.vertices, ones, camera)
    assert degrees_between(pose.rotation, rotation) < 0.5
    fitting = np.setdiff1d(np.arange(468), astray)
    assert np.median(pose.trust[fitting]) > 0.6
    assert np.median(pose.trust[astray]) < 0.05


@given(seeds)
@settings(max_examples=20)
def test_few_landmarks_and_unknown_ones(mesh: FaceMesh, seed: int) -> None:
    rng = np.random.default_rng(seed)
    camera = Camera.for_picture(640, 480)
    rotation = rotation_of(*rng.uniform(-25, 25, 3))
    pixels = camera.project(mesh.vertices @ rotation.T + (3, 2, -60))
    pixels[rng.permutation(468)[40:]] = np.nan
    pose = fit_pose(pixels, mesh.vertices, ones, camera)
    assert degrees_between(pose.rotation, rotation) < 0.01
    assert (pose.trust > 0).sum() == 40


@given(angle, angle, angle, st.floats(-20, 20), st.floats(-15, 15))
@settings(max_examples=30)
def test_depths_say_the_same_where_they_are_exact(
    mesh: FaceMesh, yaw: float, pitch: float, roll: float, x: float, y: float
) -> None:
    """A face that is far away, seen from its own line of sight as a network sees it."""
    camera = Camera.for_picture(640, 480, 5)
    rotation, translation = rotation_of(yaw, pitch, roll), np.array([x, y, -600.0])
    placed = mesh.vertices @ rotation.T + translation
    pixels = camera.project(placed)
    ray = translation / np.linalg.norm(translation)
    depths = (placed - translation) @ ray * camera.focal / 600
    pose = fit_pose(pixels, mesh.vertices, ones, camera, depths=depths)
    assert degrees_between(pose.rotation, rotation) < 0.3
    assert np.allclose(pose.translation, translation, atol=5)


def test_depths_count_for_a_half(mesh: FaceMesh) -> None:
    """Pixels that say one pitch and depths that say another: half way between."""
    camera = Camera.for_picture(640, 480, 5)
    place = np.array([0, 0, -600.0])
    pixels = camera.project(mesh.vertices @ rotation_of(0, 0, 0).T + place)
    depths = -(mesh.vertices @ rotation_of(0, 10, 0).T)[:, 2] * camera.focal / 600
    pitch = fit_pose(pixels, mesh.vertices, ones, camera, depths=depths).angles[1]
    only_depths = fit_pose(
        camera.project(mesh.vertices @ rotation_of(0, 10, 0).T + place), mesh.vertices, ones, camera, depths=depths
    ).angles[1]
    assert 0.5 < pitch < only_depths
    assert np.isclose(only_depths, 10, atol=0.3)


def test_a_start_close_by_ends_in_the_same_pose(mesh: FaceMesh) -> None:
    rng = np.random.default_rng(0)
    camera = Camera.for_picture(640, 480)
    pixels = camera.project(mesh.vertices @ rotation_of(10, 5, 3).T + (3, 2, -60)) + rng.normal(0, 1, (468, 2))
    alone = fit_pose(pixels, mesh.vertices, ones, camera)
    before = fit_pose(pixels + 3, mesh.vertices, ones, camera)
    started = fit_pose(pixels, mesh.vertices, ones, camera, before)
    assert degrees_between(alone.rotation, started.rotation) < 0.05


def test_landmarks_without_weight_do_not_count(mesh: FaceMesh) -> None:
    camera = Camera.for_picture(640, 480)
    pixels = camera.project(mesh.vertices @ rotation_of(10, 5, 3).T + (3, 2, -60))
    weights = ones.copy()
    weights[:200] = 0
    pixels[:200] += 30
    pose = fit_pose(pixels, mesh.vertices, weights, camera)
    assert np.allclose(angles_of(pose.rotation), (10, 5, 3), atol=1e-3)


def test_five_landmarks_are_too_few(mesh: FaceMesh) -> None:
    pixels = np.full((468, 2), np.nan)
    pixels[:5] = 1
    with pytest.raises(ValueError, match="six landmarks, there are 5"):
        fit_pose(pixels, mesh.vertices, ones, Camera.for_picture(640, 480))

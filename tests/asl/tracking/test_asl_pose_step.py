"""Refining a pose from frame to frame, beside the full fit."""

from __future__ import annotations

import numpy as np
import pytest

from fyc.asl.face.bundle import Bundle
from fyc.asl.face.camera import Camera, angles_of, rotation_of
from fyc.asl.face.deformation import load_basis
from fyc.asl.face.pose import Pose, fit_pose
from fyc.asl.tracking.pose_step import refine_pose

CAMERA = Camera.for_picture(640, 480)


def posed(*angles: float, at: tuple[float, float, float] = (3, -2, -60)) -> Pose:
    return Pose(rotation_of(*angles), np.array(at, float), np.ones(468), 0.0)


@pytest.mark.parametrize("angles", [(0, 0, 0), (40, -15, 20), (-60, 10, -25)])
def test_it_goes_where_the_landmarks_are(face_bundle: Bundle, angles: tuple[float, float, float]) -> None:
    mesh, weights = face_bundle.mesh, load_basis().rigidity()
    truth = posed(*angles)
    pixels = CAMERA.project(truth.place(mesh.vertices))
    start = posed(angles[0] + 8, angles[1] - 5, angles[2] + 6, at=(1, -1, -65))
    found = refine_pose(pixels, mesh.vertices, weights, CAMERA, start)
    assert found.angles == pytest.approx(angles, abs=0.05)
    assert found.translation == pytest.approx(truth.translation, abs=0.1)
    assert found.error < 1e-3


def test_it_agrees_with_the_full_fit_when_a_third_is_wrong(face_bundle: Bundle) -> None:
    mesh, weights = face_bundle.mesh, load_basis().rigidity()
    rng = np.random.default_rng(0)
    truth = posed(20, 10, -10)
    pixels = CAMERA.project(truth.place(mesh.vertices)) + rng.normal(0, 0.7, (468, 2))
    wrong = mesh.vertices[:, 0] > 3
    pixels[wrong] += (12, 20)
    pixels[::7] = np.nan
    start = posed(17, 12, -9)
    quick = refine_pose(pixels, mesh.vertices, weights, CAMERA, start)
    full = fit_pose(pixels, mesh.vertices, weights, CAMERA, start)
    assert quick.angles == pytest.approx(full.angles, abs=0.3)
    assert quick.angles == pytest.approx(angles_of(truth.rotation), abs=1.0)
    assert quick.trust[wrong].max() < 0.05
    assert quick.trust[::7].max() == 0


def test_five_landmarks_are_too_few(face_bundle: Bundle) -> None:
    pixels = np.full((468, 2), np.nan)
    pixels[:5] = 100
    with pytest.raises(ValueError, match="there are 5"):
        refine_pose(pixels, face_bundle.mesh.vertices, np.ones(468), CAMERA, posed(0, 0, 0))

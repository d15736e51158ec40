"""The sparse shape prior: its solver against a plain one, and what it marks as wrong."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fyc.asl.face.bundle import Bundle
from fyc.asl.face.camera import Camera, rotation_of
from fyc.asl.face.deformation import load_basis
from fyc.asl.face.pose import Pose
from fyc.asl.tracking.shape_prior import L1, L2, ShapePrior, sparse_fit

CAMERA = Camera.for_picture(640, 480)
#: Vertices in the middle of the right and the left cheek.
_CHEEKS = (205, 425)


def plain_solution(r: np.ndarray, shape: np.ndarray, d: np.ndarray, l1: float, l2: float) -> float:
    """The least value, by very many plain proximal steps on all unknowns at once, e among them."""
    x, y = shape.T
    zero, one = np.zeros_like(x), np.ones_like(x)
    g = np.stack([np.stack(pair, 1).ravel() for pair in ((x, y), (-y, x), (one, zero), (zero, one))], 1)
    g = g / np.linalg.norm(g, axis=0)
    whole = np.concatenate([d, g, np.eye(len(d))], axis=1)
    weights = np.concatenate([np.full(d.shape[1], l1), np.zeros(4), np.full(len(d), l2)])
    step = 0.5 / np.linalg.eigvalsh(whole.T @ whole)[-1]
    values = np.zeros(whole.shape[1])
    for _ in range(20_000):
        values = values - 2 * step * whole.T @ (whole @ values - r.ravel())
        values = np.sign(values) * np.maximum(np.abs(values) - step * weights, 0)
    return float(((whole @ values - r.ravel()) ** 2).sum() + (weights * np.abs(values)).sum())


@settings(max_examples=5, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.05, 1), st.floats(0.2, 1))
def test_the_solver_reaches_what_a_plain_one_reaches(seed: int, l1: float, l2: float) -> None:
    rng = np.random.default_rng(seed)
    shape, d, r = rng.normal(size=(12, 2)), rng.normal(size=(24, 5)), rng.normal(size=(12, 2))
    r[:3] += rng.normal(size=(3, 2)) * 4
    shape -= shape.mean(axis=0)
    found = sparse_fit(r, shape, d, l1, l2, steps=3000)
    best = plain_solution(r, shape, d, l1, l2)
    assert 0.99 * best <= found.objective <= best * (1 + 1e-4)  # the plain one is slow to get there
    assert sparse_fit(r, shape, d, l1, l2).objective == pytest.approx(best, rel=0.1)


def test_what_exemplars_and_similarities_explain_is_no_error() -> None:
    rng = np.random.default_rng(0)
    shape, d = rng.normal(size=(20, 2)), rng.normal(size=(40, 4))
    shape -= shape.mean(axis=0)
    turned = shape @ np.array([[1.02, 0.05], [-0.05, 1.02]]) + (3, -2) - shape
    r = turned + (d @ [0.5, 0, 0, -0.3]).reshape(-1, 2)
    r[4] += (3, 0)
    fit = sparse_fit(r, shape, d, 1e-3, 0.4, steps=4000)
    assert np.flatnonzero(np.abs(fit.errors).sum(axis=1) > 0.05).tolist() == [4]
    assert fit.errors[4, 0] == pytest.approx(3, abs=0.5)
    assert fit.coefficients == pytest.approx([0.5, 0, 0, -0.3], abs=0.05)
    assert fit.similarity == pytest.approx([0.02, 0.05, 3, -2], abs=0.1)


@pytest.mark.parametrize("angles", [(0, 0, 0), (35, -10, 15), (-50, 15, 0)])
def test_dragged_landmarks_are_wrong_and_expressions_are_not(
    face_bundle: Bundle, angles: tuple[float, float, float]
) -> None:
    mesh, basis = face_bundle.mesh, load_basis()
    prior = ShapePrior(mesh, basis)
    pose = Pose(rotation_of(*angles), np.array([0, 0, -60.0]), np.ones(468), 0.0)
    face = mesh.vertices + 1.2 * basis.expressions[0] - basis.persons[1]
    points = CAMERA.project(pose.place(face))
    whole = prior.fit(points, mesh.vertices, pose, CAMERA)
    assert (whole.wrong > 0.1).mean() < 0.03
    dragged = np.linalg.norm(mesh.vertices - mesh.vertices[_CHEEKS[angles[0] > 0]], axis=1) < 3
    points[dragged] += (4, 30)
    fit = prior.fit(points, mesh.vertices, pose, CAMERA)
    assert fit.energy > 3 * whole.energy
    assert (fit.wrong > 0.1)[dragged].mean() > 0.6
    assert (fit.wrong > 0.1)[~dragged].mean() < 0.15
    modes = np.concatenate([basis.persons, basis.expressions])[:, prior.landmarks, :2].reshape(26, -1).T
    r = (points - CAMERA.project(pose.place(mesh.vertices)))[prior.landmarks] / 11
    shape = mesh.vertices[prior.landmarks, :2]
    few, many = (sparse_fit(r, shape, modes, L1, L2, steps=steps) for steps in (40, 4000))
    assert few.objective == pytest.approx(many.objective, rel=0.03)


def test_landmarks_are_spread_over_the_face(face_bundle: Bundle) -> None:
    prior = ShapePrior(face_bundle.mesh, load_basis())
    assert len(set(prior.landmarks.tolist())) == 64
    away = np.linalg.norm(face_bundle.mesh.vertices[:, None] - face_bundle.mesh.vertices[prior.landmarks], axis=2)
    assert away.min(axis=1).max() < 2.5

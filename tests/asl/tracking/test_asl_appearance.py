"""How a face looks: what matches, what is covered, and what is not learned."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from fyc.asl.face.bundle import Bundle
from fyc.asl.face.camera import Camera, rotation_of
from fyc.asl.tracking.appearance import SIZE, AppearanceModel

CAMERA = Camera.for_picture(640, 480)


def points_of(bundle: Bundle, yaw: float = 0, shift: float = 0) -> np.ndarray:
    return CAMERA.project(bundle.mesh.vertices @ rotation_of(yaw, 0, 0).T + (shift, 0, -50))


def texture(seed: int = 0) -> np.ndarray:
    """A picture with detail of all sizes."""
    rng = np.random.default_rng(seed)
    layers = [cv2.resize(rng.normal(0, 40, (480 // s, 640 // s)), (640, 480)) for s in (8, 20, 60)]
    return np.clip(128 + sum(layers), 0, 255).astype(np.uint8)


@pytest.fixture
def looks(face_bundle: Bundle) -> AppearanceModel:
    model = AppearanceModel(face_bundle.mesh)
    for _ in range(5):
        model.learn(model.see(texture(), points_of(face_bundle), 0))
    return model


def test_nothing_is_known_at_first(face_bundle: Bundle) -> None:
    model = AppearanceModel(face_bundle.mesh)
    assert model.compare(model.see(texture(), points_of(face_bundle), 0)) is None


def test_the_same_face_matches_in_any_light_and_another_does_not(looks: AppearanceModel, face_bundle: Bundle) -> None:
    points = points_of(face_bundle)
    dark = np.clip(texture() * 0.5 + 20, 0, 255).astype(np.uint8)
    for image in (texture(), dark):
        match = looks.compare(looks.see(image, points, 0))
        assert match is not None
        assert match.similarity > 0.95
        assert match.cost < 0.15
        assert not match.covered.any()
    other = looks.compare(looks.see(texture(1), points, 0))
    assert other is not None
    assert other.similarity < 0.35
    assert other.share > 0.6


def test_a_shifted_face_costs_more(looks: AppearanceModel, face_bundle: Bundle) -> None:
    costs = []
    for shift in (0, 0.2, 0.5, 1.0):
        match = looks.compare(looks.see(texture(), points_of(face_bundle, shift=shift), 0))
        assert match is not None
        costs.append(match.cost)
    assert costs == sorted(costs)
    assert costs[-1] > 3 * costs[0]


def test_what_is_covered_is_marked_and_not_learned(looks: AppearanceModel, face_bundle: Bundle) -> None:
    points = points_of(face_bundle)
    image = texture()
    middle = int(points[4, 0])
    image[:, middle:] = texture(2)[:, middle:]
    view = looks.see(image, points, 0)
    match = looks.compare(view)
    assert match is not None
    assert 0.3 < match.share < 0.6
    at = looks.at_landmarks(match.covered)
    assert at[face_bundle.mesh.vertices[:, 0] > 2.5].mean() > 0.85
    assert at[face_bundle.mesh.vertices[:, 0] < -2.5].mean() < 0.1
    for _ in range(60):
        looks.learn(view, match.covered)
    again = looks.compare(looks.see(texture(), points, 0))
    assert again is not None
    assert again.similarity > 0.95
    assert not again.covered.any()


def test_looks_are_adapted_slowly(looks: AppearanceModel, face_bundle: Bundle) -> None:
    points = points_of(face_bundle)
    other = looks.see(texture(3), points, 0)
    before = looks.compare(other)
    for _ in range(120):
        looks.learn(other)
    after = looks.compare(other)
    assert before is not None
    assert after is not None
    assert before.similarity < 0.4
    assert after.similarity > 0.9


def test_a_turned_face_has_its_own_looks(looks: AppearanceModel, face_bundle: Bundle) -> None:
    turned = points_of(face_bundle, yaw=50)
    for _ in range(5):
        looks.learn(looks.see(texture(4), turned, 50))
    for image, points, yaw in ((texture(), points_of(face_bundle), 0), (texture(4), turned, 50)):
        match = looks.compare(looks.see(image, points, yaw))
        assert match is not None
        assert match.similarity > 0.95


def test_a_face_outside_of_the_picture_is_not_seen(face_bundle: Bundle) -> None:
    model = AppearanceModel(face_bundle.mesh)
    half = model.see(texture(), points_of(face_bundle) - (points_of(face_bundle)[4, 0], 0), 0)
    whole = model.see(texture(), points_of(face_bundle), 0)
    assert 0.3 < half.seen.sum() / whole.seen.sum() < 0.7
    assert whole.seen.mean() == pytest.approx(model.extent, rel=0.15)
    assert half.contrast.shape == (SIZE, SIZE)

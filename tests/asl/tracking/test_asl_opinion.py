"""Readings are judged by looks and shape, on pictures with a random texture."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

from fyc.asl.face.bundle import Bundle
from fyc.asl.face.camera import Camera, rotation_of
from fyc.asl.tracker import Reading
from fyc.asl.tracking.opinion import KNOWN, Judge, Opinion

CAMERA = Camera.for_picture(640, 480)


def texture(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    layers = [cv2.resize(rng.normal(0, 40, (480 // s, 640 // s)), (640, 480)) for s in (12, 40)]
    return np.clip(128 + sum(layers), 0, 255).astype(np.uint8)


GREY = texture(0)


def points_of(bundle: Bundle, yaw: float = 0.0) -> np.ndarray:
    placed = bundle.mesh.vertices @ rotation_of(yaw, 0, 0).T + np.array([0, 0, -50.0])
    return CAMERA.project(placed).astype(np.float32)


@pytest.fixture
def judge(face_bundle: Bundle) -> Judge:
    judge = Judge(face_bundle.mesh)
    judge.camera = CAMERA
    for _ in range(KNOWN):
        judge.learn(opinion(judge, points_of(face_bundle)))
    return judge


def opinion(judge: Judge, points: np.ndarray, grey: np.ndarray = GREY, last: Opinion | None = None) -> Opinion:
    found = judge.judge("some", grey, Reading(points, 1.0), last)
    assert found is not None
    return found


def test_a_reading_that_is_off_has_more_energy(judge: Judge, face_bundle: Bundle) -> None:
    right = points_of(face_bundle)
    energies = [opinion(judge, right + np.float32(shift)).energy for shift in (0, 2, 6, 15)]
    assert energies == sorted(energies)
    bent = right.copy()
    bent[face_bundle.mesh.vertices[:, 1] < -5] += (0, 25)
    assert opinion(judge, bent).energy > energies[0] + 0.1
    tired = judge.judge("some", GREY, Reading(right, 0.5), None, 0.5)
    assert tired is not None
    assert tired.energy == pytest.approx(energies[0] + 0.1, abs=1e-6)


def test_another_face_is_no_sight_and_matches_nothing(judge: Judge, face_bundle: Bundle) -> None:
    right = points_of(face_bundle)
    same, other = opinion(judge, right), opinion(judge, right, texture(1))
    assert same.sight
    assert same.matches
    assert not other.sight
    assert not other.matches
    judge.forget()
    unknown = opinion(judge, right, texture(1))
    assert unknown.sight
    assert not unknown.matches
    assert unknown.match is None


def test_one_look_at_a_dark_face_says_little(face_bundle: Bundle) -> None:
    judge, right = Judge(face_bundle.mesh), points_of(face_bundle)
    judge.camera = CAMERA
    rng = np.random.default_rng(0)
    for number in range(KNOWN + 5):
        noisy = np.clip(GREY * 0.3 + rng.normal(0, 6, GREY.shape), 0, 255).astype(np.uint8)
        seen = opinion(judge, right, noisy)
        assert seen.sight, number
        judge.learn(seen)
    assert judge.looks.views > KNOWN
    assert seen.match is not None
    assert seen.match.similarity > 0.6  # noise is gone from what is known
    assert not opinion(judge, right, texture(1)).sight


def test_no_pose_no_opinion(judge: Judge) -> None:
    assert judge.judge("some", GREY, Reading(np.full((468, 2), np.nan, np.float32), 1.0)) is None


def test_what_was_covered_is_not_believed(judge: Judge, face_bundle: Bundle) -> None:
    right, left = points_of(face_bundle), face_bundle.mesh.vertices[:, 0] > 2
    last = replace(opinion(judge, right), occluded=left)
    dragged = right.copy()
    dragged[left] += (20, 20)
    found = opinion(judge, dragged, last=last)
    assert np.linalg.norm(found.points - right, axis=1).max() < 1.5
    assert np.linalg.norm(opinion(judge, dragged).points - right, axis=1).max() > 10


def test_a_covered_face_is_not_learned(judge: Judge, face_bundle: Bundle) -> None:
    other, views = opinion(judge, points_of(face_bundle), texture(1)), judge.looks.views
    judge.learn(other)
    assert judge.looks.views == views


def test_looks_guide_a_face_that_is_half_covered(judge: Judge, face_bundle: Bundle) -> None:
    right = points_of(face_bundle)
    half = GREY.copy()
    half[:, 320:] = texture(2)[:, 320:]
    last = opinion(judge, right, half)
    off = opinion(judge, right + np.float32(3), half, last)
    better = judge.aligned(half, off, last)
    assert better is not None
    assert better.energy < off.energy
    seen = face_bundle.mesh.vertices[:, 0] < -1
    before, after = (np.linalg.norm(o.points - right, axis=1)[seen].mean() for o in (off, better))
    assert after < 0.6 * before
    assert judge.aligned(GREY, opinion(judge, right), last) is None


def test_evidence_says_what_was_measured(judge: Judge, face_bundle: Bundle) -> None:
    right = points_of(face_bundle)
    chosen = opinion(judge, right)
    far = replace(opinion(judge, right + np.float32(10)), name="other", steady=0.7)
    evidence = judge.evidence(chosen, [chosen, far], 4, 1.0, 0.2)
    eyes = np.linalg.norm(right[33] - right[263])
    assert evidence.nearest == pytest.approx(10 * 2**0.5 / eyes, rel=0.1)
    assert evidence.farthest == evidence.nearest
    assert evidence.speaking == 0.5
    assert evidence.steady == pytest.approx(0.7)
    assert evidence.known == 1
    assert evidence.covered == 0
    assert evidence.turned < 0.03
    turned = judge.evidence(opinion(judge, points_of(face_bundle, 45)), [], 4, 0.5, 0.2)
    assert turned.turned == pytest.approx(0.5, abs=0.03)
    assert turned.hidden > evidence.hidden
    assert turned.speaking == turned.steady == 0


def test_what_is_chosen_gets_the_expression_of_another_that_agrees(judge: Judge, face_bundle: Bundle) -> None:
    """A template follows the face with open eyes; the network sees them closed, and the face two pixels away."""
    still = points_of(face_bundle)
    closed = still.copy()
    closed[386] = closed[374]
    chosen = opinion(judge, still)
    seen = judge.judge("net", GREY, Reading(closed + np.float32(2), 1.0, np.ones(468, np.float32), expressive=True))
    assert seen is not None
    shown = judge.expressed(chosen, [chosen, seen])
    assert shown.expressive
    assert shown.name == "some"
    assert np.linalg.norm(shown.points[386] - shown.points[374]) < 0.1
    assert np.abs(shown.points - still).mean() < 0.5
    bent = closed.copy()
    bent[face_bundle.mesh.vertices[:, 0] > 0] += (0, 40)
    astray = judge.judge("net", GREY, Reading(bent, 1.0, expressive=True))
    assert astray is not None
    assert judge.expressed(chosen, [chosen, astray]) is chosen

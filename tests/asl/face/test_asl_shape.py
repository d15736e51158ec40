"""The shape of a signer, from landmarks of heads whose shape is known."""

from __future__ import annotations

import numpy as np
import pytest

from fyc.asl.face.bundle import Bundle
from fyc.asl.face.camera import Camera, angles_of, rotation_of
from fyc.asl.face.deformation import load_basis
from fyc.asl.face.pose import fit_pose
from fyc.asl.face.shape import Observation, ShapeFitter, aligned
from fyc.asl.synthetic.heads import make_head

pytestmark = pytest.mark.assets

CAMERA = Camera.for_picture(640, 480)


@pytest.fixture(scope="module")
def prior(face_bundle: Bundle) -> ShapeFitter:
    return ShapeFitter(face_bundle.mesh, load_basis())


def seen(shape: np.ndarray, angles: np.ndarray, *, jitter: float, seed: int) -> list[Observation]:
    """A head in many poses, its landmarks off by some pixels."""
    rng = np.random.default_rng(seed)
    clips = []
    for turn in angles:
        pixels = CAMERA.project(shape @ rotation_of(*turn).T + (rng.uniform(-4, 4), rng.uniform(-3, 3), -60))
        clips.append(Observation(pixels + rng.normal(0, jitter, pixels.shape), CAMERA))
    return clips


def poses(seed: int, count: int = 24) -> np.ndarray:
    return np.random.default_rng(seed).uniform((-25, -20, -12), (25, 20, 12), (count, 3))


def pose_error(shape: np.ndarray, frames: list[Observation], truth: np.ndarray, weights: np.ndarray) -> float:
    found = np.array([fit_pose(frame.pixels, shape, weights, CAMERA).angles for frame in frames])
    return float(np.abs(found - truth).mean())


@pytest.mark.parametrize("head", [0, 3, 5])
def test_the_shape_explains_other_frames_better_than_the_canonical_one(head: int, prior: ShapeFitter) -> None:
    shape = aligned(make_head(prior.mesh, "fit", head).face, prior.mesh.vertices, prior.weights)
    found = prior.fit(seen(shape, poses(0), jitter=1.0, seed=1))
    others = seen(shape, poses(2), jitter=1.0, seed=3)
    assert pose_error(found, others, poses(2), prior.weights) < 0.6 * pose_error(
        prior.mesh.vertices, others, poses(2), prior.weights
    )
    canonical = np.linalg.norm(prior.mesh.vertices - shape, axis=1).mean()
    assert np.linalg.norm(found - shape, axis=1).mean() < 0.75 * canonical


def test_the_canonical_face_stays(prior: ShapeFitter) -> None:
    found = prior.fit(seen(prior.mesh.vertices, poses(0), jitter=0.5, seed=1))
    assert np.linalg.norm(found - prior.mesh.vertices, axis=1).max() < 0.25


def test_nothing_seen_is_the_canonical_face(prior: ShapeFitter) -> None:
    blind = Observation(np.full((468, 2), np.nan), CAMERA)
    assert np.array_equal(prior.fit([]), prior.mesh.vertices)
    assert np.array_equal(prior.fit([blind, blind]), prior.mesh.vertices)


def test_frames_with_gaps_and_a_hand(prior: ShapeFitter) -> None:
    """A quarter of the landmarks of every frame is missing or on a hand: the shape is nearly as good."""
    shape = aligned(make_head(prior.mesh, "fit", 1).face, prior.mesh.vertices, prior.weights)
    clean = seen(shape, poses(0), jitter=1.0, seed=1)
    rng = np.random.default_rng(4)
    dirty = []
    for frame in clean:
        pixels = frame.pixels.copy()
        side = np.argsort(prior.mesh.vertices @ rng.normal(size=3))[: 468 // 4]
        pixels[side] = np.nan if rng.random() < 0.5 else pixels[side] + 30
        dirty.append(Observation(pixels, CAMERA))
    errors = [np.linalg.norm(prior.fit(frames) - shape, axis=1).mean() for frames in (clean, dirty)]
    assert errors[1] < 1.5 * errors[0]


def test_aligned_takes_a_similarity_back(prior: ShapeFitter) -> None:
    target = prior.mesh.vertices
    moved = 1.7 * target @ rotation_of(30, -20, 50).T + (3, 4, 5)
    assert np.allclose(aligned(moved, target, prior.weights), target)


def test_depths_of_a_network_are_of_use(prior: ShapeFitter) -> None:
    """Between what pixels and depths say, see `fit_pose`; here both are right."""
    shape = prior.mesh.vertices
    rotation = rotation_of(12, -8, 3)
    placed = shape @ rotation.T - np.array([0, 0, 60])
    depths = -(placed[:, 2] + 60) * CAMERA.focal / 60
    pose = fit_pose(CAMERA.project(placed), shape, prior.weights, CAMERA, depths=depths)
    assert np.allclose(angles_of(pose.rotation), (12, -8, 3), atol=1.0)

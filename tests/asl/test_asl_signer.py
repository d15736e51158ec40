"""A signer is learned and measured: rendered heads whose pose, brows and lids are known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from fyc.asl.face.bundle import Bundle
from fyc.asl.face.camera import Camera
from fyc.asl.face.deformation import load_basis
from fyc.asl.face.detector import Image
from fyc.asl.face.shape import ShapeFitter
from fyc.asl.samples import FaceReader, FaceSample
from fyc.asl.signer import VALUES, Signer
from fyc.asl.synthetic.render import Studio
from fyc.asl.synthetic.script import COLUMN, PARAMETERS, Script, Shot
from fyc.asl.synthetic.script import Signer as Actor

pytestmark = pytest.mark.assets

FRAMES = 36
CAMERA = Camera.for_picture(640, 480)


@dataclass(frozen=True)
class Filmed:
    """A clip of a synthetic head: frames, and what was true in them."""

    frames: list[Image]
    angles: np.ndarray
    raised: np.ndarray
    closed: np.ndarray
    samples: list[FaceSample]
    signer: Signer


@pytest.fixture(scope="module")
def filmed(face_bundle: Bundle, talking: object) -> Filmed:
    rng = np.random.default_rng(5)
    curves = np.zeros((FRAMES, len(PARAMETERS)))
    angles = rng.uniform((-22, -20, -12), (22, 20, 12), (FRAMES, 3))
    raised, closed = rng.random(FRAMES) < 0.3, rng.random(FRAMES) < 0.15
    for column, name in enumerate(("yaw", "pitch", "roll")):
        curves[:, COLUMN[name]] = angles[:, column]
    for name in PARAMETERS:
        if name.startswith("brow"):
            curves[:, COLUMN[name]] = 0.35 * raised
        elif name.startswith("lid"):
            curves[:, COLUMN[name]] = closed
    shots = (Shot(0, 50, (2, 1, -55), 3),)
    script = Script(name="measured", signer=Actor("fit", 4, 0, "A"), curves=curves, shots=shots)
    frames = [frame.image for frame in Studio(face_bundle).render(script)]
    samples = sampled(frames, face_bundle)
    signer = Signer.learn(ShapeFitter(face_bundle.mesh, load_basis()), samples)
    return Filmed(frames, angles, raised, closed, samples, signer)


def sampled(frames: list[Image], bundle: Bundle) -> list[FaceSample]:
    """Faces in single pictures."""
    reader = FaceReader(bundle)
    samples = [reader.read(image, CAMERA) for image in frames]
    return [sample for sample in samples if sample is not None]


@pytest.fixture(scope="module")
def measured(filmed: Filmed) -> tuple[np.ndarray, np.ndarray]:
    """Angles and values of all frames."""
    angles, values = [], []
    for image, sample in zip(filmed.frames, filmed.samples, strict=True):
        pose = filmed.signer.pose(sample.points, sample.depths, CAMERA)
        angles.append(pose.angles)
        values.append(filmed.signer.measure(image, sample.points, pose, CAMERA).values)
    return np.array(angles), np.array(values)


def test_the_pose_is_right(filmed: Filmed, measured: tuple[np.ndarray, np.ndarray]) -> None:
    errors = np.abs(measured[0] - filmed.angles)
    assert errors.mean() < 2
    assert errors.max() < 8


def test_raised_brows_are_above_rest_ones(filmed: Filmed, measured: tuple[np.ndarray, np.ndarray]) -> None:
    brows = np.nanmean(measured[1][:, :4], axis=1)
    assert np.quantile(brows[filmed.raised], 0.2) > np.quantile(brows[~filmed.raised], 0.9)
    assert abs(np.median(brows[~filmed.raised])) < 0.05
    assert abs(np.corrcoef(brows[~filmed.raised], filmed.angles[~filmed.raised, 1])[0, 1]) < 0.5


def test_closed_eyes_are_less_open(filmed: Filmed, measured: tuple[np.ndarray, np.ndarray]) -> None:
    eyes = measured[1][:, [VALUES.index("eye_left"), VALUES.index("eye_right")]].mean(axis=1)
    assert abs(np.median(eyes[~filmed.closed]) - 1) < 0.1
    assert eyes[filmed.closed].max() < 0.7 < np.quantile(eyes[~filmed.closed], 0.05)


def test_a_face_out_of_the_picture_is_measured_as_nothing(filmed: Filmed) -> None:
    """Brows that cannot be seen are unknown; no error."""
    sample = filmed.samples[0]
    pose = filmed.signer.pose(sample.points - np.float32([3000, 0]), sample.depths, CAMERA)
    values = filmed.signer.measure(filmed.frames[0], sample.points - np.float32([3000, 0]), pose, CAMERA).values
    assert np.isnan(values[:4]).all()


def test_two_frames_are_too_few(filmed: Filmed, face_bundle: Bundle) -> None:
    with pytest.raises(ValueError, match="three frames or more, not 2"):
        Signer.learn(ShapeFitter(face_bundle.mesh, load_basis()), filmed.samples[:2])

"""The face networks on real frames, against the geometry they must keep."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fyc.asl.face.bundle import Bundle
from fyc.asl.face.detector import Face, FaceDetector, Image, _distinct, overlap
from fyc.asl.face.landmarks import EYE_CORNERS, LandmarkNet, Landmarks, Region
from fyc.asl.face.litert import LiteNetwork
from fyc.errors import ModelError

pytestmark = pytest.mark.assets


@pytest.fixture(scope="module")
def frame(talking: Path) -> Image:
    """A real frame, 288x360."""
    with av.open(str(talking)) as container:
        image: Image = next(container.decode(video=0)).to_ndarray(format="rgb24")
    return image


@pytest.fixture(scope="module")
def detector(face_bundle: Bundle) -> FaceDetector:
    return FaceDetector(face_bundle.detector)


@pytest.fixture(scope="module")
def net(face_bundle: Bundle) -> LandmarkNet:
    return LandmarkNet(face_bundle.landmarks)


@pytest.fixture(scope="module")
def placed(frame: Image, detector: FaceDetector, net: LandmarkNet) -> Landmarks:
    first = net.place(frame, Region.around(detector.find(frame)[0]))
    return net.place(frame, Region.of_points(first.points))


def test_one_face_where_it_is(frame: Image, detector: FaceDetector, placed: Landmarks) -> None:
    (face,) = detector.find(frame)
    assert face.score > 0.9
    left, top, right, bottom = face.box
    assert 0 <= left < right <= 360
    assert 0 <= top < bottom <= 288
    assert all(left < x < right + 10 and top < y < bottom for x, y in face.keypoints)
    for keypoint, corners in ((0, (33, 133)), (1, (362, 263))):
        eye = placed.points[list(corners), :2].mean(axis=0)
        assert np.linalg.norm(face.keypoints[keypoint] - eye) < 0.05 * face.size


def test_landmarks_lie_on_a_face(placed: Landmarks, face_bundle: Bundle) -> None:
    """They fit the canonical mesh after a similarity to a few per cent of the eyes' distance."""
    assert placed.points.shape == (478, 3)
    assert placed.presence > 0.99
    source = face_bundle.mesh.vertices * (1, -1, -1)
    target = placed.points[:468].astype(float)
    a, b = source - source.mean(axis=0), target - target.mean(axis=0)
    u, s, vt = np.linalg.svd(b.T @ a)
    rotation = u @ np.diag([1, 1, np.linalg.det(u @ vt)]) @ vt
    residual = b - (s.sum() / (a**2).sum()) * a @ rotation.T
    eyes = np.linalg.norm(target[EYE_CORNERS[0]] - target[EYE_CORNERS[1]])
    assert np.linalg.norm(residual[:, :2], axis=1).mean() < 0.06 * eyes


@pytest.mark.parametrize("degrees", [-35, 20, 50])
def test_landmarks_turn_and_grow_with_the_picture(
    degrees: float, frame: Image, placed: Landmarks, detector: FaceDetector, net: LandmarkNet
) -> None:
    matrix = cv2.getRotationMatrix2D((180.0, 144.0), degrees, 1.3)
    matrix[:, 2] += (60, 56)
    turned = cv2.warpAffine(frame, matrix, (480, 400))
    found = net.place(turned, Region.around(detector.find(turned)[0]))
    found = net.place(turned, Region.of_points(found.points))
    expected = placed.points[:, :2] @ matrix[:, :2].T + matrix[:, 2]
    eyes = np.linalg.norm(expected[EYE_CORNERS[0]] - expected[EYE_CORNERS[1]])
    assert np.linalg.norm(found.points[:, :2] - expected, axis=1).mean() < 0.03 * eyes


def test_a_small_face_in_a_wide_picture(frame: Image, detector: FaceDetector) -> None:
    wide = np.full((720, 1280, 3), 90, np.uint8)
    small = cv2.resize(frame, (180, 144), interpolation=cv2.INTER_AREA)
    wide[80:224, 950:1130] = small
    (face,) = detector.find(wide)
    centre = (face.box[:2] + face.box[2:]) / 2
    (whole,) = detector.find(frame)
    expected = (whole.box[:2] + whole.box[2:]) / 4 + (950, 80)
    assert np.linalg.norm(centre - expected) < 8


def test_two_faces(frame: Image, detector: FaceDetector) -> None:
    faces = detector.find(np.hstack([frame, frame[:, ::-1]]))
    assert len(faces) == 2
    assert sorted(float(face.box[0]) > 360 for face in faces) == [False, True]


@pytest.mark.parametrize("content", ["black", "noise", "one pixel"])
def test_no_face(content: str, detector: FaceDetector, net: LandmarkNet) -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (240, 320, 3), dtype=np.uint8)
    image = {"black": np.zeros_like(noise), "noise": noise, "one pixel": noise[:1, :1]}[content]
    assert detector.find(image) == []
    assert net.place(image, Region(100, 100, 150, 0.1)).presence < 0.01


@given(st.floats(20, 300), st.floats(20, 300), st.floats(10, 400), st.floats(-3.1, 3.1))
def test_a_region_is_cut_where_its_matrix_says(x: float, y: float, side: float, angle: float) -> None:
    """A gradient picture shows the coordinates that the matrix gives."""
    rows, columns = np.mgrid[0:320, 0:320]
    image = np.stack([columns * 0.7, rows * 0.7, columns * 0], axis=2).astype(np.uint8)
    region = Region(x, y, side, angle)
    cut = region.cut(image, 64).astype(float)
    for u, v in ((31, 31), (20, 40), (45, 10)):
        px, py = region.matrix @ ((u + 0.5) / 64 - 0.5, (v + 0.5) / 64 - 0.5, 1) - 0.5
        if 1 < px < 318 and 1 < py < 318:
            assert np.allclose(cut[v, u, :2], (px * 0.7, py * 0.7), atol=1.6)


@given(st.floats(-3.1, 3.1), st.floats(50, 500), st.floats(-100, 900))
def test_a_region_follows_its_points(angle: float, side: float, x: float) -> None:
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (478, 2))
    points[EYE_CORNERS[0]], points[EYE_CORNERS[1]] = (-0.3, 0), (0.3, 0)
    matrix = Region(x, 0, side, angle).matrix
    region = Region.of_points((points @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32))
    assert math.isclose(math.remainder(region.angle - angle, math.tau), 0, abs_tol=1e-3)


box = st.tuples(*[st.integers(0, 12)] * 4).filter(lambda b: b[0] < b[2] and b[1] < b[3])


@given(box, box)
def test_overlap_counts_pixels(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    def pixels(box: tuple[int, ...]) -> set[tuple[int, int]]:
        return {(x, y) for x in range(box[0], box[2]) for y in range(box[1], box[3])}

    expected = len(pixels(a) & pixels(b)) / len(pixels(a) | pixels(b))
    assert math.isclose(overlap(np.array(a, np.float32), np.array(b, np.float32)), expected, abs_tol=1e-6)


def test_boxes_of_one_face_become_one() -> None:
    def face(left: float, score: float) -> Face:
        box = np.array([left, 0, left + 100, 100], np.float32)
        return Face(box, score, np.full((6, 2), left, np.float32))

    first, second = _distinct([face(0, 0.6), face(300, 0.7), face(10, 0.9)])
    assert math.isclose(first.box[0], 6, abs_tol=1e-4)
    assert (first.score, second.score) == (0.9, 0.7)


def test_another_network_is_refused() -> None:
    with pytest.raises(ModelError, match="FYC-M03"):
        LiteNetwork(b"not a network")


def test_a_network_says_nothing(face_bundle: Bundle, capfd: pytest.CaptureFixture[str]) -> None:
    FaceDetector(face_bundle.detector).find(np.zeros((64, 64, 3), np.uint8))
    print("after", file=sys.stderr)
    assert capfd.readouterr().err == "after\n"

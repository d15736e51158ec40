"""The trackers and finders that come with fyc, on real frames that are moved in known ways."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from fyc.asl.face.bundle import Bundle
from fyc.asl.face.detector import Image
from fyc.asl.face.landmarks import LandmarkNet, Region
from fyc.asl.face.litert import Floats
from fyc.asl.tracker import Finder, Tracker, finders, trackers
from fyc.errors import PluginError
from fyc.plugins import load_plugins
from tests.conftest import Install

pytestmark = pytest.mark.assets

TRACKERS = ("network", "flow", "template")


@pytest.fixture(scope="module")
def frame(talking_frames: list[Image]) -> Image:
    """A real frame on a larger canvas, so that the face can be moved."""
    return np.pad(talking_frames[0], ((40, 40), (60, 60), (0, 0)), mode="edge")


@pytest.fixture(scope="module")
def points(frame: Image, face_bundle: Bundle) -> Floats:
    (face,) = finders(load_plugins())["blazeface"](face_bundle).find(frame)
    placed = LandmarkNet(face_bundle.landmarks).place(frame, Region.around(face))
    return placed.points[:468, :2].copy()


def moved(frame: Image, points: Floats, *, turn: float = 0, scale: float = 1, shift: tuple[float, float] = (0, 0)):
    """The picture and the points after a similarity about the face's middle."""
    x, y = points.mean(axis=0)
    matrix = cv2.getRotationMatrix2D((float(x), float(y)), turn, scale)
    matrix[:, 2] += shift
    picture = cv2.warpAffine(frame, matrix, frame.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)
    return picture, points @ matrix[:, :2].T + matrix[:, 2]


def error(found: Floats, expected: Floats) -> float:
    """Mean distance as a part of the distance of the outer corners of the eyes."""
    eyes = np.linalg.norm(expected[33] - expected[263])
    return float(np.nanmean(np.linalg.norm(found - expected, axis=1)) / eyes)


@pytest.mark.parametrize("name", TRACKERS)
@pytest.mark.parametrize(
    "motion",
    [{}, {"shift": (7, -4)}, {"turn": 6, "shift": (2, 2)}, {"scale": 1.05, "shift": (-6, 3)}],
    ids=["still", "shift", "turn", "scale"],
)
def test_a_face_that_moves(name: str, motion: dict, frame: Image, points: Floats, face_bundle: Bundle) -> None:
    tracker: Tracker = trackers(load_plugins())[name](face_bundle)
    tracker.start(frame, points)
    picture, expected = moved(frame, points, **motion)
    reading = tracker.track(picture, points)
    assert reading is not None
    assert reading.points.shape == (468, 2)
    assert np.isfinite(reading.points).any(axis=1).sum() > 40
    assert error(reading.points, expected) < (0.06 if name == "template" else 0.03)
    assert 0.4 < reading.score <= 1


@pytest.mark.parametrize("name", TRACKERS)
def test_a_face_that_is_gone(name: str, frame: Image, points: Floats, face_bundle: Bundle) -> None:
    """Black, or another scene: lost, not somewhere."""
    tracker = trackers(load_plugins())[name](face_bundle)
    noise = np.random.default_rng(0).integers(0, 256, frame.shape, dtype=np.uint8)
    for gone in (np.zeros_like(frame), noise):
        tracker.start(frame, points)
        assert tracker.track(gone, points) is None


@pytest.mark.parametrize("name", TRACKERS)
def test_a_picture_of_another_size_does_no_harm(name: str, frame: Image, points: Floats, face_bundle: Bundle) -> None:
    tracker = trackers(load_plugins())[name](face_bundle)
    tracker.start(frame, points)
    tracker.track(frame[:50, :70], points)


def test_flow_ignores_what_a_hand_covers(frame: Image, points: Floats, face_bundle: Bundle) -> None:
    """The points under a textured patch that jumps in do not come back; the others are right."""
    tracker = trackers(load_plugins())["flow"](face_bundle)
    tracker.start(frame, points)
    picture, expected = moved(frame, points, shift=(3, 1))
    low, high = expected.min(axis=0).astype(int), expected.max(axis=0).astype(int)
    middle = (low[0] + high[0]) // 2
    patch = np.random.default_rng(1).integers(90, 220, (high[1] - low[1], high[0] - middle, 3), dtype=np.uint8)
    picture[low[1] : high[1], middle : high[0]] = patch
    reading = tracker.track(picture, points)
    assert reading is not None
    covered = expected[:, 0] > middle + 8
    assert np.isfinite(reading.points[covered]).any(axis=1).sum() < 0.15 * covered.sum()
    assert np.nanmedian(np.linalg.norm(reading.points - expected, axis=1)) < 1.5


@pytest.mark.parametrize("name", ["blazeface", "haar"])
def test_finders_find_the_face(name: str, frame: Image, points: Floats, face_bundle: Bundle) -> None:
    finder: Finder = finders(load_plugins())[name](face_bundle)
    face = finder.find(frame)[0]
    left, top, right, bottom = face.box
    x, y = points.mean(axis=0)
    assert left < x < right
    assert top < y < bottom
    assert 0.4 < face.size / np.ptp(points[:, 1]) < 1.6
    assert 0 < face.score <= 1
    assert finder.find(np.zeros_like(frame)) == []


def test_registered_by_name() -> None:
    host = load_plugins()
    assert set(trackers(host)) == set(TRACKERS)
    assert set(finders(host)) == {"blazeface", "haar"}
    assert all(cls.summary for cls in [*trackers(host).values(), *finders(host).values()])


@pytest.mark.parametrize(
    ("code", "source"),
    [
        ("FYC-P03", "class T:\n    name, summary = 'flow', 'x'\n    def find(self, image): ..."),
        ("FYC-P04", "class T:\n    name = 'mine'\n    def find(self, image): ..."),
        ("FYC-P04", "class T:\n    name, summary = 'mine', 'x'"),
    ],
)
def test_a_tracker_that_breaks_the_contract(code: str, source: str, install: Install) -> None:
    hook = "import fyc\n@fyc.hookimpl\ndef fyc_register_trackers(register):\n    register(T)\n"
    install("fyc-mine", {"mine": f"{source}\n{hook}"})
    with pytest.raises(PluginError, match=code):
        trackers(load_plugins())

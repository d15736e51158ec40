"""Finding a face: finders propose, the network places, another finder seconds."""

from __future__ import annotations

import numpy as np
import pytest

from fyc.asl.face.bundle import Bundle
from fyc.asl.face.detector import Face, Image
from fyc.asl.tracker import finders
from fyc.asl.tracking.search import Candidate, FaceSearch, box_of
from fyc.plugins import load_plugins

pytestmark = pytest.mark.assets


class Told:
    """Finds what it is told, and counts how often it is asked."""

    name, summary = "told", ""

    def __init__(self, *boxes: tuple[float, float, float, float]) -> None:
        self.boxes, self.asked = boxes, 0

    def find(self, image: Image) -> list[Face]:
        self.asked += 1
        return [Face(np.array(box, np.float32), 0.9, np.zeros((6, 2), np.float32)) for box in self.boxes]


@pytest.fixture(scope="module")
def frame(talking_frames: list[Image]) -> Image:
    return talking_frames[0]


@pytest.fixture(scope="module")
def real(face_bundle: Bundle) -> FaceSearch:
    return FaceSearch(face_bundle, {name: cls(face_bundle) for name, cls in finders(load_plugins()).items()})


def test_a_face_is_proposed_placed_and_seconded(real: FaceSearch, frame: Image) -> None:
    (candidate, *_) = real.propose(frame)
    assert candidate.finder == "blazeface"
    reading = real.place(frame, candidate)
    assert reading is not None
    assert reading.points.shape == (468, 2)
    assert reading.depths is not None
    box = box_of(reading.points)
    assert real.sees(frame, box)
    assert real.seconded(frame, box, but="blazeface")
    away = box + np.float32(1.2) * (box[2] - box[0]) * np.array([1, 0, 1, 0], np.float32)
    assert not real.sees(frame, away)
    assert not real.seconded(frame, away, but="blazeface")


def test_the_network_places_nothing_where_no_face_is(real: FaceSearch, frame: Image) -> None:
    corner = Face(np.array([0, 0, 40, 40], np.float32), 0.9, np.zeros((6, 2), np.float32))
    assert real.place(frame, Candidate(corner, "blazeface")) is None


def test_a_second_finder_proposes_only_in_a_thorough_search(face_bundle: Bundle, frame: Image) -> None:
    blind, seeing = Told(), Told((10, 10, 60, 60), (80, 10, 120, 50))
    search = FaceSearch(face_bundle, {"blind": blind, "seeing": seeing})
    assert search.propose(frame) == []
    assert seeing.asked == 0
    assert [candidate.finder for candidate in search.propose(frame, thorough=True)] == ["seeing"] * 2
    assert blind.asked == 2


def test_a_finder_does_not_second_itself(face_bundle: Bundle, frame: Image) -> None:
    box = np.array([60, 60, 140, 140], np.float32)
    same = Told((40, 40, 120, 120))  # the part that is looked at is 160 pixels wide, the box in its middle
    search = FaceSearch(face_bundle, {"one": same})
    assert search.seconded(frame, box)
    assert not search.seconded(frame, box, but="one")
    assert FaceSearch(face_bundle, {"one": same, "two": same}).seconded(frame, box, but="one")
    assert not FaceSearch(face_bundle, {"one": Told((120, 120, 160, 160))}).seconded(frame, box)
    assert not FaceSearch(face_bundle, {}).sees(frame, box)

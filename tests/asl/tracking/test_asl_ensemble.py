"""The ensemble on synthetic clips: covered, cut, black, lost and found; and with trackers that are made up."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from fyc.asl.face.bundle import Bundle
from fyc.asl.face.detector import Face, Image
from fyc.asl.face.litert import Floats
from fyc.asl.synthetic.projection import FrameTruth
from fyc.asl.synthetic.render import Frame, Studio
from fyc.asl.synthetic.script import COLUMN, Occluder, Script, Shot, Signer
from fyc.asl.tracker import Reading, finders, trackers
from fyc.asl.tracking.ensemble import Ensemble, TrackedFrame
from fyc.plugins import load_plugins

pytestmark = pytest.mark.assets

SHOT = Shot(0, 50, (0, -4, -58), 0)


@pytest.fixture(scope="module")
def studio(face_bundle: Bundle, talking: object) -> Studio:
    return Studio(face_bundle)


@pytest.fixture
def make(face_bundle: Bundle):
    host = load_plugins()

    def ensemble(**options: object) -> Ensemble:
        return Ensemble(face_bundle, trackers(host), finders(host), **options)  # type: ignore[arg-type]

    return ensemble


def clip(frames: int, shots: tuple[Shot, ...] = (SHOT,), **parts: object) -> Script:
    """A head that sways a little."""
    curves = np.zeros((frames, len(COLUMN)))
    curves[:, COLUMN["yaw"]] = 8 * np.sin(np.arange(frames) / 8)
    return Script("clip", Signer("fit", 2, 1, "A"), curves, shots, **parts)  # type: ignore[arg-type]


def error(frame: TrackedFrame, truth: FrameTruth) -> float:
    """Mean error in distances of the eyes; infinite when lost."""
    if frame.points is None:
        return np.inf
    eyes = np.linalg.norm(truth.points[33] - truth.points[263])
    return float(np.linalg.norm(frame.points - truth.points, axis=1).mean() / eyes)


def followed(ensemble: Ensemble, frames: Iterator[Frame]) -> list[tuple[TrackedFrame, FrameTruth]]:
    return [(ensemble.step(frame.image, frame.truth.time_s), frame.truth) for frame in frames]


def test_a_blink_is_seen_whoever_speaks(studio: Studio, make) -> None:  # type: ignore[no-untyped-def]
    """A template or a flow cannot see lids close; what the network sees of them is kept."""
    curves = np.zeros((60, len(COLUMN)))
    closed = [18, 19, 20, 33, 34, 35, 48, 49, 50]
    for name in COLUMN:
        if name.startswith("lid"):
            curves[closed, COLUMN[name]] = 1
    results = followed(make(), studio.render(Script("blinks", Signer("fit", 2, 1, "A"), curves, (SHOT,))))
    assert len({tracked.tracker for tracked, _ in results}) > 2
    gaps = []
    for tracked, _ in results:
        assert tracked.points is not None
        assert tracked.expressive
        lids, corners = tracked.points[[159, 145]], tracked.points[[33, 133]]
        gaps.append(np.linalg.norm(lids[0] - lids[1]) / np.linalg.norm(corners[0] - corners[1]))
    open_eyes = np.delete(gaps, closed)
    assert np.array(gaps)[closed].max() < 0.6 * open_eyes.min()


def assert_never_confidently_wrong(results: list[tuple[TrackedFrame, FrameTruth]]) -> None:
    wrong = [truth.frame for frame, truth in results if frame.confidence >= 0.5 and error(frame, truth) > 0.12]
    assert wrong == []


def test_a_panel_that_covers_half_a_face_is_marked_and_does_not_drag_it(studio: Studio, make) -> None:
    panel = Occluder("panel", 18, 40, ((26, 0, 10), (6.5, 0, 10), (6.5, 0, 10), (26, 0, 10)), 0, 1, 3)
    results = followed(make(), studio.render(clip(46, occluders=(panel,))))
    assert all(frame.points is not None for frame, _ in results)
    assert_never_confidently_wrong(results)
    assert np.median([error(frame, truth) for frame, truth in results if truth.cover > 0.3]) < 0.08
    masks = [(frame.occluded, truth) for frame, truth in results if truth.cover > 0.35]
    assert masks
    hidden = np.mean([mask[~truth.visible].mean() for mask, truth in masks])
    seen = np.mean([mask[truth.visible].mean() for mask, truth in masks])
    assert hidden > 0.5
    assert seen < 0.2
    assert np.mean([frame.occluded.mean() for frame, truth in results[5:16]]) < 0.03
    assert error(*results[-1]) < 0.06
    assert results[-1][0].confidence > 0.8


def test_a_cut_and_a_blackout_are_over_in_five_frames(studio: Studio, make) -> None:
    shots = (SHOT, replace(SHOT, start=24, place=(-14, 3, -70), background=4))
    results = followed(make(), studio.render(clip(36, shots=shots, blackouts=((12, 15),))))
    assert_never_confidently_wrong(results)
    for frame, _ in results[12:15]:
        assert frame.points is None
        assert "shows nothing" in frame.reason
    assert min(error(*result) for result in results[15:20]) < 0.06
    assert min(error(*result) for result in results[24:29]) < 0.06
    assert all(error(*result) < 0.06 for result in [*results[20:24], *results[29:]])


def test_a_face_that_leaves_is_lost_and_found_when_it_comes_back(studio: Studio, make) -> None:
    script = clip(46)
    script.curves[12:34, COLUMN["x"]] = 90
    results = followed(make(), studio.render(script))
    assert_never_confidently_wrong(results)
    gone = [frame for frame, _ in results[26:34]]
    assert all(frame.points is None and frame.pose is None and frame.box is None for frame in gone)
    assert all(frame.reason and frame.confidence == 0 and frame.tracker == "" for frame in gone)
    back = next(number for number in range(34, 46) if error(*results[number]) < 0.06)
    assert back <= 38
    assert any(frame.redetected for frame, _ in results[34:40])


def test_several_faces(studio: Studio, make) -> None:
    shot = replace(SHOT, place=(-6, -4, -58), bystander=Signer("fit", 5, 3, "A"))
    ((image, truth),) = [(frame.image, frame.truth) for frame in studio.render(clip(1, shots=(shot,)))]
    first = make().step(image, 0)
    assert first.faces == 2
    assert "2 faces" in first.reason
    assert error(first, truth) < 0.06
    assert first.redetected
    left, right, third = (make(face=number).step(image, 0) for number in range(3))
    assert error(left, truth) < 0.06
    assert right.points is not None
    assert right.points[:, 0].min() > truth.points[:, 0].mean()
    assert third.points is None
    assert "only 2 faces" in third.reason


def test_pictures_without_a_face(make) -> None:
    ensemble = make()
    noise = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8)
    for number, image in enumerate([np.zeros_like(noise), noise, noise[:120, :160].copy(), noise]):
        frame = ensemble.step(image, number / 25)
        assert frame.points is None
        assert frame.reason
        assert frame.confidence == 0
        assert frame.time_s == number / 25


def test_the_same_seed_gives_the_same_track(studio: Studio, make) -> None:
    images = [frame.image for frame in studio.render(clip(8))]
    tracks = [[make_.step(image, 0) for image in images] for make_ in (make(seed=5), make(seed=5))]
    for first, second in zip(*tracks, strict=True):
        assert first.tracker == second.tracker
        assert np.array_equal(first.points, second.points)
        assert first.confidence == second.confidence


class Follower:
    """Says where the face is, as the test knows."""

    name, summary = "follower", ""
    truth: Floats
    keep: slice = slice(None)
    shift: float = 0.0

    def __init__(self, bundle: Bundle) -> None:
        self.started = 0

    def start(self, image: Image, points: Floats) -> None:
        self.started += 1

    def track(self, image: Image, points: Floats) -> Reading | None:
        told = np.full((468, 2), np.nan, np.float32)
        told[self.keep] = self.truth[self.keep] + np.float32(self.shift)
        return Reading(told, 0.9)


class Nobody:
    """Sees no face."""

    name, summary = "nobody", ""

    def __init__(self, bundle: Bundle) -> None: ...

    def find(self, image: Image) -> list[Face]:
        return []


@pytest.fixture(scope="module")
def still(studio: Studio) -> Frame:
    (frame,) = studio.render(clip(1))
    return frame


def test_gaps_of_a_reading_are_filled_through_pose_and_shape(still: Frame, face_bundle: Bundle) -> None:
    class Gappy(Follower):
        truth, keep = still.truth.points.astype(np.float32), slice(0, 468, 4)

    ensemble = Ensemble(face_bundle, {"gappy": Gappy}, finders(load_plugins()))
    frames = [ensemble.step(still.image, 0) for _ in range(6)]
    assert [frame.tracker for frame in frames] == ["search"] + ["gappy"] * 5
    for frame in frames[1:]:
        assert frame.points is not None
        assert np.isfinite(frame.points).all()
        assert error(frame, still.truth) < 0.04


def test_a_tracker_that_is_off_does_not_speak(still: Frame, face_bundle: Bundle) -> None:
    class Honest(Follower):
        truth = still.truth.points.astype(np.float32)

    class Liar(Honest):
        shift = 25.0

    ensemble = Ensemble(face_bundle, {"honest": Honest, "liar": Liar}, finders(load_plugins()))
    spoken = [ensemble.step(still.image, 0).tracker for _ in range(25)]
    assert spoken[1:].count("honest") == 24


def test_trackers_that_agree_on_the_wrong_place_are_not_believed(still: Frame, face_bundle: Bundle) -> None:
    class Drifting(Follower):
        truth = still.truth.points.astype(np.float32)

    ensemble = Ensemble(face_bundle, {"drifting": Drifting}, finders(load_plugins()))
    for _ in range(12):
        ensemble.step(still.image, 0)
    Drifting.shift = 60.0
    after = [ensemble.step(still.image, 0) for _ in range(3)]
    assert all(error(frame, still.truth) < 0.1 or frame.confidence < 0.5 for frame in after)
    assert any(frame.redetected for frame in after)


def test_without_a_finder_that_sees_it_there_is_no_face(still: Frame, face_bundle: Bundle) -> None:
    class Knowing(Follower):
        truth = still.truth.points.astype(np.float32)

    for seers in ({"nobody": Nobody}, {}):
        frame = Ensemble(face_bundle, {"knowing": Knowing}, seers).step(still.image, 0)
        assert frame.points is None
        assert frame.reason == "no face was found"


def test_one_finder_must_see_a_face_three_times(still: Frame, face_bundle: Bundle) -> None:
    only = {"blazeface": finders(load_plugins())["blazeface"], "nobody": Nobody}
    ensemble = Ensemble(face_bundle, {}, only)
    assert [ensemble.step(still.image, 0).redetected for _ in range(5)] == [False] * 4 + [True]

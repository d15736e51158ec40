"""Textures from a real clip: a face network takes the pictures for faces, and finds the points where they are."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from fyc.asl.face.bundle import Bundle
from fyc.asl.face.detector import FaceDetector
from fyc.asl.face.landmarks import LandmarkNet, Region
from fyc.asl.synthetic.heads import outline_of
from fyc.asl.synthetic.looks import colour, draw_looks
from fyc.asl.synthetic.render import Studio
from fyc.asl.synthetic.script import COLUMN, Script, Shot, Signer
from fyc.asl.synthetic.textures import SHEET, SOURCES, read_frame, read_sheet, sheet_of
from fyc.errors import VideoError


def test_no_person_is_in_two_kinds_of_splits() -> None:
    clips = {split: {source.clip for source in sources} for split, sources in SOURCES.items()}
    assert clips["held-out"].isdisjoint(clips["fit"] | clips["calibration"])
    frames = [source for sources in SOURCES.values() for source in sources]
    assert len(frames) == len(set(frames))


def test_looks_stay_in_their_split_and_differ() -> None:
    for split, sources in SOURCES.items():
        drawn = [draw_looks(split, number) for number in range(12)]
        assert all(looks.source in sources and looks.second in sources for looks in drawn)
        assert len({looks.skin for looks in drawn}) == 12
        assert any(looks.crease == 0 for looks in drawn)
        assert any(looks.crease > 0.05 for looks in drawn)
        assert drawn[3] == draw_looks(split, 3)


def test_a_sheet_shows_a_face_in_its_middle(talking: Path, face_bundle: Bundle) -> None:
    sheet = read_sheet(SOURCES["fit"][0], face_bundle)
    assert sheet.image.shape == (SHEET, SHEET, 3)
    (face,) = FaceDetector(face_bundle.detector).find(sheet.image)
    left, _, right, _ = face.box
    assert left < SHEET / 2 < right
    assert np.array_equal(sheet.image, read_sheet(SOURCES["fit"][0], face_bundle).image)
    assert sheet.skin[SHEET // 2 : SHEET // 2 + 40, SHEET // 2 - 60 : SHEET // 2 + 60].mean() > 0.7
    assert sheet.skin[40:120, 60:120].mean() < 0.3  # hair


def test_the_shell_wears_hair_and_no_wall(face_bundle: Bundle) -> None:
    """A painted frame: skin, dark hair around it above the eyes, a neck, a green wall."""
    mesh = face_bundle.mesh
    points = mesh.vertices[:, :2] * (8, -8) + (150, 170)
    frame = np.full((320, 300, 3), (20, 170, 40), np.uint8)
    cv2.ellipse(frame, ((150, 150), (150, 210), 0), (45, 30, 22), -1)
    cv2.rectangle(frame, (60, 190), (240, 320), (20, 170, 40), -1)
    cv2.rectangle(frame, (115, 200), (185, 319), (190, 140, 115), -1)
    outline = points[outline_of(mesh)]
    cv2.fillPoly(frame, [np.round(outline).astype(np.int32)], (205, 155, 128))
    frame = np.clip(frame + np.random.default_rng(0).normal(0, 3, frame.shape), 0, 255).astype(np.uint8)
    sheet = sheet_of(frame, points, mesh).image.astype(int)
    assert sheet[330:360, 300:340].mean() > 130  # the nose
    for rows, columns in ((60, 300), (250, 25), (250, 600)):  # crown, back, left and right
        assert sheet[rows : rows + 30, columns : columns + 20].mean() < 70
    green = sheet[..., 1] > sheet[..., 0] + 40
    assert green.mean() < 0.01


def test_recolouring_changes_skin_and_keeps_the_pupils(talking: Path, face_bundle: Bundle) -> None:
    sheet = read_sheet(SOURCES["fit"][0], face_bundle)
    images = [colour(draw_looks("fit", number), sheet, sheet) for number in range(6)]
    cheeks = np.array([image[380:400, 250:270].mean() for image in images])
    assert np.ptp(cheeks) > 25


def test_a_network_finds_the_points(talking: Path, face_bundle: Bundle) -> None:
    """Ten pictures of two people; distances in units of the outer eye corners."""
    detector, net = FaceDetector(face_bundle.detector), LandmarkNet(face_bundle.landmarks)
    studio = Studio(face_bundle)
    rng = np.random.default_rng(5)
    errors = []
    for number in range(2):
        curves = np.zeros((5, len(COLUMN)))
        curves[:, COLUMN["yaw"] : COLUMN["roll"] + 1] = rng.uniform(-1, 1, (5, 3)) * (40, 25, 15)
        script = Script("look", Signer("fit", number, number, "A"), curves, (Shot(0, 50, (0, -4, -58), number),))
        for frame in studio.render(script):
            face, *_ = detector.find(frame.image)
            placed = net.place(frame.image, Region.around(face))
            placed = net.place(frame.image, Region.of_points(placed.points))
            assert placed.presence > 0.5
            points = frame.truth.points
            eyes = np.linalg.norm(studio.head(script.signer).face[33] - studio.head(script.signer).face[263])
            size = eyes * frame.truth.camera.focal / 58
            errors.append(np.linalg.norm(placed.points[:468, :2] - points, axis=1).mean() / size)
    assert len(errors) == 10
    assert np.mean(errors) < 0.055


def test_a_clip_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    damaged = tmp_path / "clip.mp4"
    damaged.write_bytes(b"no video" * 100)
    with pytest.raises(VideoError, match="FYC-V02") as caught:
        read_frame(damaged, 3)
    assert "frame 3" in caught.value.where

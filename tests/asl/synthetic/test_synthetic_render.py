"""The renderer: pictures agree with their ground truth, and come back byte by byte."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest

from fyc.asl.face.bundle import Bundle
from fyc.asl.face.camera import angles_of
from fyc.asl.synthetic.body import PIVOT
from fyc.asl.synthetic.expression import ExpressionModel
from fyc.asl.synthetic.heads import make_head
from fyc.asl.synthetic.looks import Creases, draw_looks, plain_looks
from fyc.asl.synthetic.occluders import Cutout
from fyc.asl.synthetic.projection import HEIGHT, WIDTH, Stage
from fyc.asl.synthetic.render import Person, Studio
from fyc.asl.synthetic.script import COLUMN, Occluder, Quality, Script, Shot, Signer
from fyc.asl.synthetic.textures import SHEET, SOURCES, Layout

SHOT = Shot(0, 50, (0, -4, -58), 0)
HAND = Occluder("hand", 1, 4, ((-7, -2, 9), (0, -2, 9), (7, -2, 9)), 20, 0.9, 3)


class CodedStudio(Studio):
    """Heads wear a sheet whose colours say where on it they are: no clip is needed."""

    def person(self, signer: Signer) -> Person:
        y, x = np.mgrid[0:SHEET, 0:SHEET] + 0.5
        sheet = np.stack([x / SHEET * 255, y / SHEET * 255, np.full(x.shape, 128)], axis=2).astype(np.uint8)
        creases = Creases(plain_looks(SOURCES["fit"][0]), self.mesh, self._layout)
        head = self.head(signer)
        light = np.array([0, 0, 1.0])
        return Person(sheet, creases, self.shell.place(head), head.face[self.shell.outline], light, 0.0)


@pytest.fixture(scope="module")
def studio(face_bundle: Bundle) -> CodedStudio:
    return CodedStudio(face_bundle, offline=True)


def posed(*poses: tuple[float, float, float], **parts: object) -> Script:
    curves = np.zeros((len(poses), len(COLUMN)))
    curves[:, COLUMN["yaw"] : COLUMN["roll"] + 1] = poses
    return Script("posed", Signer("fit", 1, 0, "A"), curves, (SHOT,), **parts)  # type: ignore[arg-type]


def test_points_against_a_plain_reference(face_bundle: Bundle) -> None:
    stage = Stage(face_bundle.mesh)
    script = posed((25, -10, 12), (-40, 20, 0))
    script.curves[:, COLUMN["brow_inner_left"]] = 0.4
    script.curves[:, COLUMN["z"]] = 3
    projection = stage.project(script)
    model = ExpressionModel(face_bundle.mesh, make_head(face_bundle.mesh, "fit", 1).face, "A")
    focal = 320 / np.tan(np.radians(25))
    for frame in range(2):
        face = model.deform(script.curves[frame, :10])
        assert angles_of(projection.rotations[frame]) == pytest.approx(script.curves[frame, 10:13])
        for vertex in (1, 33, 263, 152, 10):
            turned = projection.rotations[frame] @ (face[vertex] - PIVOT) + PIVOT
            x, y, z = turned - PIVOT + (0, -4, -58 + 3)
            expected = (320 + focal * x / -z, 240 - focal * y / -z)
            assert projection.points[frame, vertex] == pytest.approx(expected)
        truth = projection.frame(frame)
        assert truth.brows == pytest.approx([0.4, 0, 0, 0], abs=0.01)
        placed = face @ truth.rotation.T + truth.translation
        assert truth.camera.project(placed) == pytest.approx(truth.points)


def _frontal(studio: CodedStudio, pose: tuple[float, float, float]) -> np.ndarray:
    """Which vertices are seen at less than 70 degrees: at more, a pixel is a long way on the sheet."""
    projection = studio.project(posed(pose))
    rotation, translation, face = projection.rotations[0], projection.translations[0], projection.faces[0]
    placed = face @ rotation.T + translation
    sight = -placed / np.linalg.norm(placed, axis=1, keepdims=True)
    facing: np.ndarray = ((studio.mesh.normals(face) @ rotation.T) * sight).sum(axis=1) > np.cos(np.radians(70))
    return facing


@pytest.mark.parametrize("pose", [(0, 0, 0), (35, 0, 0), (-35, 15, 10), (10, -25, -20), (65, 0, 0)])
def test_visible_points_show_their_place_on_the_sheet(studio: CodedStudio, pose: tuple[float, float, float]) -> None:
    (frame,) = studio.render(posed(pose))
    layout = Layout(studio.mesh, studio.shell)
    truth = frame.truth
    rows, columns = np.floor(truth.points[:, 1]).astype(int), np.floor(truth.points[:, 0]).astype(int)
    seen = frame.image[rows, columns, :2].astype(float) / 255 * SHEET
    distance = np.linalg.norm(seen - layout.points[:468], axis=1)
    lips = np.isin(np.arange(468), studio.mesh.triangles[layout.mouth])  # they border on the inside of the mouth
    assert (truth.visible & ~lips).sum() > 150
    assert np.median(distance[truth.visible & ~lips]) < 5
    inner = truth.visible & ~lips & ~np.isin(np.arange(468), studio.shell.outline) & _frontal(studio, pose)
    assert inner.sum() > 100
    assert np.mean(distance[inner] < 20) > 0.99
    if abs(pose[0]) > 60:
        assert not truth.visible[studio.mesh.vertices[:, 0] > 6].any()  # the far cheek of a profile view


def test_a_frontal_face_is_seen_and_its_outline_is_not_always(studio: CodedStudio) -> None:
    front, turned = (frame.truth for frame in studio.render(posed((0, 0, 0), (45, 0, 0))))
    assert front.visible.mean() > 0.9
    assert 0.45 < turned.visible.mean() < 0.85
    assert front.cover == 0


def test_the_same_script_gives_the_same_bytes(studio: CodedStudio) -> None:
    script = posed((0, 0, 0), (5, 0, 0), (9, 3, 0), occluders=(HAND,), quality=Quality(1.5, 0.8, 0.5, 0.6, 6))
    prints = [[hashlib.sha256(frame.image.tobytes()).hexdigest() for frame in studio.render(script)] for _ in range(2)]
    assert prints[0] == prints[1]
    assert len(set(prints[0])) == 3
    other = next(studio.render(replace(script, shots=(replace(SHOT, background=3),))))
    assert hashlib.sha256(other.image.tobytes()).hexdigest() != prints[0][0]


def test_frames_come_one_by_one(studio: CodedStudio) -> None:
    script = posed(*[(0, 0, 0)] * 100_000)
    script = replace(script, curves=script.curves[:50])
    frames = studio.render(script)
    assert next(frames).truth.frame == 0
    assert next(frames).truth.frame == 1


def test_a_hand_covers_what_it_says(studio: CodedStudio) -> None:
    script = posed(*[(0, 0, 0)] * 5, occluders=(HAND,))
    bare = [frame.image for frame in studio.render(replace(script, occluders=()))]
    frames = list(studio.render(script))
    covers = [frame.truth.cover for frame in frames]
    assert covers[0] == covers[4] == 0
    assert covers[2] > max(covers[1], covers[3]) > 0
    assert covers[2] > 0.3
    for frame, without in zip(frames, bare, strict=True):
        changed = np.abs(frame.image.astype(int) - without).max(axis=2) > 0
        rows, columns = np.floor(frame.truth.points).astype(int).T[::-1]
        assert not (changed[rows, columns] & frame.truth.visible).mean() > 0.02
    assert frames[2].truth.visible.sum() < frames[0].truth.visible.sum()


def test_a_panel_hides_half_of_the_face(studio: CodedStudio) -> None:
    panel = Occluder("panel", 0, 1, ((6.3, 0, 9),), 0, 1, 0)
    (frame,) = studio.render(posed((0, 0, 0), occluders=(panel,)))
    assert 0.4 < frame.truth.cover < 0.6
    left = studio.mesh.vertices[:, 0] > 2
    assert not frame.truth.visible[left].any()
    assert frame.truth.visible[studio.mesh.vertices[:, 0] < -2].mean() > 0.8


def test_black_frames_have_no_face(studio: CodedStudio) -> None:
    frames = list(studio.render(posed(*[(0, 0, 0)] * 3, blackouts=((1, 2),))))
    assert [frame.truth.face for frame in frames] == [True, False, True]
    assert frames[1].image.max() == 0
    assert not frames[1].truth.visible.any()


def test_a_cut_changes_the_shot(studio: CodedStudio) -> None:
    shots = (SHOT, Shot(2, 35, (4, -6, -80), 5))
    frames = list(studio.render(replace(posed(*[(0, 0, 0)] * 4), shots=shots)))
    assert [frame.truth.shot for frame in frames] == [0, 0, 1, 1]
    assert frames[2].truth.camera.focal > frames[1].truth.camera.focal
    assert np.linalg.norm(frames[2].truth.points - frames[1].truth.points, axis=1).mean() > 15


def test_a_second_person_stands_behind(studio: CodedStudio) -> None:
    alone = next(studio.render(posed((0, 0, 0))))
    beside = replace(SHOT, bystander=Signer("fit", 3, 0, "A"))
    both = next(studio.render(replace(posed((0, 0, 0)), shots=(beside,))))
    assert np.array_equal(alone.truth.points, both.truth.points)
    changed = np.abs(alone.image.astype(int) - both.image).max(axis=2) > 10
    assert changed[:, 400:].mean() > 0.05
    assert changed[:, :240].mean() < 0.01


def test_the_camera_spoils_pictures(studio: CodedStudio) -> None:
    script = posed((0, 0, 0), (12, 0, 0))
    plain = [frame.image.astype(float) for frame in studio.render(script)]

    def taken(**faults: float) -> np.ndarray:
        return list(studio.render(script.degraded(Quality(**faults))))[1].image.astype(float)

    def detail(image: np.ndarray) -> float:
        return float(np.abs(np.diff(image, axis=1)).mean())

    assert taken(gain=0.3).mean() == pytest.approx(0.3 * plain[1].mean(), rel=0.05)
    assert detail(taken(blur=3)) < 0.8 * detail(plain[1])
    assert detail(taken(shrink=4)) < 0.8 * detail(plain[1])
    assert detail(taken(shutter=1.0)) < detail(plain[1])
    assert (taken(noise=8) - plain[1]).std() == pytest.approx(8, rel=0.15)


def test_creases_follow_the_brows(studio: CodedStudio) -> None:
    looks = replace(draw_looks("fit", 1), crease=0.2)
    creases = Creases(looks, studio.mesh, Layout(studio.mesh, studio.shell))
    sheet = np.full((SHEET, SHEET, 3), 200, np.uint8)
    assert creases.draw(sheet, np.zeros(4)) is sheet
    left = creases.draw(sheet, np.array([0.5, 0.5, 0, 0])).astype(int)
    assert np.abs(left - 200)[:, 360:].max() > 15
    assert np.abs(left - 200)[:, :270].max() <= 2
    frown = creases.draw(sheet, np.full(4, -0.5)).astype(int)
    assert np.abs(frown - 200)[:, 290:350].max() > 10


@pytest.mark.parametrize("seed", range(6))
def test_hands_are_distinct_and_have_a_palm(seed: int) -> None:
    skin, cloth = np.array([180, 140, 120.0]), np.array([20, 30, 200.0])
    cutout = Cutout(Occluder("hand", 0, 1, ((0, 0, 8),), 0, 1, seed), skin, cloth)
    assert np.array_equal(cutout.alpha, Cutout(Occluder("hand", 0, 1, ((0, 0, 8),), 0, 1, seed), skin, cloth).alpha)
    assert 0.1 < (cutout.alpha > 127).mean() < 0.6
    top = cutout.alpha[: cutout.alpha.shape[0] // 4]
    assert (top > 127).any()


def test_the_picture_has_the_size_of_the_truth(studio: CodedStudio) -> None:
    frame = next(studio.render(posed((0, 0, 0))))
    assert frame.image.shape == (HEIGHT, WIDTH, 3)
    assert frame.image.dtype == np.uint8

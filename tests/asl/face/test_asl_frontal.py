"""The canonical view, against pictures of which every pixel is known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from fyc.asl.face.bundle import Bundle
from fyc.asl.face.camera import Camera, rotation_of
from fyc.asl.face.frontal import FrontalWarp
from fyc.asl.face.mesh import FaceMesh

pytestmark = pytest.mark.assets

SIZE = 96


@pytest.fixture(scope="module")
def mesh(face_bundle: Bundle) -> FaceMesh:
    return face_bundle.mesh


@pytest.fixture(scope="module")
def warp(mesh: FaceMesh) -> FrontalWarp:
    return FrontalWarp(mesh, SIZE)


def seen(mesh: FaceMesh, yaw: float, pitch: float, roll: float) -> np.ndarray:
    """(468, 2) pixels of the canonical face in a picture of 640x480."""
    turned = mesh.vertices @ rotation_of(yaw, pitch, roll).T
    return Camera.for_picture(640, 480).project(turned - np.array([0, 0, 45]))


def test_the_view_of_the_texture_map_is_the_texture_map(mesh: FaceMesh, warp: FrontalWarp) -> None:
    texture = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    view = warp.warp(texture, mesh.uv * SIZE)
    assert view.visible.mean() > 0.6
    assert np.abs(view.image[view.visible].astype(int) - texture[view.visible]).max() <= 4
    assert not view.image[: SIZE // 20].any()  # above the forehead


@pytest.mark.parametrize("angles", [(0, 0, 0), (15, -10, 25), (-25, 5, -80)])
def test_a_pixel_of_the_view_shows_its_place_on_the_face(
    angles: tuple[float, float, float], mesh: FaceMesh, warp: FrontalWarp
) -> None:
    """A picture that shows its own coordinates; checked in the middles of triangles, without the warp's own tables."""
    rows, columns = np.mgrid[0:480, 0:640]
    picture = np.stack([columns // 4, rows // 2, columns * 0], axis=2).astype(np.uint8)
    points = seen(mesh, *angles)
    view = warp.warp(picture, points)
    checked = 0
    for triangle in mesh.triangles:
        column, row = (mesh.uv[triangle].mean(axis=0) * SIZE - 0.5).round().astype(int)
        if not view.visible[row, column]:
            continue
        corners = mesh.uv[triangle] * SIZE - 0.5
        shares = np.linalg.solve(np.vstack([corners.T, np.ones(3)]), (column, row, 1.0))
        if shares.min() < 0.05:
            continue
        x, y = shares @ points[triangle] - 0.5
        assert np.allclose(view.image[row, column, :2], (x / 4, y / 2), atol=1.6)
        checked += 1
    assert checked > 150


@pytest.mark.parametrize(("yaw", "hidden_side"), [(45, "right"), (-45, "left")])
def test_the_side_that_turns_away_is_invisible(yaw: float, hidden_side: str, mesh: FaceMesh, warp: FrontalWarp) -> None:
    picture = np.full((480, 640), 200, np.uint8)
    view = warp.warp(picture, seen(mesh, yaw, 0, 0))
    left, right = view.visible[:, : SIZE // 2].mean(), view.visible[:, SIZE // 2 :].mean()
    assert (left > 1.5 * right) == (hidden_side == "right")


def test_what_lies_outside_of_the_picture_is_invisible(mesh: FaceMesh, warp: FrontalWarp) -> None:
    points = seen(mesh, 0, 0, 0)
    half = np.full((480, round(points[:, 0].mean()), 3), 90, np.uint8)
    view = warp.warp(half, points)
    assert view.visible[:, : SIZE // 2 - 1].mean() > 0.5
    assert view.visible[:, SIZE // 2 + 2 :].mean() == 0
    assert not warp.warp(half, points + 5000).visible.any()


def test_pose_leaves_the_view_alone(mesh: FaceMesh, warp: FrontalWarp) -> None:
    """A face painted with a smooth pattern shows the same pattern from any side, where it is seen at all."""
    rows, columns = np.mgrid[0:256, 0:256]
    texture = (128 + 60 * np.sin(columns / 17) + 50 * np.cos(rows / 23)).astype(np.uint8)

    def painted(points: np.ndarray) -> np.ndarray:
        picture = np.zeros((480, 640), np.uint8)
        for triangle in mesh.triangles[np.argsort(-points[mesh.triangles].mean(axis=(1, 2)))]:
            corners = points[triangle].astype(np.float32)
            source = (mesh.uv[triangle] * 256).astype(np.float32)
            matrix = cv2.getAffineTransform(source, corners)
            part = cv2.warpAffine(texture, matrix, (640, 480), flags=cv2.INTER_LINEAR)
            mask = np.zeros_like(picture)
            cv2.fillConvexPoly(mask, np.round(corners * 16).astype(np.int32), 1, shift=4)
            picture[mask > 0] = part[mask > 0]
        return picture

    views = []
    for yaw in (0, 20):
        points = seen(mesh, yaw, 5, 0)
        views.append(warp.warp(painted(points), points))
    both = views[0].visible & views[1].visible
    difference = np.abs(views[0].image.astype(int) - views[1].image)[both]
    assert both.mean() > 0.4
    assert np.median(difference) <= 3


def test_what_is_covered_is_not_visible(mesh: FaceMesh, warp: FrontalWarp) -> None:
    """The left half is covered: nothing of it is visible, the right one is as before."""
    picture = np.full((480, 640), 90, np.uint8)
    points = seen(mesh, 0, 0, 0)
    free = warp.warp(picture, points).visible
    half = warp.warp(picture, points, mesh.vertices[:, 0] > 0).visible
    columns = np.arange(SIZE)
    assert not half[:, columns > 0.6 * SIZE].any()
    assert np.array_equal(half[:, columns < 0.4 * SIZE], free[:, columns < 0.4 * SIZE])

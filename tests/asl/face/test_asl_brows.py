"""Brows in the canonical view of a real face, moved by known distances."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from fyc.asl.face.brows import BROW_PARTS, BrowGauge
from fyc.asl.face.bundle import Bundle
from fyc.asl.face.detector import FaceDetector, Image
from fyc.asl.face.frontal import FrontalView, FrontalWarp
from fyc.asl.face.landmarks import LandmarkNet, Region

pytestmark = pytest.mark.assets

SIZE = 160


@pytest.fixture(scope="module")
def view(talking_frames: list[Image], face_bundle: Bundle) -> FrontalView:
    """The canonical view of a real face, grey."""
    frame = talking_frames[0]
    region = Region.around(FaceDetector(face_bundle.detector).find(frame)[0])
    points = LandmarkNet(face_bundle.landmarks).place(frame, region).points
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    return FrontalWarp(face_bundle.mesh, SIZE).warp(grey, points)


@pytest.fixture(scope="module")
def gauge(view: FrontalView, face_bundle: Bundle) -> BrowGauge:
    return BrowGauge(face_bundle.mesh, view.image)


def moved(view: FrontalView, up: float, *, side: str = "both", everything: bool = False) -> FrontalView:
    """The view with the brows (or all of it) some pixels higher; above and below, the skin is stretched."""
    rows, columns = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)
    brow, lids = 45, 56  # rows of the view
    share = np.ones_like(rows) if everything else np.clip((lids - brow - np.abs(rows - brow)) / 5, 0, 1)
    if side != "both":
        share *= (columns > SIZE / 2) == (side == "left")
    return FrontalView(cv2.remap(view.image, columns, rows + up * share, cv2.INTER_CUBIC), view.visible)


@pytest.mark.parametrize("up", [-3, -1.5, 0, 1, 2, 3])
def test_brows_go_up_by_what_they_were_moved(up: float, view: FrontalView, gauge: BrowGauge) -> None:
    heights = gauge.measure(moved(view, up))
    assert heights.shape == (len(BROW_PARTS),)
    assert np.allclose(heights * gauge.pixels_per_cm, up, atol=0.6)
    assert abs(heights.mean() * gauge.pixels_per_cm - up) < 0.4


def test_one_side_alone(view: FrontalView, gauge: BrowGauge) -> None:
    for side, sign in (("left", 1), ("right", -1)):
        left, right = gauge.measure(moved(view, 3, side=side)).reshape(2, 2).mean(axis=1) * gauge.pixels_per_cm
        assert sign * (left - right) > 2


def test_a_face_that_moves_as_a_whole_raises_nothing(view: FrontalView, gauge: BrowGauge) -> None:
    assert np.allclose(gauge.measure(moved(view, 2, everything=True)) * gauge.pixels_per_cm, 0, atol=0.3)


def test_light_does_not_move_brows(view: FrontalView, gauge: BrowGauge) -> None:
    darker = FrontalView((view.image * 0.6 + 20).astype(np.uint8), view.visible)
    assert np.allclose(gauge.measure(darker) * gauge.pixels_per_cm, 0, atol=0.2)


def test_what_is_not_seen_is_not_measured(view: FrontalView, gauge: BrowGauge) -> None:
    visible = view.visible.copy()
    visible[:, : SIZE // 2] = False
    heights = gauge.measure(FrontalView(view.image, visible))
    assert np.isfinite(heights[:2]).all()
    assert np.isnan(heights[2:]).all()


def test_a_hand_before_a_brow_is_not_a_brow(view: FrontalView, gauge: BrowGauge) -> None:
    """What looks nothing like the brow at rest is not measured, wherever it is; the other side still is."""
    image = view.image.copy()
    stripes = np.where(np.arange(SIZE)[:, None] % 7 < 3, 250, 10)
    image[:, : SIZE // 2] = np.broadcast_to(stripes, (SIZE, SIZE // 2))
    heights = gauge.measure(FrontalView(image, view.visible))
    assert np.isnan(heights[2:]).all()
    assert np.isfinite(heights[:2]).all()


def test_eyes_that_close_raise_nothing(view: FrontalView, gauge: BrowGauge, face_bundle: Bundle) -> None:
    """The skin below the brow covers the eye; this once seemed a raise of half a centimetre."""
    image = view.image.copy()
    for corners in ((33, 133), (362, 263)):
        (left, top), (right, bottom) = (
            face_bundle.mesh.uv[list(corners)].min(0),
            face_bundle.mesh.uv[list(corners)].max(0),
        )
        rows = slice(int(top * SIZE) - 6, int(bottom * SIZE) + 7)
        columns = slice(int(left * SIZE), int(right * SIZE) + 1)
        skin = image[rows.start - 1, columns].astype(np.float32)
        image[rows, columns] = skin
    closed = gauge.measure(FrontalView(image, view.visible))
    assert np.abs(closed).max() < 0.15

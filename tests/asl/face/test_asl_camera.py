"""Angles of a head and the camera, against rotations put together axis by axis."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fyc.asl.face.camera import Camera, angles_of, rotation_of

turn = st.floats(-179, 179)
tilt = st.floats(-89, 89)


def about(axis: int, degrees: float) -> np.ndarray:
    """A right-handed rotation about a coordinate axis."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    matrix = np.eye(3)
    first, second = (axis + 1) % 3, (axis + 2) % 3
    matrix[first, first] = matrix[second, second] = cos
    matrix[first, second], matrix[second, first] = -sin, sin
    return matrix


@given(turn, tilt, turn)
def test_a_rotation_is_three_turns(yaw: float, pitch: float, roll: float) -> None:
    expected = about(1, yaw) @ about(0, -pitch) @ about(2, -roll)
    assert np.allclose(rotation_of(yaw, pitch, roll), expected)


@given(turn, tilt, turn)
def test_angles_come_back(yaw: float, pitch: float, roll: float) -> None:
    found = angles_of(rotation_of(yaw, pitch, roll))
    assert np.allclose(found, (yaw, pitch, roll), atol=1e-6)


def test_many_at_once() -> None:
    angles = np.random.default_rng(0).uniform(-60, 60, (4, 5, 3))
    rotations = rotation_of(*np.moveaxis(angles, -1, 0))
    assert rotations.shape == (4, 5, 3, 3)
    assert np.allclose(angles_of(rotations), angles)


def test_the_signs_are_those_of_the_picture() -> None:
    """A face of a nose and an upper end, 60 cm from the camera."""
    camera = Camera.for_picture(640, 480)
    face = np.array([[0, 0, 3.0], [0, 8, 0], [0, 0, 0]])

    def seen(yaw: float, pitch: float, roll: float) -> np.ndarray:
        return camera.project(face @ rotation_of(yaw, pitch, roll).T + (0, 0, -60))

    assert seen(20, 0, 0)[0, 0] > 320  # the nose goes to the right
    assert seen(0, 20, 0)[0, 1] < 240  # and up, where rows are counted from the top
    assert seen(0, 0, 20)[1, 0] > 320  # the upper end goes clockwise
    assert np.allclose(seen(0, 0, 0)[2], (320, 240))


@given(st.floats(-20, 20), st.floats(-20, 20), st.floats(-200, -20), st.floats(10, 100))
def test_a_ray_goes_through_what_is_seen(x: float, y: float, z: float, view: float) -> None:
    camera = Camera.for_picture(480, 640, view)
    point = np.array([x, y, z])
    assert np.allclose(camera.rays(camera.project(point)), point / np.linalg.norm(point))


def test_the_field_of_view_is_that_of_the_longer_side() -> None:
    camera = Camera.for_picture(640, 480, 60)
    rays = camera.rays(np.array([[0.0, 240], [640, 240]]))
    assert math.isclose(math.degrees(math.acos(rays[0] @ rays[1])), 60)

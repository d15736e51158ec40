"""Contours run along the mesh, and are where their names say."""

from __future__ import annotations

import numpy as np

from fyc.asl.face.bundle import Bundle
from fyc.asl.face.contours import CONTOURS, contour_edges, mesh_edges


def test_contours_run_along_edges_of_the_mesh(face_bundle: Bundle) -> None:
    edges = {tuple(pair) for pair in mesh_edges(face_bundle.mesh)}
    wanted = {tuple(sorted(pair)) for pair in contour_edges().tolist()}
    assert wanted <= edges


def test_left_and_right_mirror_each_other(face_bundle: Bundle) -> None:
    mesh = face_bundle.mesh
    for name in ("brow", "eye"):
        left, right = CONTOURS[f"{name}_left"].points, CONTOURS[f"{name}_right"].points
        assert {int(mesh.mirror[point]) for point in left} == set(right)
        assert (mesh.vertices[list(left), 0] > 0).all()
    for name in ("oval", "lips_outer", "lips_inner", "nose"):
        points = CONTOURS[name].points
        assert {int(mesh.mirror[point]) for point in points} == set(points)


def test_parts_of_the_face_lie_above_each_other(face_bundle: Bundle) -> None:
    heights = {name: face_bundle.mesh.vertices[list(part.points), 1] for name, part in CONTOURS.items()}
    assert heights["brow_left"].min() > heights["eye_left"].max()
    assert heights["eye_left"].min() > heights["lips_outer"].max()
    assert np.ptp(heights["lips_inner"]) < np.ptp(heights["lips_outer"])
    assert heights["oval"].max() > heights["brow_left"].max()

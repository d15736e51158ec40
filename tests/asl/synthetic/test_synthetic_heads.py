"""Synthetic heads: seeds, splits, shapes, and the shell around the face."""

from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np
import pytest

from fyc.asl.face.bundle import Bundle
from fyc.asl.synthetic.heads import HEAD_SPLITS, Shell, canonical_head, make_head, outline_of
from fyc.asl.synthetic.seeds import generator


def test_names_are_seeds() -> None:
    assert generator("a", 1).integers(2**62) == generator("a", 1).integers(2**62)
    drawn = {int(generator(*name).integers(2**62)) for name in [("a", 1), ("a", 2), ("a", 1, 0), ("b", 1), ("a1",)]}
    assert len(drawn) == 5


def test_seeds_are_those_of_the_committed_bench() -> None:
    """Whoever changes this number makes another bench: all figures must be measured again."""
    assert int(generator("pinned").integers(2**62)) == 1765775892520509451


def test_heads_are_distinct_and_come_back(face_bundle: Bundle) -> None:
    prints = []
    for split, count in HEAD_SPLITS.items():
        for number in range(count):
            head = make_head(face_bundle.mesh, split, number)
            assert np.array_equal(head.face, make_head(face_bundle.mesh, split, number).face)
            prints.append(hashlib.sha256(head.face.tobytes()).hexdigest())
    assert len(set(prints)) == sum(HEAD_SPLITS.values())


def test_a_head_beyond_its_split_is_refused(face_bundle: Bundle) -> None:
    with pytest.raises(IndexError, match="held-out has"):
        make_head(face_bundle.mesh, "held-out", HEAD_SPLITS["held-out"])


def test_shapes_vary_as_documented(face_bundle: Bundle) -> None:
    mesh = face_bundle.mesh
    heads = [make_head(mesh, "fit", number) for number in range(HEAD_SPLITS["fit"])]
    scales = np.array([head.scale for head in heads])
    assert np.all(np.abs(scales[:, :2] - 1) <= 0.08)
    assert np.all(np.abs(scales[:, 2] - 1) <= 0.25)
    assert scales[:, 2].std() > 0.1
    for head in heads:
        shape = head.face / head.scale - mesh.vertices
        assert np.abs(shape).max() < 1.0
        mirrored = head.face[mesh.mirror] * (-1, 1, 1)
        assert 0.02 < np.abs(head.face - mirrored).max() < 1.2


def test_the_outline_is_one_loop_around_the_face(face_bundle: Bundle) -> None:
    mesh = face_bundle.mesh
    outline = outline_of(mesh)
    assert len(outline) == len(set(outline.tolist())) == 36
    assert 10 in outline  # the top of the forehead
    assert 152 in outline  # the chin
    x, y, _ = mesh.vertices[outline].T
    assert (x * np.roll(y, -1) - np.roll(x, -1) * y).sum() > 0


def test_face_and_shell_are_a_closed_surface(face_bundle: Bundle) -> None:
    mesh = face_bundle.mesh
    shell = Shell(mesh)
    edges: Counter[tuple[int, int]] = Counter()
    for a, b, c in np.concatenate([mesh.triangles, shell.triangles]).tolist():
        edges.update([(a, b), (b, c), (c, a)])
    assert set(edges.values()) == {1}
    assert all((b, a) in edges for a, b in edges)


@pytest.mark.parametrize("number", [0, 5])
def test_the_shell_surrounds_the_face(face_bundle: Bundle, number: int) -> None:
    mesh = face_bundle.mesh
    shell = Shell(mesh)
    for head in (canonical_head(mesh), make_head(mesh, "fit", number)):
        points = shell.place(head)
        everything = np.concatenate([head.face, points])
        corners = everything[np.concatenate([mesh.triangles, shell.triangles])]
        volume = np.einsum("ij,ij->i", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])).sum() / 6
        assert 2500 < volume < 7000  # cubic centimetres: a head has about 4500
        assert points[:, 1].max() > head.face[:, 1].max() + 2  # the crown
        assert points[:, 2].min() < -10  # the back


def test_the_shell_follows_the_jaw(face_bundle: Bundle) -> None:
    shell = Shell(face_bundle.mesh)
    moved = np.zeros((len(shell.outline), 3))
    moved[3] = (0, -1, 0)
    followed = shell.follow(moved)
    assert followed.shape == (shell.vertices, 3)
    assert np.allclose(followed[3], (0, -2 / 3, 0))
    assert np.allclose(followed[3 + 3 * 36], 0)

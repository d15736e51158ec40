"""The learned modes of faces, and the files they were learned from."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fyc.asl.face.bundle import Bundle
from fyc.asl.face.deformation import load_basis
from fyc.asl.face.mesh import FaceMesh
from fyc.asl.pose_file import read_face
from tests.asl.conftest import fetched


@pytest.fixture(scope="module")
def mesh(face_bundle: Bundle) -> FaceMesh:
    return face_bundle.mesh


def test_modes_are_orthogonal_and_fall_off() -> None:
    basis = load_basis()
    for modes in (basis.persons, basis.expressions):
        flat = modes.reshape(len(modes), -1)
        sizes = np.linalg.norm(flat, axis=1)
        assert (np.diff(sizes) < 1e-3).all()
        directions = flat / sizes[:, None]
        assert np.allclose(directions @ directions.T, np.eye(len(modes)), atol=5e-3)


@pytest.mark.assets
def test_faces_deform_on_both_sides_alike(mesh: FaceMesh) -> None:
    """Mirrored, every mode is a mode with the same or the opposite sign."""
    basis = load_basis()
    for modes in (basis.persons, basis.expressions):
        flat = modes.reshape(len(modes), -1)
        flipped = (modes[:, mesh.mirror] * (-1, 1, 1)).reshape(len(modes), -1)
        likeness = np.einsum("mi,mi->m", flat, flipped) / np.einsum("mi,mi->m", flat, flat)
        assert np.allclose(np.abs(likeness), 1, atol=0.02)
    assert np.allclose(basis.mobility[mesh.mirror], basis.mobility, atol=1e-3)


def test_mouth_and_lids_move_most_and_the_bridge_of_the_nose_least() -> None:
    basis = load_basis()
    mouth, lid, brow, bridge = (
        basis.mobility[list(points)].mean() for points in ((14, 17), (159, 386), (66, 296), (6, 197))
    )
    assert mouth > brow > bridge
    assert lid > bridge
    rigidity = basis.rigidity()
    assert rigidity[6] > 5 * rigidity[17]
    assert np.isclose(basis.rigidity(float(basis.mobility[17]))[17], 0.5)


def pose_file(
    points: np.ndarray, *, version: float = 0.2, rate: float = 25.0, size: tuple[int, int] = (640, 480)
) -> bytes:
    """A file of the face and a hand: points (frames, people, n + 2, 3), of which the last two are the hand's."""
    frames, people, count, _ = points.shape
    parts = [struct.pack("<fHHHH", version, *size, 0, 2)]
    for name, number in (("FACE_LANDMARKS", count - 2), ("HAND", 2)):
        for text in (name, "XYZC"):
            parts.append(struct.pack(f"<H{len(text)}s", len(text), text.encode()))
        parts.append(struct.pack("<HHH", number, 1, 1))
        parts += [struct.pack("<H2s", 2, b"pt") for _ in range(number)]
        parts.append(struct.pack("<HHHHH", 0, 1, 255, 0, 0))
    form = "<fIH" if version == 0.2 else "<HHH"
    parts.append(struct.pack(form, rate if version == 0.2 else int(rate), frames, people))
    parts += [points.astype("<f4").tobytes(), np.full(points.shape[:3], 0.5, "<f4").tobytes()]
    return b"".join(parts)


POINTS = np.random.default_rng(0).normal(size=(4, 2, 7, 3)).astype(np.float32)


@pytest.mark.parametrize("version", [0.1, 0.2])
def test_the_face_of_the_first_person(version: float) -> None:
    clip = read_face(pose_file(POINTS, version=version))
    assert (clip.rate, clip.size) == (25.0, (640, 480))
    assert np.array_equal(clip.points, POINTS[:, 0, :5])
    assert clip.confidence.shape == (4, 5)


@given(st.integers(0, len(pose_file(POINTS)) - 1))
def test_a_file_that_was_cut(length: int) -> None:
    with pytest.raises(ValueError, match=r"\.pose file"):
        read_face(pose_file(POINTS)[:length])


@given(st.binary(max_size=200))
def test_another_file(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"\.pose file"):
        read_face(data)


@pytest.mark.slow
@pytest.mark.assets
def test_six_hundred_clips_of_signers() -> None:
    """Every one can be read, and in nearly every frame there is a face."""
    with zipfile.ZipFile(fetched("signer-poses")) as archive:
        names = [name for name in archive.namelist() if Path(name).suffix == ".pose"]
        clips = [read_face(archive.read(name)) for name in names]
    assert len(clips) == 600
    assert {clip.points.shape[1:] for clip in clips} == {(478, 3)}
    shares = np.concatenate([(clip.confidence[:, :468] > 0).all(axis=1) for clip in clips])
    assert len(shares) > 15_000
    assert shares.mean() > 0.99

"""The canonical mesh and the bundle it comes in."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fyc.asl.face.bundle import Bundle, load_bundle
from fyc.asl.face.mesh import POINTS, FaceMesh, read_mesh
from fyc.errors import AssetError

pytestmark = pytest.mark.assets


@pytest.fixture(scope="module")
def mesh(face_bundle: Bundle) -> FaceMesh:
    return face_bundle.mesh


@pytest.fixture(scope="module")
def metadata(landmarker_file: Path) -> bytes:
    with zipfile.ZipFile(landmarker_file) as archive:
        return archive.read("geometry_pipeline_metadata_landmarks.binarypb")


def test_a_face_in_centimetres(mesh: FaceMesh) -> None:
    assert mesh.vertices.shape == (POINTS, 3)
    assert mesh.uv.shape == (POINTS, 2)
    assert mesh.triangles.shape == (898, 3)
    assert mesh.rigid.shape == mesh.rigid_weights.shape == (33,)
    width, height, depth = np.ptp(mesh.vertices, axis=0)
    assert (15 < width < 16, 17 < height < 18, 9 < depth < 11) == (True, True, True)
    assert mesh.uv.min() >= 0
    assert mesh.uv.max() <= 1


def test_every_vertex_has_a_mirror_image(mesh: FaceMesh) -> None:
    assert np.array_equal(mesh.mirror[mesh.mirror], np.arange(POINTS))
    assert np.allclose(mesh.vertices[mesh.mirror], mesh.vertices * (-1, 1, 1))
    assert mesh.mirror[33] == 263
    assert mesh.mirror[1] == 1


def test_normals_point_outwards(mesh: FaceMesh) -> None:
    normals = mesh.normals()
    assert np.allclose(np.linalg.norm(normals, axis=1), 1)
    assert normals[1, 2] > 0.9  # the tip of the nose
    assert normals[234, 0] < 0 < normals[454, 0]  # the cheeks
    assert np.allclose(mesh.normals(mesh.vertices * 2 + 1), normals)


@given(st.binary(max_size=400))
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        read_mesh(data)


@given(st.integers(0, 19_375), st.integers(1, 255))
def test_a_damaged_mesh_is_refused_or_is_a_mesh(metadata: bytes, at: int, change: int) -> None:
    data = bytearray(metadata)
    data[at] ^= change
    try:
        mesh = read_mesh(bytes(data))
    except ValueError:
        return
    assert mesh.vertices.shape == (POINTS, 3)
    assert mesh.triangles.max() < POINTS


@pytest.mark.parametrize("content", ["nothing", "text", "empty zip", "cut"])
def test_another_file_than_a_bundle(content: str, landmarker_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.task"
    if content == "text":
        path.write_text("not a bundle", encoding="utf-8")
    elif content == "empty zip":
        zipfile.ZipFile(path, "w").close()
    elif content == "cut":
        path.write_bytes(landmarker_file.read_bytes()[:1_000_000])
    with pytest.raises(AssetError, match="FYC-D03") as caught:
        load_bundle(path)
    assert caught.value.where == str(path)

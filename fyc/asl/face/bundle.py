"""The face landmarker bundle: two networks and the mesh, from the asset `face-landmarker`."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

from fyc.asl.face.mesh import FaceMesh, read_mesh
from fyc.assets import fetch
from fyc.errors import AssetError


@dataclass(frozen=True)
class Bundle:
    """What a `.task` file holds that we use.

    Attributes:
        detector: a LiteRT network that finds faces (BlazeFace, short range).
        landmarks: a LiteRT network that places 478 points on a face.
        mesh: the canonical face.
    """

    detector: bytes
    landmarks: bytes
    mesh: FaceMesh


def load_bundle(path: Path | None = None, *, offline: bool = False) -> Bundle:
    """Read a face landmarker bundle.

    Args:
        path: a `.task` file; None fetches the asset `face-landmarker`.
        offline: do not use the network.

    Raises:
        AssetError: FYC-D02 if it cannot be fetched, FYC-D03 if it is damaged or something else.
    """
    file = path or fetch("face-landmarker", offline=offline)
    try:
        with zipfile.ZipFile(file) as archive:
            return Bundle(
                archive.read("face_detector.tflite"),
                archive.read("face_landmarks_detector.tflite"),
                read_mesh(archive.read("geometry_pipeline_metadata_landmarks.binarypb")),
            )
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise AssetError(
            "FYC-D03", "this is not a face landmarker bundle, or a damaged one", where=str(file), why=str(error),
            next="fetch it again with `fyc assets fetch face-landmarker`",
        ) from error  # fmt: skip

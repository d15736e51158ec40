"""Learn how faces deform from landmarks of signers, and write `fyc/asl/data/face_basis.safetensors`.

    python bench/asl_basis.py [-o FILE]

The data is the asset `signer-poses`: 600 clips in which signers of some twenty sign languages fingerspell, with 478
landmarks a frame. Every frame is turned to the canonical mesh by a similarity that fits vertices which expressions move
little. A person is the mean of a clip; an expression is a frame less the median of its clip. Each is taken with its
mirror image. Depths in the files have a scale of their own, which is found clip by clip, where the frames fit best.
"""

from __future__ import annotations

import argparse
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from fyc.asl.face.bundle import load_bundle
from fyc.asl.face.deformation import FILE
from fyc.asl.face.mesh import FaceMesh
from fyc.asl.pose_file import read_face
from fyc.assets import fetch

PERSONS, EXPRESSIONS = 10, 16
DEPTHS = np.geomspace(100, 900, 45)
TARGET = Path(__file__).parents[1] / "fyc" / "asl" / "data" / FILE


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, default=TARGET)
    output = parser.parse_args().output
    mesh = load_bundle().mesh
    clips = [aligned(frames, mesh) for frames in clips_of(fetch("signer-poses"))]
    persons = np.stack([clip.mean(axis=0) for clip in clips]) - mesh.vertices
    expressions = np.concatenate([clip - np.median(clip, axis=0) for clip in clips])
    print(f"{len(clips)} clips, {len(expressions)} frames")
    both = np.concatenate([expressions, mirrored(expressions, mesh)])
    tensors = {
        "persons": modes("persons", persons - persons.mean(axis=0), PERSONS, mesh),
        "expressions": modes("expressions", expressions, EXPRESSIONS, mesh),
        "mobility": np.sqrt((both**2).sum(axis=2).mean(axis=0)).astype(np.float16),
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    save_file(
        tensors, output, {"data": "spoken-to-signed 0.4.0, fingerspelling lexicon", "script": "bench/asl_basis.py"}
    )
    print(f"{output}: {output.stat().st_size} bytes")


def clips_of(wheel: Path) -> Iterator[np.ndarray]:
    """(frames, 468, 3): x, y in pixels, y up, z to the camera at its own scale; only clips of five frames or more."""
    with zipfile.ZipFile(wheel) as archive:
        for name in sorted(name for name in archive.namelist() if name.endswith(".pose")):
            clip = read_face(archive.read(name))
            known = (clip.confidence[:, :468] > 0).all(axis=1)
            points = clip.points[known, :468].astype(np.float64) * (1, -1, -1)
            if len(points) >= 5:
                yield points - points.mean(axis=1, keepdims=True)


def aligned(points: np.ndarray, mesh: FaceMesh) -> np.ndarray:
    """(frames, 468, 3), turned to the mesh, at the depth scale with which the rigid vertices fit best."""
    weights = np.zeros(len(mesh.vertices))
    weights[mesh.rigid] = mesh.rigid_weights / mesh.rigid_weights.sum()
    best = (np.inf, points)
    for depth in DEPTHS:
        turned = similar(points * (1, 1, depth), mesh.vertices, weights)
        misfit = float(np.einsum("n,fnk->", weights, (turned - mesh.vertices) ** 2))
        best = min(best, (misfit, turned), key=lambda pair: pair[0])
    return best[1]


def similar(points: np.ndarray, target: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Points (frames, N, 3) after the similarities that bring them nearest to a target (N, 3)."""
    middle = weights @ target
    centred = points - np.einsum("n,fnk->fk", weights, points)[:, None]
    covariance = np.einsum("n,fni,nj->fij", weights, centred, target - middle)
    u, s, vt = np.linalg.svd(covariance)
    signs = np.ones_like(s)
    signs[:, 2] = np.linalg.det(u @ vt)
    turns = np.einsum("fij,fj,fjk->fik", u, signs, vt)
    scales = (s * signs).sum(axis=1) / np.einsum("n,fnk->f", weights, centred**2)
    return scales[:, None, None] * (centred @ turns) + middle


def mirrored(displacements: np.ndarray, mesh: FaceMesh) -> np.ndarray:
    return displacements[:, mesh.mirror] * (-1, 1, 1)


def modes(name: str, samples: np.ndarray, count: int, mesh: FaceMesh) -> np.ndarray:
    """(count, 468, 3), principal directions of samples and their mirror images, times their standard deviations."""
    flat = np.concatenate([samples, mirrored(samples, mesh)]).reshape(2 * len(samples), -1)
    variances, directions = np.linalg.eigh(flat.T @ flat / len(flat))
    shares = variances[::-1] / variances.sum()
    print(f"{name}: {count} modes hold {shares[:count].sum():.1%} of the variance")
    chosen = directions[:, ::-1][:, :count] * np.sqrt(variances[::-1][:count])
    # The sign of a direction is arbitrary: let the largest number be positive.
    largest = np.abs(chosen).argmax(axis=0)
    chosen *= np.sign(chosen[largest, range(count)])
    return np.ascontiguousarray(chosen.T.reshape(count, -1, 3)).astype(np.float16)


if __name__ == "__main__":
    main()

"""How well `fyc asl` measures pose and brows on synthetic heads, beside the landmark network alone.

    python bench/asl_measures.py [--split calibration] [--heads 8]

Each head is one signer: 64 frames in random poses (yaw and pitch to 25, roll to 15 degrees), brows up by 0.35 cm in a
third of them, lids closed in a tenth; field of view 40 to 65 degrees, which nobody is told. Everything is measured on
rendered pictures. Peers, on the same landmarks:

- `network`: the pose by a similarity of the 33 weighted points of the mesh with their depths, in the manner of
  MediaPipe's face geometry (our own code, with the camera that fyc assumes; a camera of 63 degrees across the shorter
  side, as MediaPipe assumes, gave three degrees of error on these pictures); brows as the distance from the eyes
- `mesh`: the same pose; brows as how far landmarks are above where the canonical mesh has them

AUC and correlations are within signers, then averaged; intervals by bootstrap over signers.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fyc.asl.face.bundle import load_bundle
from fyc.asl.face.camera import Camera, angles_of
from fyc.asl.face.deformation import load_basis
from fyc.asl.face.mesh import FaceMesh
from fyc.asl.face.pose import fit_pose, project_jacobian, rotation_from_depths
from fyc.asl.face.shape import ShapeFitter
from fyc.asl.samples import FaceReader
from fyc.asl.signer import Signer
from fyc.asl.synthetic import PARAMETERS, Script, Studio
from fyc.asl.synthetic import Signer as Actor
from fyc.asl.synthetic.heads import HEAD_SPLITS
from fyc.asl.synthetic.script import COLUMN, Shot
from fyc.asl.synthetic.seeds import generator
from fyc.asl.synthetic.textures import SOURCES

FRAMES, RAISE = 64, 0.35
CAMERA = Camera.for_picture(640, 480)
BROWS = (70, 63, 105, 66, 107, 46, 53, 52, 65, 55)
STILL = (33, 133, 263, 362, 168, 6, 197, 195, 5)
METHODS = ("network", "mesh", "fyc")


@dataclass(frozen=True)
class Clip:
    """One signer: what is true, and what each method says; angles (N, 3) in degrees, brows (N,)."""

    truth: np.ndarray
    raised: np.ndarray
    angles: dict[str, np.ndarray]
    brows: dict[str, np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--split", choices=HEAD_SPLITS, default="calibration")
    parser.add_argument("--heads", type=int, default=8)
    words = parser.parse_args()
    bundle = load_bundle()
    studio = Studio(bundle)
    clips = []
    for head in range(min(words.heads, HEAD_SPLITS[words.split])):
        clips.append(measured(studio, script(words.split, head)))
        print(f"head {head}: pose {np.abs(clips[-1].angles['fyc'] - clips[-1].truth).mean():.2f} degrees", flush=True)
    show(words.split, clips)


def script(split: str, head: int) -> Script:
    """What one head does."""
    rng = generator("bench measures", split, head)
    curves = np.zeros((FRAMES, len(PARAMETERS)))
    for name, most in (("yaw", 25), ("pitch", 25), ("roll", 15)):
        curves[:, COLUMN[name]] = rng.uniform(-most, most, FRAMES)
    raised, closed = rng.random(FRAMES) < 1 / 3, rng.random(FRAMES) < 0.1
    for name in PARAMETERS:
        if name.startswith("brow"):
            curves[:, COLUMN[name]] = RAISE * raised
        elif name.startswith("lid"):
            curves[:, COLUMN[name]] = closed
    view = rng.uniform(40, 65)
    place = (rng.uniform(-6, 6), rng.uniform(-4, 6), -rng.uniform(55, 75) * 50 / view)
    actor = Actor(split, head, head % len(SOURCES[split]), "B" if split == "held-out" else "A")
    return Script(name=f"measures-{split}-{head}", signer=actor, curves=curves, shots=(Shot(0, view, place, head),))


def measured(studio: Studio, what: Script) -> Clip:
    """Render a script and measure it by all methods."""
    frames = [frame.image for frame in studio.render(what)]
    reader = FaceReader(studio.bundle)
    seen = {number: sample for number, image in enumerate(frames) if (sample := reader.read(image, CAMERA))}
    numbers = list(seen)
    signer = Signer.learn(ShapeFitter(studio.mesh, load_basis()), list(seen.values()))
    mesh = studio.mesh
    angles: dict[str, list[np.ndarray]] = {method: [] for method in METHODS}
    brows: dict[str, list[float]] = {method: [] for method in METHODS}
    for number, sample in seen.items():
        plain = similarity(sample.points, sample.depths, mesh)
        pose = signer.pose(sample.points, sample.depths, CAMERA)
        values = signer.measure(frames[number], sample.points, pose, CAMERA).values
        for method, found in (("network", plain), ("mesh", plain), ("fyc", pose.angles)):
            angles[method].append(found)
        brows["network"].append(flat(sample.points))
        brows["mesh"].append(above_mesh(sample.points, mesh))
        brows["fyc"].append(float(np.nanmean(values[:4])) if np.isfinite(values[:4]).any() else np.nan)
    truth = what.curves[numbers][:, [COLUMN[name] for name in ("yaw", "pitch", "roll")]]
    raised = what.curves[numbers, COLUMN["brow_inner_left"]] > 0
    return Clip(
        truth, raised, {key: np.array(value) for key, value in angles.items()},
        {key: np.array(value) for key, value in brows.items()},
    )  # fmt: skip


def similarity(points: np.ndarray, depths: np.ndarray, mesh: FaceMesh) -> np.ndarray:
    """Yaw, pitch and roll by the weighted points of the mesh and the depths of the network."""
    w = mesh.rigid_weights / mesh.rigid_weights.sum()
    seen, behind = points[mesh.rigid].astype(np.float64), depths[mesh.rigid].astype(np.float64)
    return angles_of(rotation_from_depths(seen, behind, mesh.vertices[mesh.rigid], w, CAMERA))


def both(side: Sequence[int], mesh: FaceMesh) -> list[int]:
    return [*side, *(int(point) for point in mesh.mirror[list(side)])]


def flat(points: np.ndarray) -> float:
    """Distance of brows and lids in the picture, by that of the eyes."""
    lids, brows = (
        points[[159, 386], 1].mean(),
        points[[*BROWS, 300, 293, 334, 296, 336, 276, 283, 282, 295, 285], 1].mean(),
    )
    return float((lids - brows) / np.linalg.norm(points[33] - points[263]))


def above_mesh(points: np.ndarray, mesh: FaceMesh) -> float:
    """How far brows are above those of the canonical mesh in the same pose, in cm, what does not move taken off."""
    weights = np.zeros(len(mesh.vertices))
    weights[mesh.rigid] = mesh.rigid_weights
    pose = fit_pose(points, mesh.vertices, weights, CAMERA)
    placed = pose.place(mesh.vertices)
    up = (project_jacobian(placed, CAMERA) @ pose.rotation)[:, :, 1]
    off = ((points - CAMERA.project(placed)) * up).sum(axis=1) / (up**2).sum(axis=1)
    return float(off[both(BROWS, mesh)].mean() - off[list(STILL)].mean())


def auc(high: np.ndarray, low: np.ndarray) -> float:
    return float((high[:, None] > low[None]).mean() + 0.5 * (high[:, None] == low[None]).mean())


def interval(values: Sequence[float]) -> str:
    """Mean and 95 % interval by bootstrap over signers."""
    rng = np.random.default_rng(0)
    found = np.array(values)
    means = found[rng.integers(0, len(found), (2000, len(found)))].mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return f"{found.mean():.2f} ({low:.2f} to {high:.2f})"


def show(split: str, clips: Sequence[Clip]) -> None:
    """Print the table."""
    print(f"\nsynthetic, split {split}: {len(clips)} heads, {sum(len(clip.truth) for clip in clips)} frames")
    print("| | pose error, degrees | yaw | pitch | roll | AUC of a raise | least | r of rest with pitch, absolute |")
    print("|---|---|---|---|---|---|---|---|")
    for method in METHODS:
        errors = [np.abs(clip.angles[method] - clip.truth).mean(axis=0) for clip in clips]
        sizes, scatter = [], []
        for clip in clips:
            known = np.isfinite(clip.brows[method])
            up, rest = known & clip.raised, known & ~clip.raised
            sizes.append(auc(clip.brows[method][up], clip.brows[method][rest]))
            scatter.append(abs(np.corrcoef(clip.brows[method][rest], clip.truth[rest, 1])[0, 1]))
        axes = " | ".join(f"{value:.2f}" for value in np.mean(errors, axis=0))
        mean = interval([float(error.mean()) for error in errors])
        print(f"| {method} | {mean} | {axes} | {interval(sizes)} | {min(sizes):.2f} | {interval(scatter)} |")


if __name__ == "__main__":
    main()

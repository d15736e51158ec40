"""Pose and brows of synthetic heads in single pictures, measured by fyc and by simpler methods.

Each head is one signer: 64 pictures in random poses, brows up by 0.35 cm in a third of them, lids closed in a tenth; a
field of view of 40 to 65 degrees, which nobody is told. All methods see the same pictures:

- `network`: the pose by a similarity of the weighted points of the mesh with their depths, in the manner of
  MediaPipe's face geometry, with the camera that fyc assumes; brows as their distance from the lids in the picture
- `mesh`: the canonical mesh fitted to the landmarks; brows as how far they are above those of the mesh
- `fyc`: what `fyc asl run` does: a signer is learned from the pictures, without their truth, then measured
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fyc.asl.face.camera import Array, Camera, angles_of
from fyc.asl.face.deformation import load_basis
from fyc.asl.face.detector import Image
from fyc.asl.face.litert import Floats
from fyc.asl.face.mesh import FaceMesh
from fyc.asl.face.pose import fit_pose, project_jacobian, rotation_from_depths
from fyc.asl.face.shape import ShapeFitter
from fyc.asl.samples import FaceReader, FaceSample
from fyc.asl.signer import LEAST_SAMPLES, Signer
from fyc.asl.synthetic.corpora import CORPORA
from fyc.asl.synthetic.expression import BROWS as BROW_PARTS
from fyc.asl.synthetic.projection import HEIGHT, WIDTH
from fyc.asl.synthetic.render import Studio
from fyc.asl.synthetic.script import COLUMN, PARAMETERS, Script, Shot
from fyc.asl.synthetic.script import Signer as Actor
from fyc.asl.synthetic.seeds import generator
from fyc.asl.synthetic.textures import SOURCES

#: Pictures of a head, and how far brows are raised, in cm.
FRAMES, RAISE = 64, 0.35
#: What everybody assumes; the true ones are not told.
CAMERA = Camera.for_picture(WIDTH, HEIGHT)
#: Points of both brows, and points that no expression moves much.
BROWS = (70, 63, 105, 66, 107, 46, 53, 52, 65, 55, 300, 293, 334, 296, 336, 276, 283, 282, 295, 285)
STILL = (33, 133, 263, 362, 168, 6, 197, 195, 5)
#: Middles of the upper lids, and outer corners of the eyes.
LIDS, CORNERS = (159, 386), (33, 263)


@dataclass(frozen=True)
class Answers:
    """What a method says of the pictures of a head.

    Attributes:
        angles: (T, 3), yaw, pitch and roll in degrees, as in `fyc.asl.face.camera`; NaN where the face is missed. None
            for a method that has no pose.
        brows: (T,), how high the brows are, in any unit, higher is higher; NaN where that is not said.
    """

    angles: Array | None
    brows: Array


@dataclass(frozen=True)
class HeadResult:
    """The pictures of one head.

    Attributes:
        head: its number.
        truth: (T, 3), yaw, pitch and roll in degrees.
        raised: (T,), where the brows are up.
        answers: by method.
    """

    head: int
    truth: Array
    raised: NDArray[np.bool_]
    answers: Mapping[str, Answers]


#: Another method: from the pictures of a head to its answers, by name.
Peer = Callable[[Sequence[Image]], Mapping[str, Answers]]


def script(split: str, head: int, yaw: float) -> Script:
    """What a head does: yaw to +-`yaw` degrees, pitch to 25, roll to 15."""
    rng = generator("bench measures", split, head)
    curves = np.zeros((FRAMES, len(PARAMETERS)))
    for name, most in (("yaw", yaw), ("pitch", 25), ("roll", 15)):
        curves[:, COLUMN[name]] = rng.uniform(-most, most, FRAMES)
    raised, closed = rng.random(FRAMES) < 1 / 3, rng.random(FRAMES) < 0.1
    for name in PARAMETERS:
        if name in BROW_PARTS:
            curves[:, COLUMN[name]] = RAISE * raised
        elif name.startswith("lid"):
            curves[:, COLUMN[name]] = closed
    view = rng.uniform(40, 65)
    place = (rng.uniform(-6, 6), rng.uniform(-4, 6), -rng.uniform(55, 75) * 50 / view)
    field = next(corpus.brow_field for corpus in CORPORA.values() if corpus.split == split)
    actor = Actor(split, head, head % len(SOURCES[split]), field)
    return Script(name=f"measures-{split}-{head}", signer=actor, curves=curves, shots=(Shot(0, view, place, head),))


def measure_head(studio: Studio, split: str, head: int, yaw: float, peers: Sequence[Peer] = ()) -> HeadResult:
    """Draw the pictures of a head, and measure them by all methods.

    Args:
        studio: draws.
        split, head: which head.
        yaw: heads turn this far, in degrees.
        peers: other methods.

    Raises:
        AssetError, VideoError: if a clip for the textures cannot be had.
    """
    what = script(split, head, yaw)
    images = [frame.image for frame in studio.render(what)]
    answers = dict(_own(studio, images))
    for peer in peers:
        answers |= peer(images)
    truth = what.curves[:, [COLUMN[name] for name in ("yaw", "pitch", "roll")]]
    return HeadResult(head, truth, what.curves[:, COLUMN[BROW_PARTS[0]]] > 0, answers)


def _own(studio: Studio, images: Sequence[Image]) -> Mapping[str, Answers]:
    """Answers of `network`, `mesh` and `fyc`, all from the same landmarks."""
    reader, mesh = FaceReader(studio.bundle), studio.mesh
    answers = {
        name: Answers(np.full((len(images), 3), np.nan), np.full(len(images), np.nan))
        for name in ("network", "mesh", "fyc")
    }
    seen = {number: sample for number, image in enumerate(images) if (sample := reader.read(image, CAMERA))}
    for number, sample in seen.items():
        assert sample.depths is not None
        _note(answers["network"], number, similarity(sample.points, sample.depths, mesh), flat(sample.points))
        _note(answers["mesh"], number, *on_mesh(sample.points, mesh))
    if len(seen) >= LEAST_SAMPLES:
        signer = Signer.learn(ShapeFitter(mesh, load_basis()), list(seen.values()))
        for number, sample in seen.items():
            _note(answers["fyc"], number, *_by_signer(signer, images[number], sample))
    return answers


def _note(answers: Answers, number: int, angles: Array, brows: float) -> None:
    assert answers.angles is not None
    answers.angles[number], answers.brows[number] = angles, brows


def _by_signer(signer: Signer, image: Image, sample: FaceSample) -> tuple[Array, float]:
    pose = signer.pose(sample.points, sample.depths, CAMERA)
    heights = signer.measure(image, sample.points, pose, CAMERA).values[: len(BROW_PARTS)]
    return pose.angles, float(np.nanmean(heights)) if np.isfinite(heights).any() else float("nan")


def similarity(points: Floats, depths: Floats, mesh: FaceMesh) -> Array:
    """(3,), yaw, pitch and roll by the weighted points of the mesh and the depths of the network."""
    w = mesh.rigid_weights / mesh.rigid_weights.sum()
    seen, behind = points[mesh.rigid].astype(np.float64), depths[mesh.rigid].astype(np.float64)
    return angles_of(rotation_from_depths(seen, behind, mesh.vertices[mesh.rigid], w, CAMERA))


def flat(points: Floats) -> float:
    """Raw 2D: the distance from lids to brows along the rows of the picture, by that of the eyes."""
    brows = points[list(BROWS), 1].mean()
    return float((points[list(LIDS), 1].mean() - brows) / np.linalg.norm(points[CORNERS[0]] - points[CORNERS[1]]))


def on_mesh(points: Floats, mesh: FaceMesh) -> tuple[Array, float]:
    """The pose of the canonical mesh, and how far brows are above its own, in cm, what does not move taken off."""
    weights = np.zeros(len(mesh.vertices))
    weights[mesh.rigid] = mesh.rigid_weights
    pose = fit_pose(points, mesh.vertices, weights, CAMERA)
    placed = pose.place(mesh.vertices)
    up = (project_jacobian(placed, CAMERA) @ pose.rotation)[:, :, 1]
    off = ((points - CAMERA.project(placed)) * up).sum(axis=1) / (up**2).sum(axis=1)
    return pose.angles, float(off[list(BROWS)].mean() - off[list(STILL)].mean())

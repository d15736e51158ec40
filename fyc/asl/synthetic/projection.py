"""Where everything is: heads in front of a camera, without a picture. The ground truth of the bench."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fyc.asl.face.camera import Camera, rotation_of
from fyc.asl.face.mesh import FaceMesh
from fyc.asl.synthetic.body import PIVOT
from fyc.asl.synthetic.expression import EXPRESSIONS, ExpressionModel
from fyc.asl.synthetic.heads import Head, Shell, canonical_head, make_head
from fyc.asl.synthetic.script import COLUMN, Script, Signer

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

#: Width and height of the pictures, in pixels.
WIDTH, HEIGHT = 640, 480

#: A vertex is seen when its normal is at less than this angle to the line of sight, in degrees.
_SEEN_WITHIN = 82


@dataclass(frozen=True)
class FrameTruth:
    """What is true of a frame of a synthetic clip. Angles, axes and camera as in `fyc.asl.face.camera`.

    Attributes:
        frame: its number.
        time_s: its time.
        face: whether there is a face to be found: not in a black frame.
        camera: that took it.
        rotation: (3, 3), of the head.
        yaw, pitch, roll: the same, in degrees.
        translation: (3,), cm; a vertex v is at rotation v + translation.
        points: (468, 2), the vertices of the face in pixels.
        visible: (468,), whether they are seen.
        cover: what part of the face's pixels something in front hides, 0 to 1.
        brows: (4,), heights above this person's rest in cm, in the order of `BROWS`.
        eyes: (2,), apertures of the left and the right eye in cm.
        mouth: opening of the mouth in cm.
        events: that are active.
        shot: its number; after a cut it is another one.
    """

    frame: int
    time_s: float
    face: bool
    camera: Camera
    rotation: Array
    yaw: float
    pitch: float
    roll: float
    translation: Array
    points: Array
    visible: Flags
    cover: float
    brows: Array
    eyes: Array
    mouth: float
    events: tuple[str, ...]
    shot: int


@dataclass(frozen=True)
class Projection:
    """A clip as geometry.

    Attributes:
        script: what was projected.
        cameras: one a shot.
        shots: (T,), numbers of the shots.
        rotations: (T, 3, 3).
        translations: (T, 3), cm.
        faces: (T, 468, 3), deformed, in the axes of the face, cm.
        points: (T, 468, 2), pixels.
        facing: (T, 468), whether a vertex faces the camera. Whether something else hides it, only a picture says.
        brows, eyes, mouth: (T, 4), (T, 2), (T,), as in `FrameTruth`.
    """

    script: Script
    cameras: tuple[Camera, ...]
    shots: NDArray[np.intp]
    rotations: Array
    translations: Array
    faces: Array
    points: Array
    facing: Flags
    brows: Array
    eyes: Array
    mouth: Array

    def frame(self, number: int, visible: Flags | None = None, cover: float = 0.0) -> FrameTruth:
        """The truth of a frame; without a picture, `visible` is what faces the camera and `cover` is 0."""
        script, shot = self.script, int(self.shots[number])
        face = not script.black(number)
        seen = self.facing[number] if visible is None else visible
        yaw, pitch, roll = (float(script.curves[number, COLUMN[angle]]) for angle in ("yaw", "pitch", "roll"))
        return FrameTruth(
            number, number / script.fps, face, self.cameras[shot], self.rotations[number], yaw, pitch, roll,
            self.translations[number], self.points[number], seen & face, cover, self.brows[number], self.eyes[number],
            float(self.mouth[number]), script.active(number), shot,
        )  # fmt: skip


class Stage:
    """Heads in front of cameras.

    Args:
        mesh: the canonical mesh.
    """

    def __init__(self, mesh: FaceMesh) -> None:
        self.mesh = mesh
        self.shell = Shell(mesh)

    def head(self, signer: Signer) -> Head:
        """The head of a signer."""
        if signer.split == "canonical":
            return canonical_head(self.mesh)
        return make_head(self.mesh, signer.split, signer.head)

    def model(self, signer: Signer) -> ExpressionModel:
        """How the face of a signer moves."""
        return ExpressionModel(self.mesh, self.head(signer).face, signer.brow_field)

    def project(self, script: Script) -> Projection:
        """Geometry of all frames of a script, without drawing."""
        model = self.model(script.signer)
        shots = np.array([script.shot(frame) for frame in range(script.frames)], np.intp)
        cameras = tuple(Camera.for_picture(WIDTH, HEIGHT, shot.field_of_view) for shot in script.shots)
        curves = script.curves
        rotations = rotation_of(*(curves[:, COLUMN[angle]] for angle in ("yaw", "pitch", "roll")))
        places = np.array([shot.place for shot in script.shots])[shots]
        pivots = places + curves[:, COLUMN["x"] : COLUMN["z"] + 1]
        translations = pivots - rotations @ PIVOT
        faces = model.deform(curves[:, : len(EXPRESSIONS)])
        placed = faces @ rotations.transpose(0, 2, 1) + translations[:, None]
        focal = np.array([camera.focal for camera in cameras])[shots]
        points = placed[..., :2] * (1, -1) / -placed[..., 2:] * focal[:, None, None] + (WIDTH / 2, HEIGHT / 2)
        return Projection(
            script, cameras, shots, rotations, translations, faces, points, self._facing(faces, rotations, placed),
            model.brow_heights(faces), model.eye_apertures(faces), model.mouth_opening(faces),
        )  # fmt: skip

    def _facing(self, faces: Array, rotations: Array, placed: Array) -> Flags:
        facing = np.zeros(faces.shape[:2], bool)
        limit = np.cos(np.radians(_SEEN_WITHIN))
        for frame, (face, rotation, points) in enumerate(zip(faces, rotations, placed, strict=True)):
            normals = self.mesh.normals(face) @ rotation.T
            sight = -points / np.linalg.norm(points, axis=1, keepdims=True)
            facing[frame] = (normals * sight).sum(axis=1) > limit
        return facing

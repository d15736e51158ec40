"""One signer, learned from faces all over the video before it is measured: shape, look at rest, and baselines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from fyc.asl.face.brows import BrowGauge
from fyc.asl.face.camera import Array, Camera
from fyc.asl.face.deformation import load_basis
from fyc.asl.face.detector import Image
from fyc.asl.face.frontal import FrontalView, FrontalWarp
from fyc.asl.face.litert import Floats
from fyc.asl.face.mesh import POINTS, FaceMesh
from fyc.asl.face.pose import Pose, fit_pose, project_jacobian
from fyc.asl.face.shape import Observation, ShapeFitter
from fyc.asl.files import unwritable, write_whole
from fyc.asl.measures import MEASURES
from fyc.asl.neutral import NeutralBaseline
from fyc.asl.samples import FaceSample
from fyc.errors import ModelError, RecipeError

#: Of the format of the files.
FORMAT = "fyc-asl-signer-1"
#: Pixels of a side of the canonical view.
VIEW = 160
#: Fewer faces say nothing of rest.
LEAST_SAMPLES = 3
_BASELINE = 6
#: Middles of upper and lower lids (left, right eye of the person) and of the inner lips.
_LIDS = ((386, 374), (159, 145))
_LIPS = (13, 14)

#: What is measured on the face itself: brows, eyes, mouth.
VALUES = MEASURES[6:]


@dataclass(frozen=True)
class FaceMeasures:
    """What is measured in one frame.

    Attributes:
        pose: of the head.
        values: (7,), in the order of `VALUES`: brows in cm above rest, eyes as parts of the open eye, mouth in cm
            more open than at rest; NaN where it cannot be seen.
        view: the canonical view, grey.
    """

    pose: Pose
    values: Array
    view: FrontalView


class Signer:
    """A signer whose frames can be measured. `learn` makes one, `load_signer` reads one.

    Args:
        mesh: the canonical mesh.
        shape: (468, 3), of the face at rest, in cm.
        rest: (VIEW, VIEW), grey, the canonical view at rest.
        baselines: of `VALUES`, what they are at rest; None for those that were never seen.
    """

    def __init__(
        self, mesh: FaceMesh, shape: Array, rest: NDArray[np.uint8], baselines: Sequence[NeutralBaseline | None]
    ) -> None:
        self.shape, self.rest = shape, rest
        self._baselines = list(baselines)
        self._weights = load_basis().rigidity()
        self._warp = FrontalWarp(mesh, VIEW)
        self._gauge = BrowGauge(mesh, rest)

    @classmethod
    def learn(cls, fitter: ShapeFitter, samples: Sequence[FaceSample]) -> Signer:
        """Learn a signer.

        Args:
            fitter: how faces differ from the canonical one.
            samples: faces of this person, at least three.

        Raises:
            ValueError: with fewer samples.
        """
        if len(samples) < LEAST_SAMPLES:
            raise ValueError(f"a signer is learned from three frames or more, not {len(samples)}")
        shape = fitter.fit([Observation(sample.points, sample.camera, sample.pose) for sample in samples])
        blank = cls(fitter.mesh, shape, np.zeros((VIEW, VIEW), np.uint8), [None] * len(VALUES))
        poses = [blank.pose(sample.points, sample.depths, sample.camera, sample.pose) for sample in samples]
        views = [blank._sample_view(sample, pose) for sample, pose in zip(samples, poses, strict=True)]
        raw_signer = cls(fitter.mesh, shape, _median_view(views), blank._baselines)
        raw = np.array([
            raw_signer._raw(sample.points, pose, view, sample.camera)
            for sample, pose, view in zip(samples, poses, views, strict=True)
        ])  # fmt: skip
        angles = np.array([pose.angles for pose in poses])
        return cls(fitter.mesh, shape, raw_signer.rest, [_baseline(column, angles) for column in raw.T])

    def save(self, path: Path) -> None:
        """Write the signer as safetensors, whole or not at all. It holds a picture of the face.

        Raises:
            ElanError: FYC-E05 if it cannot be written.
            ResourceError: FYC-S01 if the disk is full.
        """
        rows = [np.full(_BASELINE, np.nan) if base is None else base.row for base in self._baselines]
        tensors = {"shape": self.shape, "rest": self.rest, "baselines": np.array(rows)}
        write_whole(
            path, save({name: np.ascontiguousarray(part) for name, part in tensors.items()}, {"format": FORMAT})
        )

    def pose(self, points: Floats, depths: Floats | None, camera: Camera, start: Pose | None = None) -> Pose:
        """Pose of the head from landmarks (468, 2) in pixels and their depths.

        Raises:
            ValueError: if too few landmarks are known.
        """
        return fit_pose(points, self.shape, self._weights, camera, start, depths)

    def measure(self, image: Image, points: Floats, pose: Pose, camera: Camera) -> FaceMeasures:
        """Measure a frame.

        Args:
            image: (H, W, 3) RGB.
            points: (468, 2), landmarks in pixels.
            pose: of the head, from `pose`.
            camera: that took the frame.
        """
        view = self._view(image, camera.project(pose.place(self.shape)), np.isnan(points[:, 0]))
        raw, angles = self._raw(points, pose, view, camera), pose.angles[None]
        values = np.full(len(VALUES), np.nan)
        for number, (value, baseline) in enumerate(zip(raw, self._baselines, strict=True)):
            if baseline is not None:
                above = float(baseline.above(np.array([value]), angles)[0])
                is_eye = VALUES[number].startswith("eye")
                values[number] = 1 + above / max(baseline.level, 0.05) if is_eye else above
        return FaceMeasures(pose, values, view)

    def _view(self, image: Image, rigid: Array, covered: NDArray[np.bool_]) -> FrontalView:
        """The canonical view from the part of a picture that shows the face, so that little of it is made grey."""
        (left, top), (right, bottom) = np.floor(rigid.min(axis=0)).astype(int), np.ceil(rigid.max(axis=0)).astype(int)
        height, width = image.shape[:2]
        left, top, right, bottom = max(left - 2, 0), max(top - 2, 0), min(right + 2, width), min(bottom + 2, height)
        if right <= left or bottom <= top:
            return self._warp.warp(np.zeros((2, 2), np.uint8), np.full((POINTS, 2), -1e4))
        grey: Image = cv2.cvtColor(image[top:bottom, left:right], cv2.COLOR_RGB2GRAY)  # type: ignore[assignment]
        return self._warp.warp(grey, rigid - (left, top), covered)

    def _sample_view(self, sample: FaceSample, pose: Pose) -> FrontalView:
        rigid = sample.camera.project(pose.place(self.shape))
        covered = np.isnan(sample.points[:, 0])
        return self._warp.warp(sample.patch, rigid @ sample.to_patch[:, :2].T + sample.to_patch[:, 2], covered)

    def _raw(self, points: Floats, pose: Pose, view: FrontalView, camera: Camera) -> Array:
        """(7,), before the baselines are taken off: brows in cm above their median, lids and lips in cm apart."""
        gaps = [_gap(points, pose, self.shape, camera, *pair) for pair in (*_LIDS, _LIPS)]
        return np.array([*self._gauge.measure(view), *gaps])


def load_signer(path: Path, mesh: FaceMesh) -> Signer:
    """Read a signer; nothing in it is executed.

    Raises:
        ModelError: FYC-M01 if there is no such file, FYC-M03 if it is damaged or something else.
    """
    if not path.is_file():
        raise ModelError("FYC-M01", "the signer cannot be found", where=str(path), next="check the path")
    try:
        with safe_open(path, framework="np") as file:
            if (found := (file.metadata() or {}).get("format")) != FORMAT:
                raise ValueError(f"its format is {found!r}, not {FORMAT!r}")
            shape, rest, rows = (file.get_tensor(name) for name in ("shape", "rest", "baselines"))
        sizes = (shape.shape, rest.shape, rows.shape)
        if sizes != ((POINTS, 3), (VIEW, VIEW), (len(VALUES), _BASELINE)) or not np.isfinite(shape).all():
            raise ValueError("its tensors do not have the shapes of a signer")
        return Signer(mesh, shape, rest.astype(np.uint8), [NeutralBaseline.from_row(row) for row in rows])
    except (SafetensorError, ValueError, OSError) as error:
        raise ModelError(
            "FYC-M03", "this is not a signer, or a damaged one", where=str(path), why=str(error),
            next="learn it again with `fyc asl signer`",
        ) from error  # fmt: skip


def prepare_target(path: Path, mesh: FaceMesh) -> None:
    """Make the folder of a signer that will be written, and see that nothing else would be written over.

    Raises:
        RecipeError: FYC-R09 if there is something that is no signer.
        ElanError: FYC-E05 if the folder cannot be made.
    """
    if path.exists():
        try:
            load_signer(path, mesh)
        except ModelError as error:
            raise RecipeError(
                "FYC-R09", "there is something else of this name, which is no signer", where=str(path),
                next="give another name with --output, such as anna.safetensors",
            ) from error  # fmt: skip
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(path.parent, error) from error


def _gap(points: Floats, pose: Pose, shape: Array, camera: Camera, upper: int, lower: int) -> float:
    """How far two landmarks are apart, up and down the face, in cm: the pose taken out."""
    middle = pose.place(shape[[upper, lower]].mean(axis=0, keepdims=True))
    up = (project_jacobian(middle, camera) @ pose.rotation)[0, :, 1]
    apart = points[upper].astype(np.float64) - points[lower]
    return float(up @ apart / (up @ up))


def _median_view(views: list[FrontalView]) -> NDArray[np.uint8]:
    """(VIEW, VIEW), the median of what is visible; of everything where nothing is."""
    images = np.array([view.image for view in views], np.float32)
    hidden = ~np.array([view.visible for view in views])
    anywhere = images.copy()
    anywhere[hidden & ~hidden.all(axis=0)] = np.nan
    median: NDArray[np.uint8] = np.nanmedian(anywhere, axis=0).astype(np.uint8)
    return median


def _baseline(values: Array, angles: Array) -> NeutralBaseline | None:
    try:
        return NeutralBaseline.fit(values, angles)
    except ValueError:
        return None

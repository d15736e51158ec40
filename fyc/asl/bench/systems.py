"""Systems that follow faces: the landmark network alone, the ensemble, and the ensemble without each of its parts.

Trackers and finders are those of all plugins that are installed.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fyc.asl.bench.clips import Said, System
from fyc.asl.face.bundle import Bundle
from fyc.asl.face.camera import Array, Camera
from fyc.asl.face.deformation import load_basis
from fyc.asl.face.detector import FaceDetector, Image
from fyc.asl.face.landmarks import LandmarkNet, Region
from fyc.asl.face.litert import Floats
from fyc.asl.face.mesh import POINTS, FaceMesh
from fyc.asl.face.pose import Pose, fit_pose
from fyc.asl.synthetic.projection import HEIGHT, WIDTH
from fyc.asl.tracker import finders, trackers
from fyc.asl.tracking.appearance import AppearanceModel, Match, View
from fyc.asl.tracking.ensemble import Ensemble
from fyc.asl.tracking.opinion import Judge, Opinion
from fyc.asl.tracking.shape_memory import ShapeMemory
from fyc.asl.tracking.shape_prior import ShapeFit, ShapePrior
from fyc.plugins import PluginHost

#: The network sees a face when its presence is at least this.
_PRESENT = 0.5


class SingleNetwork:
    """The landmark network alone; the detector is asked when it sees no face. Its presence is its confidence."""

    def __init__(self, bundle: Bundle) -> None:
        self._net, self._detector = LandmarkNet(bundle.landmarks), FaceDetector(bundle.detector)
        self._shape, self._weights = bundle.mesh.vertices, load_basis().rigidity()
        self._camera = Camera.for_picture(WIDTH, HEIGHT)
        self._points: Floats | None = None

    def __call__(self, image: Image, time_s: float) -> Said:
        """The face in the next picture (H, W, 3) RGB; the time does not matter."""
        region = None if self._points is None else Region.of_points(self._points)
        for attempt in (region, None):
            if attempt is None and not (faces := self._detector.find(image)):
                break
            found = self._net.place(image, attempt or Region.around(max(faces, key=lambda face: face.size)))
            if found.presence >= _PRESENT:
                self._points = found.points[:POINTS, :2]
                pose = fit_pose(self._points, self._shape, self._weights, self._camera)
                return Said(self._points, found.presence, pose.angles)
        self._points = None
        return Said(None, 0, None)


class _NoPrior(ShapePrior):
    """Every shape is as good as any other."""

    def fit(self, points: NDArray[np.floating], shape: Array, pose: Pose, camera: Camera) -> ShapeFit:
        return ShapeFit(0.0, np.zeros(POINTS))


class _NoLooks(AppearanceModel):
    """Nothing is known of how the face looks."""

    def compare(self, view: View) -> Match | None:
        return None


class _NoMemory(ShapeMemory):
    """The shape stays the canonical one."""

    def learn(self, points: NDArray[np.floating], seen: NDArray[np.bool_], pose: Pose, camera: Camera) -> None:
        return None


class _NoAlignment(Judge):
    """The looks do not guide the pose of a face that is covered."""

    def aligned(self, grey: Image, best: Opinion | None, last: Opinion) -> Opinion | None:
        return None


def _without_prior(mesh: FaceMesh) -> Judge:
    judge = Judge(mesh)
    judge.prior = _NoPrior(mesh, load_basis())
    return judge


def _without_appearance(mesh: FaceMesh) -> Judge:
    judge = Judge(mesh)
    judge.looks = _NoLooks(mesh)
    return judge


def _without_memory(mesh: FaceMesh) -> Judge:
    judge = Judge(mesh)
    judge.memory = _NoMemory(mesh.vertices, load_basis().rigidity())
    return judge


#: Makes the judge of an ensemble that lacks a part.
_JUDGES: dict[str, Callable[[FaceMesh], Judge]] = {
    "without prior": _without_prior,
    "without appearance": _without_appearance,
    "without memory": _without_memory,
    "without alignment": _NoAlignment,
}


def systems(bundle: Bundle, host: PluginHost) -> dict[str, Callable[[], System]]:
    """What is compared, by name; each makes a system for one clip.

    Raises:
        PluginError: if a plugin's trackers cannot be used.
    """
    all_trackers, all_finders = trackers(host), finders(host)

    def ensemble(judge: Callable[[FaceMesh], Judge] = Judge, without: str = "", greedy: bool = False) -> System:
        some = {name: part for name, part in all_trackers.items() if name != without}
        seers = {name: part for name, part in all_finders.items() if name != without}
        return follower(Ensemble(bundle, some, seers, greedy=greedy, judge=judge(bundle.mesh)))

    parts = [*all_trackers, *all_finders]
    return {
        "network": lambda: SingleNetwork(bundle),
        "ensemble": ensemble,
        "greedy": lambda: ensemble(greedy=True),
        **{f"without {part}": lambda part=part: ensemble(without=part) for part in parts},  # type: ignore[misc]
        **{name: lambda judge=judge: ensemble(judge) for name, judge in _JUDGES.items()},  # type: ignore[misc]
    }


def follower(ensemble: Ensemble) -> System:
    """An ensemble as a system."""

    def follow(image: Image, time_s: float) -> Said:
        frame = ensemble.step(image, time_s)
        angles = None if frame.pose is None else frame.pose.angles
        return Said(frame.points, frame.confidence, angles, frame.evidence)

    return follow

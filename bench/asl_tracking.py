"""How well faces are followed on synthetic clips: the ensemble, its parts left out, and a single network.

    python bench/asl_tracking.py --split fit [--clips 3] [--kinds half-face hand] [--systems network ensemble]

All systems see the same frames. Right is a mean error of the 468 points of at most 10 % of the distance of the outer
eye corners, as it would be seen from the front at the face's depth; in a black frame, or where the face has left the
picture, nothing is right. `lost` and errors are over frames of which less than 90 % of the face is covered.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from time import perf_counter

import cv2
import numpy as np

from fyc.asl.face.bundle import Bundle, load_bundle
from fyc.asl.face.camera import Camera
from fyc.asl.face.deformation import load_basis
from fyc.asl.face.detector import FaceDetector
from fyc.asl.face.landmarks import LandmarkNet, Region
from fyc.asl.face.pose import fit_pose
from fyc.asl.synthetic.projection import HEIGHT, WIDTH, FrameTruth
from fyc.asl.synthetic.render import Studio
from fyc.asl.synthetic.script import COLUMN, Occluder, Script
from fyc.asl.synthetic.trials import trial
from fyc.asl.tracker import finders, trackers
from fyc.asl.tracking.confidence import Evidence, calibration_error
from fyc.asl.tracking.ensemble import Ensemble
from fyc.asl.tracking.shape_prior import ShapeFit
from fyc.plugins import load_plugins

RIGHT = 0.10
KINDS = (
    "turning", "half-face", "hand", "full-cover", "cut", "blackout", "two-faces", "profile", "leaving", "dark",
    "blurred", "smeared", "few-pixels",
)  # fmt: skip


@dataclass(frozen=True)
class Said:
    """What a system says of a frame: points (468, 2) or None, confidence, angles (3,) in degrees, evidence."""

    points: np.ndarray | None
    confidence: float
    angles: np.ndarray | None
    evidence: Evidence | None = None
    tracker: str = ""


@dataclass(frozen=True)
class Measured:
    """A frame of a system, beside the truth."""

    kind: str
    clip: str
    frame: int
    lost: bool
    confidence: float
    nme: float
    pose: float
    cover: float
    there: bool
    event: bool
    evidence: Evidence | None
    tracker: str
    ms: float

    @property
    def right(self) -> bool:
        return self.there and self.nme <= RIGHT


System = Callable[[np.ndarray, float], Said]


def clip_of(kind: str, split: str, number: int) -> Script:
    """A trial of `fyc.asl.synthetic.trials`, or one of two that are made here."""
    if kind == "full-cover":
        script = trial("half-face", split, 100 + number)
        (panel,) = script.occluders
        return replace(script, occluders=(_sliding(panel, -5.8), _sliding(panel, 5.8)))
    if kind == "leaving":
        script = trial("turning", split, 100 + number)
        curves = script.curves[:150].copy()
        away = np.clip(np.minimum(np.arange(150) - 40, 110 - np.arange(150)) / 20, 0, 1)
        curves[:, COLUMN["x"]] += 60 * (3 * away**2 - 2 * away**3) * (1 if number % 2 else -1)
        return replace(script, curves=curves, segments=())
    return trial(kind, split, number)


def _sliding(panel: Occluder, x: float) -> Occluder:
    """A panel that comes from above, stays, and goes up again."""
    near, away = (x, 0.0, 10.0), (x, 45.0, 10.0)
    return replace(panel, path=(away, near, near, near, away))


class SingleNetwork:
    """The landmark network alone; the detector is asked when it sees no face. Its presence is its confidence."""

    def __init__(self, bundle: Bundle) -> None:
        self._net, self._detector = LandmarkNet(bundle.landmarks), FaceDetector(bundle.detector)
        self._shape, self._weights = bundle.mesh.vertices, load_basis().rigidity()
        self._camera = Camera.for_picture(WIDTH, HEIGHT)
        self._points: np.ndarray | None = None

    def __call__(self, image: np.ndarray, time_s: float) -> Said:
        region = None if self._points is None else Region.of_points(self._points)
        for attempt in (region, None):
            if attempt is None and not (faces := self._detector.find(image)):
                break
            found = self._net.place(image, attempt or Region.around(max(faces, key=lambda face: face.size)))
            if found.presence >= 0.5:
                self._points = found.points[:468, :2]
                pose = fit_pose(self._points, self._shape, self._weights, self._camera)
                return Said(self._points, found.presence, pose.angles)
        self._points = None
        return Said(None, 0, None)


class WithoutPrior(Ensemble):
    """No shape prior."""

    def __init__(self, *args: object, **options: object) -> None:
        super().__init__(*args, **options)  # type: ignore[arg-type]
        self._judge.prior.fit = lambda *_: ShapeFit(0.0, np.zeros(468))  # type: ignore[method-assign]


class WithoutAppearance(Ensemble):
    """Nothing is known of how the face looks."""

    def __init__(self, *args: object, **options: object) -> None:
        super().__init__(*args, **options)  # type: ignore[arg-type]
        self._judge.looks.compare = lambda _: None  # type: ignore[method-assign]


class WithoutAlignment(Ensemble):
    """The looks do not guide the pose of a face that is covered."""

    def __init__(self, *args: object, **options: object) -> None:
        super().__init__(*args, **options)  # type: ignore[arg-type]
        self._judge.aligned = lambda *_: None  # type: ignore[method-assign]


class WithoutMemory(Ensemble):
    """The shape stays the canonical one."""

    def __init__(self, *args: object, **options: object) -> None:
        super().__init__(*args, **options)  # type: ignore[arg-type]
        self._judge.memory.learn = lambda *_: None  # type: ignore[method-assign]


def systems(bundle: Bundle) -> dict[str, Callable[[], System]]:
    """What is compared, by name; each makes a system for one clip."""
    host = load_plugins()
    all_trackers, all_finders = trackers(host), finders(host)

    def ensemble(cls: type[Ensemble] = Ensemble, without: str = "", **options: object) -> Callable[[], System]:
        some = {name: part for name, part in all_trackers.items() if name != without}
        seers = {name: part for name, part in all_finders.items() if name != without}

        def make() -> System:
            whole = cls(bundle, some, seers, **options)  # type: ignore[arg-type]
            return lambda image, time_s: said(whole, image, time_s)

        return make

    parts = {f"without {name}": ensemble(without=name) for name in [*all_trackers, *all_finders]}
    return {
        "network": lambda: SingleNetwork(bundle),
        "ensemble": ensemble(),
        "greedy": ensemble(greedy=True),
        **parts,
        "without prior": ensemble(WithoutPrior),
        "without appearance": ensemble(WithoutAppearance),
        "without memory": ensemble(WithoutMemory),
        "without alignment": ensemble(WithoutAlignment),
    }


def said(ensemble: Ensemble, image: np.ndarray, time_s: float) -> Said:
    """A frame of an ensemble."""
    frame = ensemble.step(image, time_s)
    angles = None if frame.pose is None else frame.pose.angles
    return Said(frame.points, frame.confidence, angles, frame.evidence, frame.tracker)


def follow(studio: Studio, kind: str, script: Script, chosen: dict[str, System]) -> Iterator[tuple[str, Measured]]:
    """Let systems follow a clip, frame by frame."""
    projection = studio.project(script)
    eyes = np.linalg.norm(projection.faces[:, 33] - projection.faces[:, 263], axis=1)
    before: FrameTruth | None = None
    for frame in studio.render(script):
        truth = frame.truth
        size = float(eyes[truth.frame]) * truth.camera.focal / -truth.translation[2]
        there = truth.face and bool(((truth.points >= 0) & (truth.points < (WIDTH, HEIGHT))).all(axis=1).mean() > 0.5)
        event = before is not None and there and (
            truth.shot != before.shot or not before.face or (truth.cover < 0.05 <= before.cover)
        )  # fmt: skip
        before = truth
        for name, system in chosen.items():
            start = perf_counter()
            answer = system(frame.image, truth.time_s)
            ms = 1000 * (perf_counter() - start)
            yield name, replace(measured(kind, script.name, truth, size, there, event, answer), ms=ms)


def measured(kind: str, clip: str, truth: FrameTruth, size: float, there: bool, event: bool, said_: Said) -> Measured:
    """What a system said, beside the truth."""
    nme = pose = np.inf
    if said_.points is not None and said_.angles is not None:
        nme = float(np.linalg.norm(said_.points - truth.points, axis=1).mean()) / size
        off = said_.angles - (truth.yaw, truth.pitch, truth.roll)
        pose = float(np.abs((off + 180) % 360 - 180).mean())
    return Measured(
        kind, clip, truth.frame, said_.points is None, said_.confidence, nme, pose, truth.cover, there, event,
        said_.evidence, said_.tracker, 0.0,
    )  # fmt: skip


def recovery(frames: list[Measured], most: int = 30) -> list[int]:
    """Frames from each event (a cut, the end of a blackout or of a cover) until the face is right again."""
    by_clip: dict[str, list[Measured]] = {}
    for frame in frames:
        by_clip.setdefault(f"{frame.kind} {frame.clip}", []).append(frame)
    waits = []
    for clip in by_clip.values():
        for start, frame in enumerate(clip):
            if frame.event:
                waits.append(next((n for n, later in enumerate(clip[start : start + most]) if later.right), most))
    return waits


def row(frames: list[Measured]) -> str:
    """A line of figures."""
    visible = [frame for frame in frames if frame.there and frame.cover < 0.9]
    held = [frame for frame in frames if not frame.lost]
    kept = [frame for frame in visible if not frame.lost]
    confidence, right = np.array([f.confidence for f in held]), np.array([f.right for f in held])
    wrong = float((~right & (confidence >= 0.5)).sum()) / len(frames)
    sure = np.mean([f.confidence >= 0.5 for f in visible])
    waits = recovery(frames)
    late = f"{np.median(waits):4.0f} {max(waits):4d} ({len(waits)})" if waits else "   -"
    return (
        f"{len(frames):6d} {100 * np.mean([f.lost for f in visible]):6.2f} {100 * (1 - sure):7.2f} {100 * wrong:6.2f} "
        f"{calibration_error(confidence, right):6.3f} {100 * np.median([f.nme for f in kept]):6.2f} "
        f"{100 * np.mean([f.nme > RIGHT for f in kept]):6.2f} {np.mean([f.pose for f in kept]):6.2f} "
        f"{np.median([f.ms for f in frames]):5.1f} {np.percentile([f.ms for f in frames], 95):5.1f} {late}"
    )


HEADER = (
    f"{'':22s} frames  lost% unsure% wrong%    ECE   NME%  >10%   pose    ms   p95  recovery: median, most (events)\n"
    "wrong: confidence >= 0.5 and not right; unsure: lost or confidence < 0.5; NME: median; >10%: of frames not lost;\n"
    "pose: mean absolute error of yaw, pitch and roll in degrees; ms: of a frame, one core, all systems in turn;\n"
    "a recovery of 30 is none"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--split", required=True, choices=("fit", "calibration", "held-out"))
    parser.add_argument("--clips", type=int, default=3, help="of each kind")
    parser.add_argument("--kinds", nargs="+", default=KINDS, choices=KINDS)
    parser.add_argument("--systems", nargs="+", help="names, all by default")
    parser.add_argument("--first", type=int, default=0, help="number of the first clip")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    bundle = load_bundle()
    studio, available = Studio(bundle), systems(bundle)
    names = options.systems or list(available)
    results: dict[str, list[Measured]] = {name: [] for name in names}
    for kind in options.kinds:
        for number in range(options.first, options.first + options.clips):
            script = clip_of(kind, options.split, number)
            for name, frame in follow(studio, kind, script, {name: available[name]() for name in names}):
                results[name].append(frame)
    print(f"synthetic clips of the split {options.split}, {options.clips} of each kind\n{HEADER}")
    for name, frames in results.items():
        print(f"{name:22s} {row(frames)}")
        if name in ("network", "ensemble"):
            for kind in options.kinds:
                print(f"  {kind:20s} {row([frame for frame in frames if frame.kind == kind])}")


if __name__ == "__main__":
    main()

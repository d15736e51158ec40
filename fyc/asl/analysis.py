"""From a video to a table of measures: in a first reading the face is followed, in a second it is measured.

In between the signer is learned, from faces all over the video. Each reading holds one frame at a time; landmarks wait
in the track file. What grows with the length of the video is the table, 200 bytes a frame.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fyc.asl.face.bundle import Bundle
from fyc.asl.face.camera import Array, Camera
from fyc.asl.face.deformation import load_basis
from fyc.asl.face.pose import Pose
from fyc.asl.face.shape import ShapeFitter
from fyc.asl.measures import MEASURES, Measures
from fyc.asl.samples import FaceSample, Sampler
from fyc.asl.signer import LEAST_SAMPLES, VALUES, FaceMeasures, Signer
from fyc.asl.tracker import finders, trackers
from fyc.asl.tracking.ensemble import Ensemble, TrackedFrame
from fyc.asl.tracking.track_file import TrackFile, TrackRow
from fyc.asl.video.reader import Frame, VideoInfo, open_video
from fyc.errors import NoFaceError, VideoError
from fyc.plugins import PluginHost

#: Of `VALUES`: what is measured on landmarks; brows are not.
_LANDMARKED = np.array([not name.startswith("brow") for name in VALUES])

#: Stage (`track` or `measure`), frames done, frames in all if known.
Progress = Callable[[str, int, int | None], None]
#: A frame, and what is measured in it; None where there is no face.
Watch = Callable[[Frame, FaceMeasures | None], None]


@dataclass(frozen=True, repr=False)
class Analysis:
    """What was found in the T frames of a video.

    Attributes:
        info: of the video.
        measures: the table.
        tracker: (T,), who spoke; empty where the face is lost.
        reason: (T,), why the face is lost, or what else should be known of a frame; mostly empty.
        most_faces: the most faces that were seen at once.
        problem: what is wrong with the file as a whole; empty for a sound one.
    """

    info: VideoInfo
    measures: Measures
    tracker: tuple[str, ...]
    reason: tuple[str, ...]
    most_faces: int
    problem: str

    @property
    def seen(self) -> NDArray[np.bool_]:
        """(T,), frames in which there is a face."""
        return np.array([bool(name) for name in self.tracker], bool)


@dataclass(frozen=True, repr=False)
class Followed:
    """What the first reading of a video of T frames found.

    Attributes:
        info: of the video.
        time_s, confidence, tracker, reason, occluded: of the frames, as in `Analysis` and its measures.
        samples: faces of the signer.
        most_faces: the most faces that were seen at once.
        problem: what is wrong with the file as a whole; empty for a sound one.
    """

    info: VideoInfo
    time_s: Array
    confidence: Array
    tracker: tuple[str, ...]
    reason: tuple[str, ...]
    occluded: Array
    samples: list[FaceSample]
    most_faces: int
    problem: str


class Analyst:
    """Analyses videos.

    Args:
        bundle: networks and mesh.
        host: where trackers and finders come from.
        face: which of several faces, counted from 0, from left to right; None for the largest.
        seed: of the draws between trackers.
        signer: who signs in them; None to learn each from its own video.

    Attributes:
        mesh: whose vertices the landmarks are.
    """

    def __init__(
        self,
        bundle: Bundle,
        host: PluginHost,
        *,
        face: int | None = None,
        seed: int = 0,
        signer: Signer | None = None,
    ) -> None:
        self._bundle, self._face, self._seed = bundle, face, seed
        self.mesh = bundle.mesh
        self._trackers, self._finders = trackers(host), finders(host)
        self._signer = signer

    def analyse(
        self,
        path: Path,
        track: TrackFile,
        progress: Progress | None = None,
        watch: Watch | None = None,
    ) -> Analysis:
        """Analyse a video.

        Args:
            path: the video.
            track: takes landmarks and poses.
            progress: is told how far it is.
            watch: sees every frame, once, with what is measured in it.

        Raises:
            VideoError: if the video cannot be read.
            NoFaceError: FYC-V06 when there are fewer than three frames with a face in it; if the signer is known, when
                there is none.
            OSError: if the track cannot be written.
        """
        tell = progress or _silent
        followed = self.follow(path, track, tell)
        if self._signer is not None and not any(followed.tracker):
            raise _no_face(followed, self._face)
        return self.measure(followed, self._signer or self.learn(followed), track, tell, watch)

    @cached_property
    def _fitter(self) -> ShapeFitter:
        return ShapeFitter(self.mesh, load_basis())

    def learn(self, followed: Followed) -> Signer:
        """The signer of a video.

        Raises:
            NoFaceError: FYC-V06 when there are fewer than three frames with a face in it.
        """
        samples = followed.samples
        if len(samples) < LEAST_SAMPLES:
            raise _no_face(followed, self._face)
        return Signer.learn(self._fitter, samples)

    def follow(self, path: Path, track: TrackFile, progress: Progress) -> Followed:
        """The first reading: follow the face."""
        ensemble = Ensemble(self._bundle, self._trackers, self._finders, seed=self._seed, face=self._face)
        rows: list[tuple[float, float, str, str, float, int]] = []
        with open_video(path) as video:
            sampler, camera = Sampler(), Camera.for_picture(video.info.width, video.info.height)
            for frame in video:
                tracked = None if frame.image is None else ensemble.step(frame.image, frame.time_s)
                track.add(tracked)
                if frame.image is not None and tracked is not None:
                    sampler.add(frame.image, tracked, camera)
                rows.append(_row(frame, tracked))
                progress("track", frame.index + 1, video.info.frames)
            time_s, confidence, tracker, reason, occluded, faces = zip(*rows, strict=True)
            return Followed(
                video.info, np.array(time_s), np.array(confidence), tracker, reason, np.array(occluded),
                sampler.samples, max(faces), video.problem,
            )  # fmt: skip

    def measure(
        self,
        followed: Followed,
        signer: Signer,
        track: TrackFile,
        progress: Progress,
        watch: Watch | None = None,
    ) -> Analysis:
        """The second reading: measure the signer."""
        info, frames = followed.info, len(followed.time_s)
        camera = Camera.for_picture(info.width, info.height)
        table = np.full((frames, len(MEASURES)), np.nan)
        pose: Pose | None = None
        with open_video(info.path) as video:
            for number, (frame, row) in enumerate(_together(video, track.rows(), info.path)):
                measured = None
                if row is None or frame.image is None:
                    pose = None
                else:
                    start = None if followed.tracker[number] == "search" else pose
                    pose = _pose(signer, row, camera, start)
                if frame.image is not None and row is not None and pose is not None:
                    table[number, :3], table[number, 3:6] = pose.angles, pose.translation
                    measured = signer.measure(frame.image, row.points, pose, camera)
                    unseen = _LANDMARKED & (not row.expressive)
                    table[number, -len(VALUES) :] = np.where(unseen, np.nan, measured.values)
                track.add_pose(pose)
                if watch is not None:
                    watch(frame, measured)
                progress("measure", number + 1, frames)
        measures = Measures.from_table(followed.time_s, followed.confidence, table, followed.occluded)
        return Analysis(info, measures, followed.tracker, followed.reason, followed.most_faces, followed.problem)


def _together(
    frames: Iterable[Frame], rows: Iterable[TrackRow | None], path: Path
) -> Iterator[tuple[Frame, TrackRow | None]]:
    """Frames of the second reading with what the first found in them.

    Raises:
        VideoError: FYC-V07 if there are more or fewer of them.
    """
    try:
        yield from zip(frames, rows, strict=True)
    except ValueError as error:
        raise VideoError(
            "FYC-V07", "the video changed while it was read", where=str(path),
            why="its second reading has more or fewer frames", next="run it again when nothing writes the file",
        ) from error  # fmt: skip


def _row(frame: Frame, tracked: TrackedFrame | None) -> tuple[float, float, str, str, float, int]:
    """Time, confidence, tracker, reason, occlusion and number of faces of a frame."""
    if tracked is None:
        return frame.time_s, 0.0, "", frame.problem, np.nan, 0
    reason = "; ".join(part for part in (frame.problem, tracked.reason) if part)
    occluded = np.nan if tracked.points is None else float(tracked.occluded.mean())
    return frame.time_s, tracked.confidence, tracked.tracker, reason, occluded, tracked.faces


def _pose(signer: Signer, row: TrackRow, camera: Camera, start: Pose | None) -> Pose | None:
    try:
        return signer.pose(row.points, row.depths, camera, start)
    except (ValueError, np.linalg.LinAlgError):
        return None


def _silent(stage: str, done: int, total: int | None) -> None:
    pass


def _no_face(followed: Followed, face: int | None) -> NoFaceError:
    where, most = str(followed.info.path), followed.most_faces
    if face is not None and 0 < most <= face:
        why = f"face number {face + 1} from the left was asked for; {most} at most are seen at once"
        return NoFaceError("FYC-V06", "that face is not in the video", where=where, why=why, next="lower --face")
    frames, seen = len(followed.tracker), sum(map(bool, followed.tracker))
    damaged = f"; the file is not sound: {followed.problem}" if followed.problem else ""
    if not seen:
        why = f"none of {_frames(frames)} shows one"
        advice = "the face must be seen from the front or the side, and be 30 pixels wide or more"
        return NoFaceError("FYC-V06", "no face is seen in the video", where=where, why=why + damaged, next=advice)
    why = (
        f"it is seen in {seen} of {_frames(frames)}, in {len(followed.samples)} well enough; a signer is learned from "
        f"{LEAST_SAMPLES} or more"
    )
    advice = "give a video that shows more of the face, or learn the signer from others and give --signer"
    return NoFaceError("FYC-V06", "too little of the face is seen", where=where, why=why + damaged, next=advice)


def _frames(count: int) -> str:
    return f"{count} frame{'s' * (count != 1)}"

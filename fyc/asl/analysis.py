"""From a video to a table of measures: the signer is learned in a first reading, tracked and measured in a second.

Each reading holds one frame at a time. What grows with the length of the video is the table, 200 bytes a frame.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fyc.asl.ensemble import Ensemble, TrackedFrame
from fyc.asl.face.bundle import Bundle
from fyc.asl.face.camera import Array, Camera
from fyc.asl.face.pose import Pose
from fyc.asl.measures import MEASURES, Measures
from fyc.asl.signer import VALUES, Signer, SignerSampler
from fyc.asl.tracker import finders, trackers
from fyc.asl.video import Frame, VideoInfo, open_video
from fyc.errors import NoFaceError
from fyc.plugins import PluginHost

#: Stage (`signer` or `track`), frames done, frames in all if known.
Progress = Callable[[str, int, int | None], None]


class FrameSink(Protocol):
    """Takes what was found in each frame, as it is found."""

    def add(self, tracked: TrackedFrame | None, pose: Pose | None) -> None:
        """The next frame; None where there was no picture, or no face."""
        ...


@dataclass(frozen=True, repr=False)
class Analysis:
    """What was found in the T frames of a video.

    Attributes:
        info: of the video.
        measures: the table.
        tracker: (T,), who spoke; empty where the face is lost.
        reason: (T,), why the face is lost, or what else should be known of a frame; mostly empty.
        occluded: (T,), what part of the landmarks is covered, 0 to 1; NaN where the face is lost.
        most_faces: the most faces that were seen at once.
        problem: what is wrong with the file as a whole; empty for a sound one.
    """

    info: VideoInfo
    measures: Measures
    tracker: tuple[str, ...]
    reason: tuple[str, ...]
    occluded: Array
    most_faces: int
    problem: str

    @property
    def seen(self) -> NDArray[np.bool_]:
        """(T,), frames in which there is a face."""
        return np.array([bool(name) for name in self.tracker], bool)


class Analyst:
    """Analyses videos.

    Args:
        bundle: networks and mesh.
        host: where trackers and finders come from.
        face: which of several faces, counted from 0, from left to right; None for the largest.
        seed: of the draws between trackers.
    """

    def __init__(self, bundle: Bundle, host: PluginHost, *, face: int | None = None, seed: int = 0) -> None:
        self._bundle, self._face, self._seed = bundle, face, seed
        self._trackers, self._finders = trackers(host), finders(host)

    def analyse(self, path: Path, sinks: tuple[FrameSink, ...] = (), progress: Progress | None = None) -> Analysis:
        """Analyse a video.

        Args:
            path: the video.
            sinks: are told of every frame.
            progress: is told how far it is.

        Raises:
            VideoError: if the video cannot be read.
            NoFaceError: FYC-V06 when there are fewer than three frames with a face in it.
        """
        tell = progress or _silent
        signer, sampler = self._learn(path, tell)
        ensemble = Ensemble(self._bundle, self._trackers, self._finders, seed=self._seed, face=self._face)
        rows = _Rows(signer, ensemble)
        with open_video(path) as video:
            for frame in video:
                tracked, pose = rows.add(frame)
                for sink in sinks:
                    sink.add(tracked, pose)
                tell("track", frame.index + 1, video.info.frames)
            return rows.analysis(video.info, sampler.most_faces, video.problem)

    def _learn(self, path: Path, tell: Progress) -> tuple[Signer, SignerSampler]:
        sampler = SignerSampler(self._bundle, face=self._face)
        with open_video(path) as video:
            for frame in video:
                if frame.image is not None:
                    sampler.add(frame.image)
                tell("signer", frame.index + 1, video.info.frames)
            camera = Camera.for_picture(video.info.width, video.info.height)
        if len(sampler.samples) < 3:
            raise _no_face(path, len(sampler.samples), self._face, sampler.most_faces)
        return Signer(self._bundle, sampler.samples, camera), sampler


class _Rows:
    """Collects the table."""

    def __init__(self, signer: Signer, ensemble: Ensemble) -> None:
        self._signer, self._ensemble = signer, ensemble
        self._times: list[float] = []
        self._confidence: list[float] = []
        self._table: list[Array] = []
        self._tracker: list[str] = []
        self._reason: list[str] = []
        self._occluded: list[float] = []
        self._pose: Pose | None = None

    def add(self, frame: Frame) -> tuple[TrackedFrame | None, Pose | None]:
        """Track and measure a frame."""
        tracked = None if frame.image is None else self._ensemble.step(frame.image, frame.time_s)
        row, self._pose = self._measure(frame, tracked)
        lost = tracked is None or tracked.points is None
        reasons = [frame.problem, "" if tracked is None else tracked.reason]
        self._times.append(frame.time_s)
        self._confidence.append(0.0 if tracked is None else tracked.confidence)
        self._table.append(row)
        self._tracker.append("" if tracked is None or lost else tracked.tracker)
        self._reason.append("; ".join(reason for reason in reasons if reason))
        self._occluded.append(np.nan if tracked is None or lost else float(tracked.occluded.mean()))
        return tracked, self._pose

    def _measure(self, frame: Frame, tracked: TrackedFrame | None) -> tuple[Array, Pose | None]:
        """A row of the table, and the pose by the shape of this signer."""
        row = np.full(len(MEASURES), np.nan)
        if frame.image is None or tracked is None or tracked.points is None:
            return row, None
        known = tracked.points.copy()
        known[tracked.occluded] = np.nan
        try:
            pose = self._signer.pose(known, tracked.depths, None if tracked.redetected else self._pose)
        except (ValueError, np.linalg.LinAlgError):
            return row, None
        measured = self._signer.measure(frame.image, known, pose)
        row[:3], row[3:6] = pose.angles, pose.translation
        row[-len(VALUES) :] = measured.values
        return row, pose

    def analysis(self, info: VideoInfo, most_faces: int, problem: str) -> Analysis:
        """All of it."""
        measures = Measures.from_table(np.array(self._times), np.array(self._confidence), np.array(self._table))
        return Analysis(
            info, measures, tuple(self._tracker), tuple(self._reason), np.array(self._occluded),
            most_faces, problem,
        )  # fmt: skip


def _silent(stage: str, done: int, total: int | None) -> None:
    pass


def _no_face(path: Path, frames: int, face: int | None, most: int) -> NoFaceError:
    if face is not None and most:
        why = f"face number {face + 1} from the left was asked for; {most} at most are seen at once"
        return NoFaceError("FYC-V06", "that face is not in the video", where=str(path), why=why, next="lower --face")
    why = f"{frames} of the frames that were looked at show one; a signer is learned from three or more"
    advice = "the face must be seen from the front or the side, and be 30 pixels wide or more"
    return NoFaceError("FYC-V06", "no face is seen in the video", where=str(path), why=why, next=advice)

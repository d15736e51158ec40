"""One video of a corpus from beginning to end: claimed, looked at whether it is done, analysed, accounted for."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fyc.asl.output.claim import claim, is_done
from fyc.asl.output.record import Record, fingerprint
from fyc.errors import FycError, InternalError, resource_error

if TYPE_CHECKING:
    from fyc.asl.analysis import Progress
    from fyc.asl.corpus.tasks import Task
    from fyc.asl.run import Findings, Results

#: Codes of what is no failure in a corpus: made otherwise before, or another run is at it.
_LEFT = frozenset({"FYC-E07", "FYC-S03"})


@dataclass(frozen=True)
class Settings:
    """How every video of a run is treated.

    Attributes:
        face: which face, counted from 0, from the left; None for the largest.
        seed: of the draws between trackers.
        overlay: whether an overlay video is written.
        offline: whether the network is forbidden.
        overwrite: whether documents that are there are written again.
        report: whether a report page is written.
        model: file of the recognizer of markers; None for none.
        signer: file of the signer; None to learn each video's own.
    """

    face: int | None = None
    seed: int = 0
    overlay: bool = True
    offline: bool = False
    overwrite: bool = False
    report: bool = True
    model: Path | None = None
    signer: Path | None = None

    def __str__(self) -> str:
        """What results depend on, as documents record it."""
        model = "" if self.model is None else f", model {fingerprint(self.model)[:12]}"
        signer = "" if self.signer is None else f", signer {fingerprint(self.signer)[:12]}"
        return f"face {'largest' if self.face is None else self.face + 1}, seed {self.seed}{model}{signer}"


@dataclass(frozen=True)
class Outcome:
    """What became of a video.

    Attributes:
        task: the video.
        status: `done` in this run; `skipped`: it was done before, or `error` says why it was left; `failed`.
        seconds: that it took.
        summary: of what was found (`fyc.asl.output.summary`); None if it was not done in this run.
        error: why it was left, or failed.
    """

    task: Task
    status: Literal["done", "skipped", "failed"]
    seconds: float = 0.0
    summary: dict[str, Any] | None = None
    error: FycError | None = None


def results_of(task: Task, settings: Settings) -> Results:
    """The files of a video."""
    from fyc.asl.run import Results

    return Results.in_folder(task.folder, task.name, overlay=settings.overlay, report=settings.report)


def annotate(task: Task, settings: Settings, progress: Progress | None = None) -> Findings | None:
    """Analyse a video and write its results, unless they are there.

    Returns:
        What was found; None if the results are there already.

    Raises:
        FycError: as of `fyc.asl.run.run_video` and `fyc.asl.output.claim`; FYC-E07 if results are there that were made
            otherwise.
    """
    from fyc.asl.analysis import Analyst
    from fyc.asl.face.bundle import load_bundle
    from fyc.asl.learning.model import open_model
    from fyc.asl.run import run_video
    from fyc.asl.signer import load_signer
    from fyc.plugins import load_plugins

    record, results = Record.of(task.video, str(settings)), results_of(task, settings)
    with claim(results):
        if not settings.overwrite and is_done(results, record):
            return None
        bundle = load_bundle(offline=settings.offline)
        signer = None if settings.signer is None else load_signer(settings.signer, bundle.mesh)
        analyst = Analyst(bundle, load_plugins(), face=settings.face, seed=settings.seed, signer=signer)
        recognizer = None if settings.model is None else open_model(settings.model)
        return run_video(task.video, results, analyst, recognizer, progress, record)


def attempt(task: Task, settings: Settings, progress: Progress | None = None) -> Outcome:
    """Annotate a video; what goes wrong is an outcome, too."""
    from fyc.asl.output.summary import summary

    begin = time.perf_counter()
    try:
        found = annotate(task, settings, progress)
    except Exception as error:
        return failed(task, error, time.perf_counter() - begin)
    seconds = time.perf_counter() - begin
    if found is None:
        return Outcome(task, "skipped", seconds)
    return Outcome(task, "done", seconds, summary(found, results_of(task, settings)))


def skipped(task: Task, settings: Settings) -> Outcome | None:
    """The outcome of a video that needs no work, found without any; None if it needs some."""
    if settings.overwrite:
        return None
    try:
        done = is_done(results_of(task, settings), Record.of(task.video, str(settings)))
    except FycError as error:
        return failed(task, error, 0.0)
    return Outcome(task, "skipped") if done else None


def failed(task: Task, error: Exception, seconds: float) -> Outcome:
    """The outcome of a video that an exception ended."""
    from fyc.ui.console import write_traceback

    known = error if isinstance(error, FycError) else resource_error(error, where=str(task.video))
    if known is None:
        known = InternalError(
            "FYC-X99", f"an error nobody foresaw: {type(error).__name__}: {error}",
            where=f"{task.video}; the traceback is in {write_traceback(error)}", next="please report it with that file",
        )  # fmt: skip
    return Outcome(task, "skipped" if known.code in _LEFT else "failed", seconds, error=known)

"""`fyc asl run`: a video in, annotations out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fyc.cli.asl_corpus import Engine, interruptible, notes, run_corpus
from fyc.cli.options import Json, Offline

if TYPE_CHECKING:
    from fyc.asl.analysis import Progress
    from fyc.asl.recognition.recognizer import About
    from fyc.asl.run import Findings, Results

_STAGES = {"track": "following the face", "measure": "measuring"}


def add_to(app: typer.Typer) -> None:
    """Add `fyc asl run`."""
    app.command("run")(run)


def run(
    videos: Annotated[
        list[Path], typer.Argument(metavar="VIDEO...", help="Videos, or folders of them.", show_default=False)
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.", show_default=False)],
    face: Annotated[
        int | None, typer.Option("--face", min=1, help="Which of several faces, from the left; else the largest.")
    ] = None,
    overlay: Annotated[
        bool, typer.Option("--overlay/--no-overlay", help="Write the video with what was found.")
    ] = True,
    report: Annotated[
        bool, typer.Option("--report/--no-report", help="Write a page for a browser; it holds pictures of the signer.")
    ] = True,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the draws between trackers.")] = 0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Write results again; an edited document is kept as .eaf.bak.")
    ] = False,
    model: Annotated[
        Path | None,
        typer.Option("--model", help="What `fyc asl train` wrote: it finds grammatical markers.", show_default=False),
    ] = None,
    signer: Annotated[
        Path | None,
        typer.Option(
            "--signer",
            help="What `fyc asl signer` wrote; else the signer is learned from each video alone.",
            show_default=False,
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            "--workers",
            min=1,
            show_default="as many as there are cores, and GiB of memory free",
            help="Videos at a time, each in a process of its own; for several videos only.",
        ),
    ] = None,
    engine: Annotated[
        Engine, typer.Option("--engine", help="Who runs several videos: this machine, or a Ray cluster.")
    ] = "local",
    offline: Offline = False,
    json: Json = False,
) -> None:
    """Annotate videos: an ELAN document with curves, a table of every frame, subtitles, an overlay video for each.

    Brow raises and lowerings, shakes, nods, tilts, turns, leans and blinks are found by thresholds, without training.
    Grammatical markers need a model that was trained on annotated videos: `fyc asl train` makes one of yours.
    Nothing leaves this machine. Frames in which the face is lost are rows of the table, too, and say why.

    In a folder all videos are found, through its whole depth, and the output has its tree. What is done is skipped, so
    a run that was stopped goes on when it is repeated. Documents that are there are not written over without
    `--overwrite`. A video that fails costs only itself.
    """
    from fyc.asl.corpus.job import Settings, annotate, results_of
    from fyc.asl.corpus.tasks import Task
    from fyc.asl.face.bundle import load_bundle
    from fyc.asl.learning.model import model_file, open_model
    from fyc.asl.output.summary import summary
    from fyc.asl.signer import load_signer
    from fyc.cli.runtime import print_json

    about = None if model is None else open_model(model).about
    file = None if model is None else model_file(model)
    if signer is not None:
        load_signer(signer, load_bundle(offline=offline).mesh)  # before any work
    settings = Settings(None if face is None else face - 1, seed, overlay, offline, overwrite, report, file, signer)
    video = videos[0]
    with interruptible():
        if len(videos) > 1 or video.is_dir():
            typer.echo(_about_markers(about), err=True)
            return run_corpus(videos, output, settings, workers, engine, json=json)
        results = results_of(task := Task(video, output, video.stem), settings)
        with _progress() as progress:
            found = annotate(task, settings, progress)
    if json:
        print_json({"video": str(video), "status": "skipped"} if found is None else summary(found, results))
    elif found is None:
        typer.echo(f"done before, with these settings: {results.eaf}; --overwrite makes it again")
    else:
        _show(found, results)
    return None


@contextmanager
def _progress() -> Iterator[Progress]:
    """A bar for each stage, on a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        tasks: dict[str, Any] = {}

        def tell(stage: str, done: int, total: int | None) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(_STAGES[stage], total=total)
            bars.update(tasks[stage], completed=done)

        yield tell


def _about_markers(about: About | None) -> str:
    if about is None:
        return "markers (questions, negation, ...) were not looked for: they need --model, see `fyc asl train`"
    synthetic = "; this data is synthetic: the markers say nothing about a language" if about.synthetic else ""
    return f"markers as learned from {about.data}, {about.videos} videos{synthetic}"


def _show(found: Findings, results: Results) -> None:
    from collections import Counter

    from fyc.ui.tables import show_table

    analysis = found.analysis
    lost, frames = int((~analysis.seen).sum()), len(analysis.measures)
    rows = []
    for kind, segments in (("event", found.events), ("marker", found.markers)):
        for label, times in sorted(Counter(part.label for part in segments).items()):
            seconds = sum(part.end_s - part.start_s for part in segments if part.label == label)
            rows.append((kind, label, str(times), f"{seconds:.1f}"))
    show_table(("kind", "label", "times", "seconds"), rows)
    typer.echo(f"{frames} frames; the face is lost in {lost} ({lost / frames:.1%})")
    for note in notes(analysis.most_faces, analysis.problem):
        typer.echo(note)
    typer.echo(f"open in ELAN: {results.eaf}")
    typer.echo(_about_markers(found.about))

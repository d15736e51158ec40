"""`fyc asl run`: a video in, annotations out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fyc.cli.options import Json, Offline

if TYPE_CHECKING:
    from fyc.asl.analysis import Progress
    from fyc.asl.run import Findings, Results

_STAGES = {"track": "following the face", "measure": "measuring"}


def add_to(app: typer.Typer) -> None:
    """Add `fyc asl run`."""
    app.command("run")(run)


def run(
    video: Annotated[Path, typer.Argument(help="The video.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.", show_default=False)],
    face: Annotated[
        int | None, typer.Option("--face", min=1, help="Which of several faces, from the left; else the largest.")
    ] = None,
    overlay: Annotated[
        bool, typer.Option("--overlay/--no-overlay", help="Write the video with what was found.")
    ] = True,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the draws between trackers.")] = 0,
    offline: Offline = False,
    json: Json = False,
) -> None:
    """Annotate a video: an ELAN document with curves, a table of every frame, subtitles, an overlay video.

    Brow raises and lowerings, shakes, nods, tilts, turns, leans and blinks are found by thresholds, without training.
    Nothing leaves this machine. Frames in which the face is lost are rows of the table, too, and say why.
    """
    from fyc.asl.analysis import Analyst
    from fyc.asl.face.bundle import load_bundle
    from fyc.asl.run import Results, run_video
    from fyc.cli.runtime import print_json
    from fyc.plugins import load_plugins

    analyst = Analyst(load_bundle(offline=offline), load_plugins(), face=None if face is None else face - 1, seed=seed)
    results = Results.in_folder(output, video.stem, overlay=overlay)
    with _progress() as progress:
        found = run_video(video, results, analyst, progress=progress)
    if json:
        print_json(_document(found, results))
    else:
        _show(found, results)


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


def _document(found: Findings, results: Results) -> dict[str, Any]:
    analysis, measures = found.analysis, found.analysis.measures
    return {
        "video": str(analysis.info.path),
        "frames": len(measures),
        "lost_frames": int((~analysis.seen).sum()),
        "mean_confidence": round(float(measures.confidence.mean()), 4),
        "most_faces": analysis.most_faces,
        "problem": analysis.problem,
        "events": [
            {"label": event.label, "start_s": round(event.start_s, 4), "end_s": round(event.end_s, 4)}
            for event in found.events
        ],
        "files": {name: str(path) for name, path in vars(results).items() if path is not None},
    }


def _show(found: Findings, results: Results) -> None:
    from collections import Counter

    from fyc.ui.tables import show_table

    analysis, events = found.analysis, found.events
    lost, frames = int((~analysis.seen).sum()), len(analysis.measures)
    counts = Counter(event.label for event in events)
    lengths = {label: sum(e.end_s - e.start_s for e in events if e.label == label) for label in counts}
    show_table(
        ("event", "times", "seconds"),
        [(label, str(counts[label]), f"{lengths[label]:.1f}") for label in sorted(counts)],
    )
    typer.echo(f"{frames} frames; the face is lost in {lost} ({lost / frames:.1%})")
    if analysis.most_faces > 1:
        typer.echo(f"up to {analysis.most_faces} faces were seen; --face picks another one")
    if analysis.problem:
        typer.echo(f"the file is not sound: {analysis.problem}")
    typer.echo(f"open in ELAN: {results.eaf}")

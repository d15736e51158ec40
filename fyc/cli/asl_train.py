"""`fyc asl train`: annotated documents in, a recognizer out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from os.path import commonpath
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fyc.cli.options import Json, Offline

if TYPE_CHECKING:
    from fyc.asl.analysis import Analyst, Progress
    from fyc.asl.learning.annotated import AnnotatedVideo
    from fyc.asl.measures import Measures

_COLUMNS = ("label", "count", "seconds", "signers", "f1", "onset_error_s", "offset_error_s")
_TITLES = ("label", "examples", "seconds", "signers", "F1", "onset, s", "offset, s")
#: So many folders of documents name a model.
_MOST_NAMED = 3


def add_to(app: typer.Typer) -> None:
    """Add `fyc asl train`."""
    app.command("train")(train)


def train(
    documents: Annotated[list[Path], typer.Argument(help="Annotated .eaf files, or folders.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the model.", show_default=False)],
    markers: Annotated[
        str, typer.Option("--markers", help="The tier of markers, such as questions and negation.")
    ] = "nonmanual markers",
    events: Annotated[
        list[str] | None,
        typer.Option(
            "--events",
            help="A tier of what brows, eyes and head do; repeatable. By default those that `fyc asl run` writes.",
        ),
    ] = None,
    no_events: Annotated[bool, typer.Option("--no-events", help="Learn from the tier of markers only.")] = False,
    measures: Annotated[
        list[Path] | None,
        typer.Option(
            "--measures",
            exists=True,
            file_okay=False,
            help="Folder of tables that `fyc asl run` wrote: NAME.csv; repeatable, the first that has one counts.",
        ),
    ] = None,
    skip_broken: Annotated[
        bool, typer.Option("--skip-broken", help="Go on without documents and videos that cannot be used.")
    ] = False,
    offline: Offline = False,
    json: Json = False,
) -> None:
    """Learn grammatical markers from annotated ELAN documents, and say how well signers who are new are recognised.

    All documents are checked first. Then videos without a table of measures are analysed; their tables are kept in the
    output folder for the next time. By turns, some signers are judged by what was learned from the others; the model
    itself is trained on all. `fyc asl run --model` uses it. Nothing leaves this machine.
    """
    from fyc.asl.learning.annotated import Wanted, read_all
    from fyc.asl.learning.examples import material
    from fyc.asl.learning.model import TABLES, document, learn, measure_all, model_folder, write_model
    from fyc.asl.learning.sources import measured
    from fyc.cli.runtime import print_json

    if events and no_events:
        raise typer.BadParameter("a tier of events is named as well", param_hint="--no-events")
    wanted = Wanted(markers, () if no_events else tuple(events) if events else None)
    given = measures or []
    read, broken = read_all(documents, wanted, given, skip=skip_broken)
    analyst = _analyst(offline)
    with model_folder(output):
        with _progress(read) as follow:

            def measure(video: AnnotatedVideo) -> Measures:
                return measured(video.source.path, [output / TABLES, *given], analyst, follow(video))

            videos, unmeasured = measure_all(read, measure, skip=skip_broken)
        learned = learn(material(videos), _name_of(videos), _say)
        report = document(learned, [video for video, _ in videos], [*broken, *unmeasured])
        write_model(learned, report, output)
    if json:
        print_json(report)
    else:
        _show(report, output)


def _name_of(videos: Sequence[tuple[AnnotatedVideo, Measures]]) -> str:
    """The folders of the documents; of many, such as one for each signer, the one that all of them are in."""
    folders = {video.path.resolve().parent for video, _ in videos}
    if len(folders) > _MOST_NAMED:
        folders = {Path(commonpath(folders))}
    return ", ".join(sorted({folder.name for folder in folders}))


def _analyst(offline: bool) -> Callable[[], Analyst]:
    """Makes an analyst when the first video needs one; networks are not loaded for tables."""
    from functools import cache

    from fyc.asl.analysis import Analyst
    from fyc.asl.face.bundle import load_bundle
    from fyc.plugins import load_plugins

    return cache(lambda: Analyst(load_bundle(offline=offline), load_plugins()))


def _say(text: str) -> None:
    typer.echo(text, err=True)


@contextmanager
def _progress(videos: Sequence[AnnotatedVideo]) -> Iterator[Callable[[AnnotatedVideo], Progress]]:
    """A bar for every video on a terminal, else a line."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    waiting = [video.path for video in videos if video.measures is None]
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:

        def follow(video: AnnotatedVideo) -> Callable[[str, int, int | None], None]:
            number = waiting.index(video.path) + 1
            name = f"{video.source.path.name} ({number} of {len(waiting)})"
            tasks: dict[str, Any] = {}

            def tell(stage: str, done: int, total: int | None) -> None:
                if not tasks and not console.is_terminal:
                    _say(f"measuring {name}")
                if stage not in tasks:
                    tasks[stage] = bars.add_task(f"{name}: {stage}", total=total)
                bars.update(tasks[stage], completed=done)

            return tell

        yield follow


def _show(report: dict[str, Any], output: Path) -> None:
    from fyc.asl.learning.model import RECOGNIZER, REPORT
    from fyc.ui.tables import show_table

    for title, kind in ((f"markers, tier {report['marker_tier']!r}", "markers"), ("events", "events")):
        rows = [[entry[name] for name in _COLUMNS] for entry in report[kind]]
        columns = list(_TITLES)
        if kind == "events":
            columns += ["F1 of rules", "found by"]
            rows = [[*row, entry["rules_f1"], entry["found_by"]] for row, entry in zip(rows, report[kind], strict=True)]
        if rows:
            show_table(columns, rows, title=title)
            typer.echo()
    if report["judged"]:
        typer.echo(f"scores: of signers that were left out, in {report['judged']['parts']} turns; IoU 0.5")
    for entry in report["notes"]:
        typer.echo(f"note: {entry['document']}: {entry['note']}", err=True)
    for entry in report["skipped"]:
        typer.echo(f"left out: {entry['where']}: {entry['what']}", err=True)
    for text in report["warnings"]:
        typer.echo(f"warning: {text}", err=True)
    typer.echo(f"learned from {len(report['documents'])} documents: {output / RECOGNIZER}, {output / REPORT}")
    typer.echo(f"use it: fyc asl run VIDEO -o out/ --model {output}")

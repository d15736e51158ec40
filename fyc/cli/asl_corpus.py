"""`fyc asl run` on folders: bars over the videos, a table of what became of them, and those that failed."""

from __future__ import annotations

import signal
import sys
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager, redirect_stdout
from itertools import chain
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Literal

import typer

from fyc.errors import Interrupted

if TYPE_CHECKING:
    from fyc.asl.corpus.job import Outcome, Settings
    from fyc.asl.corpus.tasks import Task
    from fyc.asl.corpus.workers import Tell

Engine = Literal["local", "ray"]


def run_corpus(
    videos: Sequence[Path], output: Path, settings: Settings, workers: int | None, engine: Engine, *, json: bool
) -> None:
    """Annotate the videos of files and folders; leaves with the exit code of the first that failed, if one did.

    Raises:
        VideoError: if there is no video.
        Interrupted: FYC-I01 after Ctrl-C.
    """
    from fyc.asl.corpus.job import results_of, skipped
    from fyc.asl.corpus.tasks import find_tasks
    from fyc.cli.runtime import print_json
    from fyc.ui.console import print_error

    tasks = find_tasks(videos, output)
    outcomes: dict[Task, Outcome] = {}
    try:
        with redirect_stdout(sys.stderr), _bars(len(tasks)) as (tell, finish):  # Ray writes to stdout
            known = [outcome for outcome in (skipped(task, settings) for task in tasks) if outcome is not None]
            left = [task for task in tasks if task not in {outcome.task for outcome in known}]
            with closing(_outcomes(left, settings, workers, engine, tell)) as made:
                for outcome in chain(known, made):
                    outcomes[outcome.task] = outcome
                    finish(outcome)
    except KeyboardInterrupt:
        raise _interrupted(outcomes.values(), len(tasks)) from None
    ordered = [outcomes[task] for task in tasks]
    if json:
        print_json({
            "videos": [_entry(outcome, results_of(outcome.task, settings).eaf) for outcome in ordered],
            **{status: sum(o.status == status for o in ordered) for status in ("done", "skipped", "failed")},
        })  # fmt: skip
    else:
        _show(ordered)
    errors = [outcome.error for outcome in ordered if outcome.status == "failed" and outcome.error is not None]
    for error in errors:
        print_error(error)
    if errors:
        raise typer.Exit(errors[0].exit_code)


@contextmanager
def interruptible() -> Iterator[None]:
    """Within, SIGTERM does what Ctrl-C does; an error that either of them causes below fyc is an interruption, too."""
    stopped = False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal stopped
        stopped = True
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except Exception as error:
        # An extension that is being imported makes an ImportError of an interruption.
        if stopped and not isinstance(error, Interrupted):
            raise KeyboardInterrupt from error
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _outcomes(
    tasks: list[Task], settings: Settings, workers: int | None, engine: Engine, tell: Tell
) -> Generator[Outcome, None, None]:
    """Outcomes of videos, by an engine, as they come."""
    if not tasks:
        return
    if engine == "ray":
        from fyc.asl.corpus.ray_workers import run_ray

        yield from run_ray(tasks, settings, workers)
    else:
        from fyc.asl.corpus.workers import run_local, sensible_workers
        from fyc.assets import fetch

        fetch("face-landmarker", offline=settings.offline)  # once, not by every worker
        yield from run_local(tasks, settings, workers or sensible_workers(), tell)


@contextmanager
def _bars(total: int) -> Iterator[tuple[Tell, Callable[[Outcome], None]]]:
    """On a terminal a bar over the videos, and one for each that is worked on; else a line a video, on stderr."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        whole = bars.add_task("videos", total=total)
        now: dict[Task, Any] = {}

        def tell(task: Task, stage: str, done: int, frames: int | None) -> None:
            text = f"{task.video.name}: {stage}"
            if task not in now:
                now[task] = bars.add_task(text)
            bars.update(now[task], description=text, completed=done, total=frames)

        def finish(outcome: Outcome) -> None:
            if outcome.task in now:
                bars.remove_task(now.pop(outcome.task))
            bars.advance(whole)
            line = _line(outcome)
            if console.is_terminal:
                bars.console.print(line, markup=False, highlight=False)
            else:
                typer.echo(line, err=True)

        yield tell, finish


def _line(outcome: Outcome) -> str:
    if outcome.error is None:
        time = f" in {outcome.seconds:.1f} s" if outcome.status == "done" else ", done before"
        return f"{outcome.status}: {outcome.task.video}{time}"
    why = f"{outcome.error.what}{outcome.error.why and f': {outcome.error.why}'}"
    return f"{outcome.status}: {outcome.task.video}: [{outcome.error.code}] {why}"


def _entry(outcome: Outcome, eaf: Path) -> dict[str, Any]:
    """A video of the JSON document."""
    return {
        "video": str(outcome.task.video),
        "status": outcome.status,
        "seconds": round(outcome.seconds, 2),
        "eaf": str(eaf) if eaf.exists() else None,
        "error": outcome.error.as_dict() if outcome.error else None,
        **({"summary": outcome.summary} if outcome.summary else {}),
    }


def _show(outcomes: Sequence[Outcome]) -> None:
    from fyc.ui.tables import show_table

    rows = []
    for outcome in outcomes:
        found, error = outcome.summary or {}, outcome.error
        counts = Counter(event["label"] for event in found.get("events", ()))
        said = ", ".join(f"{times} {label}" for label, times in counts.items()) if outcome.summary else None
        status = outcome.status if error is None else f"{outcome.status} {error.code}"
        rows.append((
            str(outcome.task.video), status, found.get("frames"), found.get("lost_frames"),
            outcome.seconds if outcome.summary else None, said,
        ))  # fmt: skip
    show_table(("video", "", "frames", "lost", "seconds", "events"), rows)
    for outcome in outcomes:
        for note in notes((found := outcome.summary or {}).get("most_faces", 0), found.get("problem", "")):
            typer.echo(f"{outcome.task.video}: {note}")
    counts = Counter(outcome.status for outcome in outcomes)
    typer.echo(", ".join(f"{counts[status]} {status}" for status in ("done", "skipped", "failed") if counts[status]))


def notes(faces: int, problem: str) -> list[str]:
    """What else is said of a video: the most faces that were seen at once, and what is wrong with the file."""
    several = f"up to {faces} faces were seen; --face picks another one"
    return [several] * (faces > 1) + [f"the file is not sound: {problem}"] * bool(problem)


def _interrupted(outcomes: Any, total: int) -> Interrupted:
    done = sum(outcome.status != "failed" for outcome in outcomes)
    return Interrupted(
        "FYC-I01", f"interrupted: {done} of {total} videos are done",
        next="repeat the command: what is done is skipped",
    )  # fmt: skip

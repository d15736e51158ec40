"""`fyc convert`: run a recipe; or only plan it (`--dry-run`), or run it as a gate in CI (`--check`)."""

from __future__ import annotations

import shlex
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fyc.cli.options import Device, Json, Offline, Progress, RecipeArgument, Revision, Threads
from fyc.errors import FycError, Interrupted, RecipeError
from fyc.ui.events import Event, EventSink
from fyc.ui.progress import Mode

if TYPE_CHECKING:
    from fyc.artifact import Artifact
    from fyc.cli.junit import Report
    from fyc.engine import RunPlan
    from fyc.recipe import Recipe


def add_to(app: typer.Typer) -> None:
    """Register the command."""
    app.command("convert")(convert)


def convert(
    context: typer.Context,
    recipe: RecipeArgument,
    model: Annotated[
        str | None, typer.Option("--model", help="Hub id, folder or GGUF file; replaces the recipe's model.")
    ] = None,
    revision: Revision = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder to write; replaces the recipe's `output.dir`."),
    ] = None,
    calibration: Annotated[
        str | None,
        typer.Option("--calibration", metavar="FILE", help="Text file or asset:NAME; replaces the recipe's text."),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Replace a value, as in passes.0.options.KEY=VALUE."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted run.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, compute nothing, show the plan.")
    ] = False,
    check: Annotated[
        bool,
        typer.Option("--check", help="For CI: convert and run the `verify` gate; without -o the result is dropped."),
    ] = False,
    junit: Annotated[
        Path | None, typer.Option("--junit", metavar="FILE", help="With --check: write a JUnit XML report.")
    ] = None,
    json: Json = False,
    progress: Progress = "auto",
    dump_ir: Annotated[
        Path | None,
        typer.Option("--dump-ir", metavar="DIR", help="Write every block's graph after each pass."),
    ] = None,
    device: Device = "cpu",
    threads: Threads = None,
    offline: Offline = False,
) -> None:
    """Convert a model with a recipe.

    \b
    fyc convert flatten-w8a8 --model ./smollm2 -o out
    fyc convert my.yaml --set passes.0.options.expansion=0.02 --dry-run
    """
    if junit is not None and not check:
        raise RecipeError("FYC-R09", "--junit needs --check", next="add --check")
    if check and dry_run:
        raise RecipeError(
            "FYC-R09", "--check and --dry-run exclude each other", next="--dry-run checks without converting"
        )
    values = {"model": model, "revision": revision, "calibration": calibration, "set": set_ or ()}
    job = _Job(recipe, values, output, device, threads, offline, resume, dump_ir, progress)
    try:
        if dry_run:
            job.show_plan(json)
        elif check:
            job.check(junit, json)
        else:
            job.convert(json)
    except (KeyboardInterrupt, Interrupted) as error:
        advice = "repeat the command"
        if job.started and not (check and output is None):
            words = ["fyc", *context.find_root().obj, *([] if resume else ["--resume"])]
            advice = f"what is finished is kept; go on with: {shlex.join(words)}"
        raise Interrupted("FYC-I01", "interrupted", next=advice) from error


@dataclass
class _Job:
    """One `fyc convert` with its arguments; `values` replace those of the recipe."""

    recipe: str
    values: dict[str, Any]
    output: Path | None
    device: str
    threads: int | None
    offline: bool
    resume: bool
    dump_ir: Path | None
    progress: Mode
    started: bool = False

    def read(self) -> Recipe:
        """The recipe; torch is not imported for it."""
        from fyc import api

        return api.read_recipe(self.recipe, **self.values)

    def plan(self, recipe: Recipe) -> RunPlan:
        """Check the recipe against plugins, model, text and disk."""
        from fyc.cli.runtime import set_up

        set_up(threads=self.threads, offline=self.offline)
        from fyc import api
        from fyc.models import return_freed_memory

        return_freed_memory()
        return api.plan(recipe, output=self.output, device=self.device, offline=self.offline, resume=self.resume)

    def run(self, plan: RunPlan) -> tuple[Artifact, dict[str, Any]]:
        """Convert; returns the artifact and the data of the last event."""
        from fyc import engine
        from fyc.ui.progress import progress

        last: dict[str, Any] = {}
        self.started = True
        with progress(self.progress) as show:
            artifact = engine.convert(plan, resume=self.resume, dump_ir=self.dump_ir, events=_remember(show, last))
        return artifact, last

    def show_plan(self, json: bool) -> None:
        from fyc.cli.report import show_plan
        from fyc.cli.runtime import print_json

        plan = self.plan(self.read()).to_json()
        if json:
            print_json(plan)
        else:
            show_plan(plan)

    def convert(self, json: bool) -> None:
        from fyc.cli.report import show_artifact
        from fyc.cli.runtime import print_json

        artifact, last = self.run(self.plan(self.read()))
        if json:
            print_json({**artifact.inspect(), "output": str(artifact.path), **last})
        else:
            show_artifact(artifact.inspect(), modules=False)

    def check(self, junit: Path | None, json: bool) -> None:
        """Convert as a gate: every step is a test case, and the first failure decides the exit code."""
        from fyc.cli.junit import Report
        from fyc.cli.runtime import print_json

        report = Report(self.recipe)
        with ExitStack() as stack:
            if junit is not None:
                stack.callback(report.write, junit)
            if self.output is None:
                folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="fyc-check-"))
                self.output = Path(folder) / "out"
                stack.enter_context(_output_is_dropped())
            self._checked(report)
        if json:
            print_json({"ok": True, "cases": report.as_dicts()})
        else:
            for case in report.cases:
                typer.echo(f"{case.outcome}  {case.name}  {case.detail}".rstrip())

    def _checked(self, report: Report) -> None:
        with report.case("recipe"):
            recipe = self.read()
        with report.case("passes"):
            plan = self.plan(recipe)
        with report.gate("convert", "verify") as gate:
            artifact, _ = self.run(plan)
            gate.detail = _gate_text(artifact.inspect()["metrics"])
            gate.skipped = recipe.verify is None


@contextmanager
def _output_is_dropped() -> Iterator[None]:
    """The advice of a missed gate, when the rejected output is not kept."""
    try:
        yield
    except FycError as error:
        if error.code == "FYC-X02":
            error.next = "relax the gate, or change the options; with -o DIR the rejected output is kept"
        raise


def _gate_text(metrics: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:.6g}" for name, value in metrics.items() if "perplexity" in name)


def _remember(show: EventSink, last: dict[str, Any]) -> EventSink:
    def sink(event: Event) -> None:
        if event.kind == "done":
            last.update(event.data)
        show(event)

    return sink

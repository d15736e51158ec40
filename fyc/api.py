"""The Python API that mirrors `fyc convert`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from fyc.errors import RecipeError
from fyc.recipe import Override, Recipe, load_recipe, override_recipe
from fyc.ui.events import EventSink, ignore

if TYPE_CHECKING:
    from fyc.artifact import Artifact
    from fyc.engine import RunPlan


def plan(
    recipe: str | Path | Recipe,
    *,
    model: str | None = None,
    revision: str | None = None,
    output: str | Path | None = None,
    calibration: str | Path | None = None,
    set: Iterable[str] = (),
    device: str = "cpu",
    offline: bool = False,
    resume: bool = False,
) -> RunPlan:
    """Validate everything that can be validated before work starts: `fyc convert --dry-run`.

    Args:
        recipe: a YAML file, the name of a shipped recipe, or a `Recipe`.
        model: hub id, folder or GGUF file that replaces the recipe's `model.source`.
        revision: replaces `model.revision`.
        output: folder to write; replaces `output.dir`.
        calibration: text file or `asset:NAME` that replaces `calibration.text`.
        set: assignments such as `passes.0.options.expansion=0.02`; the value is YAML.
        device: where to compute.
        offline: use no network.
        resume: the plan is for a run that goes on, whose output and disk are checked by that run.

    Raises:
        UserError: the recipe, a plugin, the model, the text or the output folder cannot be used.
        TraceError: a block cannot be traced.
        ResourceError: the disk is too small.
    """
    from fyc.engine import prepare
    from fyc.plugins import load_plugins

    loaded = read_recipe(recipe, model=model, revision=revision, calibration=calibration, set=set)
    folder = output or loaded.output.dir
    if folder is None:
        raise RecipeError(
            "FYC-R09",
            "no output folder is named",
            where=loaded.name,
            next="give one with -o DIR, or write `output: {dir: ...}` into the recipe",
        )
    return prepare(loaded, host=load_plugins(), output=Path(folder), device=device, offline=offline, resume=resume)


def convert(
    recipe: str | Path | Recipe,
    *,
    model: str | None = None,
    revision: str | None = None,
    output: str | Path | None = None,
    calibration: str | Path | None = None,
    set: Iterable[str] = (),
    device: str = "cpu",
    offline: bool = False,
    resume: bool = False,
    dump_ir: str | Path | None = None,
    events: EventSink = ignore,
) -> Artifact:
    """Convert a model: the same as `fyc convert`.

    Args:
        recipe: a YAML file, the name of a shipped recipe, or a `Recipe`.
        model: hub id, folder or GGUF file that replaces the recipe's `model.source`.
        revision: replaces `model.revision`.
        output: folder to write; replaces `output.dir`.
        calibration: text file or `asset:NAME` that replaces `calibration.text`.
        set: assignments such as `passes.0.options.expansion=0.02`; the value is YAML.
        device: where to compute.
        offline: use no network.
        resume: go on with an interrupted run of the same recipe.
        dump_ir: folder for the graph of every block after each pass.
        events: called with every `fyc.ui.events.Event`.

    Returns:
        The finished artifact.

    Raises:
        FycError: with the code, place, cause and advice that the command prints.
    """
    from fyc.engine import convert as run

    run_plan = plan(
        recipe,
        model=model,
        revision=revision,
        output=output,
        calibration=calibration,
        set=set,
        device=device,
        offline=offline,
        resume=resume,
    )
    folder = Path(dump_ir) if dump_ir is not None else None
    return run(run_plan, resume=resume, dump_ir=folder, events=events)


def read_recipe(
    recipe: str | Path | Recipe,
    *,
    model: str | None = None,
    revision: str | None = None,
    calibration: str | Path | None = None,
    set: Iterable[str] = (),
) -> Recipe:
    """Load a recipe and put the values of the command line in; the arguments are those of `convert`."""
    overrides: list[Override] = []
    for path, value, option in (
        (("model", "source"), model, "--model"),
        (("model", "revision"), revision, "--revision"),
        (("calibration", "text"), calibration, "--calibration"),
    ):
        if value is not None:
            overrides.append(Override(path, str(value), f"{option} {value}"))
    overrides += [Override.parse(assignment) for assignment in set]
    if isinstance(recipe, Recipe):
        return override_recipe(recipe, overrides)
    return load_recipe(recipe, overrides)

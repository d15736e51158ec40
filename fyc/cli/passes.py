"""`fyc passes`: which passes there are, what their options mean, and a package to start a new one from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fyc.cli.options import Json, complete_pass

if TYPE_CHECKING:
    from fyc.plugins import RegisteredPass

passes = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="List and explain passes; start a new one.")


def add_to(app: typer.Typer) -> None:
    """Register the commands."""
    app.add_typer(passes, name="passes")


@passes.command("list")
def list_(json: Json = False) -> None:
    """List the installed passes, and plugins that are broken or disabled."""
    from fyc.cli.runtime import print_json
    from fyc.plugins import load_plugins
    from fyc.ui.tables import show_table

    host = load_plugins()
    if json:
        print_json(
            {
                "passes": [_row(name, registered) for name, registered in host.passes.items()],
                "broken": [vars(plugin) for plugin in host.broken],
                "disabled": [vars(plugin) for plugin in host.disabled],
            }
        )
        return
    rows = [_row(name, registered).values() for name, registered in host.passes.items()]
    show_table(("pass", "version", "brought by", "summary"), [list(row) for row in rows])
    if host.broken:
        typer.echo("")
        show_table(("broken plugin", "brought by", "reason"), [list(vars(plugin).values()) for plugin in host.broken])
    if host.disabled:
        typer.echo("")
        show_table(("disabled plugin", "brought by", "version"), [list(vars(p).values()) for p in host.disabled])


@passes.command("show")
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A pass.", autocompletion=complete_pass)],
    json: Json = False,
) -> None:
    """Explain a pass: its options, and what it requires and leaves."""
    from fyc.cli.runtime import print_json
    from fyc.plugins import load_plugins
    from fyc.ui.tables import option_text, show_pairs, show_table

    host = load_plugins()
    cls = host.pass_class(name)
    content = describe(name, host.passes[name])
    if json:
        print_json(content)
        return
    show_pairs({key: value for key, value in content.items() if key != "options"})
    if content["options"]:
        typer.echo("")
        rows = [
            (o["name"], o["type"], "must be given" if o["required"] else option_text(o["default"]), o["description"])
            for o in content["options"]
        ]
        show_table(("option", "type", "default", "meaning"), rows)
    if cls.__doc__:
        import inspect

        typer.echo("\n" + inspect.cleandoc(cls.__doc__))


@passes.command("new")
def new(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Lower-case words joined by hyphens.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="DIR", help="Folder to write; by default ./fyc-NAME."),
    ] = None,
) -> None:
    """Write a small plugin package with a working pass, its test and a README."""
    from fyc.cli.scaffold import write_package

    folder = output if output is not None else Path(f"fyc-{name}")
    files = write_package(name, folder)
    for path in files:
        typer.echo(str(path))
    typer.echo(f"install it with: pip install -e {folder}", err=True)


def describe(name: str, registered: RegisteredPass) -> dict[str, Any]:
    """All that `fyc passes show` says, as JSON-able data."""
    cls = registered.cls
    return {
        **_row(name, registered),
        "requires": sorted(cls.requires),
        "produces": sorted(cls.produces),
        "removes": sorted(cls.removes),
        "conflicts": sorted(cls.conflicts),
        "modules": sorted(module.__name__ for module in cls.modules),
        "options": [_option(key, field) for key, field in cls.Options.model_fields.items()],
    }


def _row(name: str, registered: RegisteredPass) -> dict[str, Any]:
    origin = f"{registered.distribution} {registered.version}"
    return {
        "pass": name,
        "version": registered.cls.version,
        "brought by": origin,
        "summary": registered.cls.summary,
    }


def _option(key: str, field: Any) -> dict[str, Any]:
    from pydantic_core import to_jsonable_python

    default = None if field.is_required() else to_jsonable_python(field.get_default(call_default_factory=True))
    return {
        "name": key,
        "type": type_text(field),
        "default": default,
        "required": field.is_required(),
        "description": " ".join((field.description or "").split()),
    }


def type_text(field: Any) -> str:
    """A field's type as a reader would write it: `int8 | int4`, `float, 0 to 0.5`, `list of str`."""
    from pydantic import TypeAdapter

    annotation = field.annotation
    schema = TypeAdapter(annotation).json_schema()
    text = _schema_text(schema)
    bounds = {type(limit).__name__: getattr(limit, type(limit).__name__.lower(), None) for limit in field.metadata}
    signs = {"Ge": ">=", "Gt": ">", "Le": "<=", "Lt": "<"}
    limits = [f"{signs[kind]} {bound}" for kind, bound in bounds.items() if kind in signs]
    return ", ".join([text, *limits])


def _schema_text(schema: dict[str, Any]) -> str:
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if "const" in schema:
        return str(schema["const"])
    if "anyOf" in schema:
        return " | ".join(_schema_text(part) for part in schema["anyOf"])
    if schema.get("type") == "array":
        return f"list of {_schema_text(schema.get('items', {}))}"
    names: dict[str, str] = {
        "integer": "int",
        "number": "float",
        "string": "str",
        "boolean": "bool",
        "object": "mapping",
    }
    kind = str(schema.get("type", "any"))
    return names.get(kind, kind)

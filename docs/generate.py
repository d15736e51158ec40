"""Writes docs/cli.md and the generated sections of the other pages; `--check` only names what is out of date.

A section stands between `<!-- generated: KIND NAME -->` and `<!-- end -->`. Kinds: `hook` (a function of
fyc.hookspecs), `signature` (a public function), `keys` (a part of the recipe), `options` (the options of a pass).
"""

from __future__ import annotations

import argparse
import inspect
import json
import re
import sys
import textwrap
import typing
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import typer

import fyc
from fyc import hookspecs
from fyc.cli.main import app
from fyc.cli.passes import describe, type_text
from fyc.plugins import load_plugins
from fyc.recipe import schema

DOCS = Path(__file__).parent
SECTION = re.compile(r"(<!-- generated: (\w+) (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


def pages() -> dict[Path, str]:
    """Every page that holds something generated, with the text it should have."""
    wanted = {DOCS / "cli.md": cli_page()}
    for page in sorted(DOCS.rglob("*.md")):
        text = page.read_text(encoding="utf-8")
        if SECTION.search(text):
            wanted[page] = SECTION.sub(_section, text)
    return wanted


def outdated() -> list[Path]:
    """Pages that differ from what they should be."""
    return [page for page, text in pages().items() if not page.is_file() or page.read_text(encoding="utf-8") != text]


def _section(match: re.Match[str]) -> str:
    kinds = {"hook": _hook, "signature": _signature, "keys": _keys, "options": _options}
    begin, kind, name, end = match.groups()
    return f"{begin}\n{kinds[kind](name)}\n\n{end}"


# Functions: their source without the body.


def _hook(name: str) -> str:
    return _definition(getattr(hookspecs, name))


def _signature(name: str) -> str:
    return _definition(getattr(fyc, name))


def _definition(function: Any) -> str:
    """The `def` lines and the docstring, as a code block."""
    source = inspect.getsource(inspect.unwrap(function))
    head = re.search(r'^def .*?""".*?"""\n', source, re.DOTALL | re.MULTILINE)
    if head is None:
        raise ValueError(f"{function.__name__} has no docstring")
    return f"```python\n{head[0]}```"


# Recipe keys and pass options: tables from pydantic models.


def _keys(name: str) -> str:
    model = getattr(schema, name)
    rows = []
    for key, field in model.model_fields.items():
        default = "required" if field.is_required() else f"`{_value(field.get_default(call_default_factory=True))}`"
        kind = _key_type(field)
        rows.append((f"`{field.alias or key}`", kind, default, _line(field.description)))
    return _table(("key", "value", "default", "meaning"), rows)


def _key_type(field: Any) -> str:
    if "Spec" in str(field.annotation):
        return "mapping, see below"
    return "list of passes, see below" if "PassUse" in str(field.annotation) else type_text(field)


def _options(name: str) -> str:
    content = describe(name, load_plugins().passes[name])
    rows = [
        (
            f"`{option['name']}`",
            option["type"],
            "required" if option["required"] else f"`{_value(option['default'])}`",
            option["description"],
        )
        for option in content["options"]
    ]
    return _table(("option", "value", "default", "meaning"), rows)


def _value(value: Any) -> str:
    if hasattr(value, "model_dump"):
        value = value.model_dump(mode="json")
    return value if isinstance(value, str) else json.dumps(value)


# The command line.


def cli_page() -> str:
    """docs/cli.md: every command with its arguments and options."""
    root = typer.main.get_command(app)
    lines = [
        "# Commands",
        "",
        "Made by `python docs/generate.py` from the commands themselves. `fyc COMMAND --help` says the same.",
        "Exit codes and error codes: [errors.md](errors.md). The same from Python: [python.md](python.md).",
        "",
        "Results go to stdout, everything else to stderr. With `--json` stdout holds one JSON document, also when",
        'the command fails: `{"error": {"code": ..., "what": ..., "where": ..., "why": ..., "next": ...}}`.',
        "",
    ]
    commands = list(walk(root, "fyc"))
    lines += [f"- [`{name}`](#{name.replace(' ', '-')}): {_headline(command)}" for name, command in commands[1:]]
    for name, command in commands:
        lines += ["", *_command(name, command)]
    return "\n".join(lines) + "\n"


def walk(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """A command and all below it that fyc itself brings, with their full names."""
    yield name, command
    for child, below in getattr(command, "commands", {}).items():
        yield from walk(below, f"{name} {child}")


def parameters(command: Any) -> list[Any]:
    """Arguments and options of a command, without `--help`."""
    return [parameter for parameter in command.params if not getattr(parameter, "hidden", False)]


def _command(name: str, command: Any) -> list[str]:
    arguments = [p for p in parameters(command) if p.param_type_name == "argument"]
    options = [p for p in parameters(command) if p.param_type_name == "option"]
    usage = [name, *(_argument(p) for p in arguments)]
    if options:
        usage.insert(1, "[OPTIONS]")
    if getattr(command, "commands", None):
        usage.append("COMMAND")
    lines = [f"## {name}", "", "```", " ".join(usage), "```", "", *_help(command), ""]
    if arguments:
        lines += [_table(("argument", "meaning"), [(f"`{_argument(p)}`", _line(p.help)) for p in arguments]), ""]
    if options:
        types = typing.get_type_hints(inspect.unwrap(command.callback)) if command.callback else {}
        rows = [(f"`{_spelling(p, types.get(p.name))}`", _line(p.help), _default(p)) for p in options]
        lines += [_table(("option", "meaning", "default"), rows), ""]
    return lines[:-1]


def _argument(parameter: Any) -> str:
    name = str(parameter.metavar or parameter.name.upper()).strip("[]")
    return name if parameter.required else f"[{name}]"


def _spelling(parameter: Any, annotation: Any) -> str:
    names = ", ".join(sorted([*parameter.opts, *parameter.secondary_opts], key=lambda text: text.startswith("--")))
    if parameter.is_flag:
        return names
    return f"{names} {parameter.metavar or _kind(annotation)}"


def _kind(annotation: Any) -> str:
    """What a value looks like: from the type of the command function's parameter."""
    if typing.get_origin(annotation) is typing.Literal:
        return "|".join(map(str, typing.get_args(annotation)))
    for part in typing.get_args(annotation):
        if part is not type(None):
            return _kind(part)
    return {int: "INT", float: "FLOAT", Path: "PATH"}.get(annotation, "TEXT")


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    value = parameter.default
    return "" if value is None or parameter.is_flag or not isinstance(value, str | int | float | Path) else f"`{value}`"


def _help(command: Any) -> list[str]:
    """The command's text; a paragraph that keeps its lines becomes a code block."""
    lines: list[str] = []
    for paragraph in inspect.cleandoc(command.help or "").replace("\b\n", "\n\b\n").split("\n\n"):
        if paragraph.strip().startswith("\b"):
            lines += ["```", *paragraph.strip("\b\n").splitlines(), "```", ""]
        elif paragraph.strip():
            lines += [*textwrap.wrap(_line(paragraph), 110), ""]
    return lines[:-1]


def _headline(command: Any) -> str:
    return _line((command.help or "").split("\n\n")[0])


# Markdown.


def _line(text: str | None) -> str:
    return " ".join((text or "").split())


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    cells = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in cells)


def main() -> int:
    """Write the pages, or with `--check` name those that are out of date and leave with 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a page is out of date")
    check = parser.parse_args().check
    changed = outdated()
    wanted = pages()
    for page in changed:
        if not check:
            page.write_text(wanted[page], encoding="utf-8")
        sys.stdout.write(f"{'out of date' if check else 'wrote'}: {page.relative_to(DOCS.parent)}\n")
    return 1 if check and changed else 0


if __name__ == "__main__":
    sys.exit(main())

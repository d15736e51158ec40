"""Commands and recipes that the documentation and the examples show exist as they are written."""

from __future__ import annotations

import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from doc_pages import PAGES, ROOT, code_blocks, name, read
from ruamel.yaml import YAML

from fyc.cli.main import app
from fyc.recipe import load_recipe

CI = ROOT / "examples" / "ci"


def _lines(text: str) -> Iterator[list[str]]:
    for line in re.sub(r"\\\n", " ", text).splitlines():
        command = line.strip().split(" > ")[0]
        if command.startswith("fyc ") and "..." not in command:
            yield shlex.split(command, comments=True, posix=True)[1:]


def _check(words: list[str]) -> None:
    """Every word that begins with `-` is an option of the command."""
    command: Any = typer.main.get_command(app)
    while words and words[0] in getattr(command, "commands", {}):
        command = command.commands[words.pop(0)]
    assert not getattr(command, "commands", None) or words[0].startswith("-"), words
    known = {option for parameter in command.params for option in parameter.opts} | {"--help", "-h", "--debug"}
    assert {word for word in words if re.match(r"-[a-z-]", word)} <= known


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "cli.md"], ids=name)
def test_commands_in_code_blocks_exist(page: Path) -> None:
    for block in code_blocks(page):
        if block.language in {"", "bash"}:
            for words in _lines(block.text):
                _check(words)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_within_the_text_exist(page: Path) -> None:
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    for first in re.findall(r"`fyc ([a-z]+)", read(page)):
        assert first in commands


def test_the_ci_workflow_runs_commands_that_exist() -> None:
    workflow = YAML(typ="safe", pure=True).load((CI / "convert-check.yml").read_text(encoding="utf-8"))
    steps = workflow["jobs"]["convert"]["steps"]
    commands = [words for step in steps for words in _lines(step.get("run", ""))]
    assert [words[0] for words in commands] == ["assets", "convert", "convert"]
    assert {"--check", "--junit"} <= set(commands[-1])
    for words in commands:
        _check(words)
    upload = steps[-1]
    assert upload["if"] == "always()"
    assert upload["with"]["path"] == commands[-1][commands[-1].index("--junit") + 1]


def test_the_ci_recipe_has_a_gate() -> None:
    recipe = load_recipe(CI / "recipe.yaml")
    assert recipe.verify is not None


def test_contributing_shows_the_import_contract() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    layers = next(c["layers"] for c in settings["tool"]["importlinter"]["contracts"] if c["type"] == "layers")
    assert "\n".join(layers) in read(ROOT / "CONTRIBUTING.md")

"""docs/cli.md and the generated sections are what docs/generate.py writes, and the CLI's help says the same."""

from __future__ import annotations

import importlib.util
import inspect
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer
from doc_pages import DOCS, ROOT, read

from fyc.cli.main import app


def _generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fyc_docs_generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


generate = _generator()
COMMANDS: dict[str, Any] = dict(generate.walk(typer.main.get_command(app), "fyc"))


def test_generated_pages_are_current() -> None:
    stale = [str(page.relative_to(ROOT)) for page in generate.outdated()]
    assert not stale, f"run `make docs`: {stale}"


def test_a_changed_page_is_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "hooks.md").write_text("<!-- generated: hook fyc_after_pass -->\nold\n<!-- end -->\n", encoding="utf-8")
    monkeypatch.setattr(generate, "DOCS", tmp_path)
    assert generate.outdated() == [tmp_path / "cli.md", tmp_path / "hooks.md"]
    assert "def fyc_after_pass(pass_: Pass" in generate.pages()[tmp_path / "hooks.md"]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_every_command_is_documented(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What `--help` prints and what docs/cli.md says come from the same places; neither may lose anything."""
    COMMANDS["fyc"].main([*command.split()[1:], "--help"], prog_name="fyc", standalone_mode=False)
    printed = _squeeze(capsys.readouterr().out)
    section = read(DOCS / "cli.md").split(f"\n## {command}\n")[1].split("\n## ")[0]
    documented = _squeeze(section)
    for parameter in generate.parameters(COMMANDS[command]):
        for text in [*(name for name in parameter.opts if name.startswith("-")), parameter.help or ""]:
            assert _squeeze(text) in printed
            assert _squeeze(text) in documented
    for paragraph in inspect.cleandoc(COMMANDS[command].help or "").replace("\b", "").split("\n\n"):
        assert _squeeze(paragraph) in printed
        assert _squeeze(paragraph) in documented


def _squeeze(text: str) -> str:
    """Text without white space, so that line breaks do not count."""
    return re.sub(r"\s+", "", text.replace("\\|", "|"))

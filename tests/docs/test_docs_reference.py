"""Everything a user can name is documented: hooks, keys, options, codes, public names, manifest fields, variables."""

from __future__ import annotations

import dataclasses
import inspect
import re

import pytest
from doc_pages import DOCS, ROOT, headings, prose, read, sections
from pydantic import BaseModel

import fyc
from fyc import errors, hookspecs, ir, passes
from fyc.artifact import Manifest
from fyc.plugins import load_plugins
from fyc.recipe import schema
from fyc.ui import events

HOOKS = [name for name in vars(hookspecs) if name.startswith("fyc_")]
PARTS = [
    part
    for name, part in vars(schema).items()
    if inspect.isclass(part) and issubclass(part, BaseModel) and part is not BaseModel and not name.startswith("_")
]
OWN_PASSES = {name: entry.cls for name, entry in load_plugins().passes.items() if entry.distribution == "fyc"}


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_has_a_section_with_its_arguments(hook: str) -> None:
    text = sections(DOCS / "hooks.md")[hook]
    for argument in inspect.signature(getattr(hookspecs, hook)).parameters:
        assert re.search(rf"def {hook}\([^)]*\b{argument}: ", text)


def test_no_section_describes_a_hook_that_is_gone() -> None:
    assert {title for title in headings(DOCS / "hooks.md") if title.startswith("fyc_")} == set(HOOKS)


def test_every_part_of_a_recipe_has_a_table() -> None:
    tables = re.findall(r"<!-- generated: keys (\w+) -->", read(DOCS / "recipe.md"))
    assert set(tables) == {part.__name__ for part in PARTS}


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.__name__)
def test_every_recipe_key_is_documented(part: type[BaseModel]) -> None:
    for key, field in part.model_fields.items():
        assert f"| `{field.alias or key}` |" in read(DOCS / "recipe.md")


def test_every_built_in_pass_has_a_page() -> None:
    assert {page.stem for page in (DOCS / "passes").glob("*.md")} == set(OWN_PASSES)


@pytest.mark.parametrize("name", OWN_PASSES)
def test_every_option_of_a_pass_is_documented(name: str) -> None:
    text = read(DOCS / "passes" / f"{name}.md")
    for option in OWN_PASSES[name].Options.model_fields:
        assert f"| `{option}` |" in text


def test_every_error_code_is_explained_with_what_to_do() -> None:
    found = {title: text for title, text in sections(DOCS / "errors.md").items() if title.startswith("FYC-")}
    assert list(found) != []
    assert {title.split(":")[0]: title.partition(": ")[2] for title in found} == errors.CODES
    assert [title for title, text in found.items() if "**Do:**" not in text] == []


def test_the_exit_codes_are_those_of_the_classes() -> None:
    table = sections(DOCS / "errors.md")["Exit codes"]
    documented: dict[str, int] = {}
    for code, row in re.findall(r"^\| (\d+) \| (.*)$", table, re.MULTILINE):
        documented.update(dict.fromkeys(re.findall(r"`(\w+)`", row.split("|")[0]), int(code)))
    classes = {
        cls.__name__: cls.exit_code
        for cls in vars(errors).values()
        if inspect.isclass(cls) and issubclass(cls, errors.FycError)
    }
    del classes["FycError"]
    assert documented == classes


@pytest.mark.parametrize("name", fyc.__all__)
def test_every_public_name_is_documented(name: str) -> None:
    text = read(DOCS / "python.md")
    assert f"`fyc.{name}`" in text or f"### fyc.{name}\n" in text


@pytest.mark.parametrize("name", ir.__all__)
def test_every_public_name_of_the_graphs_is_documented(name: str) -> None:
    assert f"`{name}`" in read(DOCS / "ir.md")


CONTRACT = [
    fyc.Pass, fyc.PassContext, fyc.PassResult, fyc.ModuleReport, fyc.Finding, fyc.Survey, fyc.ModelView, fyc.Block,
    fyc.Outer, fyc.FycModule, ir.LinearGroup,
]  # fmt: skip


@pytest.mark.parametrize("cls", CONTRACT, ids=lambda cls: cls.__name__)
def test_every_member_of_the_pass_interface_is_documented(cls: type) -> None:
    text = read(DOCS / "writing-a-pass.md") + read(DOCS / "python.md")
    names = [field.name for field in dataclasses.fields(cls)] if dataclasses.is_dataclass(cls) else []
    own = [name for name in {**vars(cls), **inspect.get_annotations(cls)} if not name.startswith("_")]
    base = set(dir(fyc.FycModule.__mro__[1])) if cls is fyc.FycModule else {"options", "modified"}
    missing = [name for name in {*names, *own} - base if not re.search(rf"\b{name}\b", text)]
    assert not missing


def test_the_signatures_of_a_pass_are_the_codes_own() -> None:
    table = sections(DOCS / "writing-a-pass.md")["The life of a pass"]
    rows = {row.partition("(")[0]: row for row in re.findall(r"^\| `(\w+\(.*?\) -> .*?)` \|", table, re.MULTILINE)}
    methods = [name for name, value in vars(fyc.Pass).items() if inspect.isfunction(value) and name[0] != "_"]
    for name in methods:
        signature = str(inspect.signature(getattr(fyc.Pass, name))).replace("self, ", "").replace("self", "")
        assert rows[name] == name + signature.replace("'", "")
    name, row = "observe", rows["observe"].replace("\\|", "|")
    signature = str(inspect.signature(fyc.PassContext.observe)).replace("self, ", "").replace("'", "")
    assert row == name + signature


def test_the_documented_fields_of_the_manifest_are_its_own() -> None:
    documented = re.findall(r"^\| `(\w+)` \|", sections(DOCS / "artifact.md")["fyc.json"], re.MULTILINE)
    assert sorted(documented) == sorted(info.alias or name for name, info in Manifest.model_fields.items())


def test_every_kind_of_event_is_documented() -> None:
    rows = dict(re.findall(r"^(\w+) {2,}(\S.*)$", events.__doc__ or "", re.MULTILINE))
    text = sections(DOCS / "python.md")["Watching a conversion"]
    assert rows
    for kind, data in rows.items():
        row = re.search(rf"^\| `{kind}` \| (.*) \|$", text, re.MULTILINE)
        assert row is not None
        assert set(re.findall(r"\w+", re.sub(r"\(.*?\)", "", data))) <= set(re.findall(r"\w+", row[1]))


def test_every_environment_variable_is_documented() -> None:
    sources = [
        path.read_text(encoding="utf-8")
        for folder in ("fyc", "passes", "kernels", "plugins")
        for path in (ROOT / folder).rglob("*.py")
    ]
    used = {name for source in sources for name in re.findall(r"\"(FYC_[A-Z_]+)\"", source)}
    assert used
    assert [name for name in sorted(used) if f"`{name}`" not in prose(DOCS / "guide.md")] == []


def test_every_page_is_in_the_index() -> None:
    listed = re.findall(r"\]\(([^)#]+)\)", read(DOCS / "README.md"))
    pages = {str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")}
    inside = {page for page in pages if page.startswith("decisions/") and page != "decisions/README.md"}
    assert pages - inside - {"README.md"} <= set(listed)


def test_facts_at_the_start_are_documented() -> None:
    initial = re.findall(r"`([a-z-]+)`", inspect.getsource(passes).split("#: Facts about")[1].split("Fact = str")[0])
    assert initial
    assert all(f"`{fact}`" in read(DOCS / "writing-a-pass.md") for fact in initial)


def test_quoted_messages_are_the_programs_own() -> None:
    """The table of common mistakes quotes error messages; their words must stand in the code."""
    table = sections(DOCS / "writing-a-pass.md")["Common mistakes"]
    code = "".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "fyc").rglob("*.py")))
    quotes = re.findall(r"^\| (?:FYC-\w+ )?`([^`]+)`", table, re.MULTILINE)
    parts = [part.strip() for quote in quotes for part in quote.split("...") if len(part.strip()) > 4]
    assert len(parts) >= 8
    known = {"it requires calibration": "it requires {', '.join(missing)}", "defines fyc_": "defines `{name}`"}
    assert [part for part in parts if known.get(part, part) not in code] == []

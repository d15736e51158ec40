"""Links, files, scripts and make targets that the documentation names exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from doc_pages import PAGES, ROOT, anchors, links, name, read

_NAMED = re.compile(
    r"`((?:fyc|passes|kernels|plugins|recipes|tests|examples|bench|docs)/[\w./-]*\w|[\w-]+\.(?:md|toml|txt))`"
)
_SCRIPT = re.compile(r"(?<![\w/])(?:bench|examples|docs)/[\w/-]+\.py\b")
#: Files of an artifact, a model folder or a plugin package, which are not files of the repository.
_ELSEWHERE = {"report.md", "merges.txt", "book.txt", "README.md", "pyproject.toml"}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_relative_links_lead_somewhere(page: Path) -> None:
    dead = []
    for target in links(page):
        file, _, anchor = target.partition("#")
        there = (page.parent / file).resolve() if file else page
        if not there.exists() or (anchor and there.suffix == ".md" and anchor not in anchors(there)):
            dead.append(target)
    assert not dead


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_named_files_exist(page: Path) -> None:
    wanted = {match[1] for match in _NAMED.finditer(read(page))} | set(_SCRIPT.findall(read(page)))
    places = (ROOT, page.parent, ROOT / "docs")
    missing = [
        file
        for file in wanted - _ELSEWHERE
        if "*" not in file and "NAME" not in file and not any((place / file).exists() for place in places)
    ]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_named_make_targets_exist(page: Path) -> None:
    known = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = set(re.findall(r"`make ([a-z-]+)", read(page))) | set(
        re.findall(r"^make ([a-z-]+)", read(page), re.MULTILINE)
    )
    assert named <= known

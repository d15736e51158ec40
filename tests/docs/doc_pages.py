"""Reads the project's Markdown: code blocks, headings, anchors, links."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md"), *ROOT.glob("examples/*/README.md"), *ROOT.glob("bench/*.md")])

_FENCE = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\((?P<target>[^)\s]+)\)")


@dataclass(frozen=True)
class CodeBlock:
    """A fenced block: its language, the words after it, its text, and the line it starts in."""

    language: str
    words: tuple[str, ...]
    text: str
    line: int

    @property
    def file(self) -> str | None:
        """The name of the file that the block shows, `file=NAME`."""
        return next((word.removeprefix("file=") for word in self.words if word.startswith("file=")), None)

    @property
    def runs(self) -> bool:
        """Whether the block is marked `run`."""
        return "run" in self.words


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def code_blocks(page: Path) -> list[CodeBlock]:
    text = read(page)
    blocks = []
    for match in _FENCE.finditer(text):
        language, *words = match["info"].split() or [""]
        blocks.append(CodeBlock(language, tuple(words), match["text"], text.count("\n", 0, match.start()) + 1))
    return blocks


def block_after(page: Path, mark: str) -> str:
    """The text of the code block that follows a mark such as `<!-- pass: NAME -->`."""
    match = _FENCE.search(read(page), read(page).index(mark))
    assert match is not None
    return match["text"]


def prose(page: Path) -> str:
    """The page without its code blocks."""
    return _FENCE.sub("", read(page))


def headings(page: Path) -> list[str]:
    return [match[1].strip() for match in re.finditer(r"^#+ (.*)$", prose(page), re.MULTILINE)]


def sections(page: Path) -> dict[str, str]:
    """The text below every heading, up to the next one."""
    parts = re.split(r"^#+ (.*)$", read(page), flags=re.MULTILINE)
    return {title.strip(): text for title, text in zip(parts[1::2], parts[2::2], strict=True)}


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub makes of the headings."""
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "") for heading in headings(page)]
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in plain}


def links(page: Path) -> list[str]:
    """Targets of links to other places in the repository."""
    found = [match["target"] for match in _LINK.finditer(re.sub(r"`[^`\n]*`", "code", prose(page)))]
    return [target for target in found if not target.startswith(("http://", "https://", "mailto:"))]


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))

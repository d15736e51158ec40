"""Plain prose from a MediaWiki export: templates, tables, links, references and headings' marks are removed."""

from __future__ import annotations

import html
import re
from pathlib import Path
from xml.etree import ElementTree

#: Elements whose content is not prose.
_NOT_PROSE = "ref|math|gallery|timeline|source|syntaxhighlight|code|pre|score|imagemap|hiero"
_EMPTY_ELEMENT = re.compile(rf"<({_NOT_PROSE})\b[^>]*?/>", re.IGNORECASE | re.DOTALL)
_ELEMENT = re.compile(rf"<({_NOT_PROSE})\b.*?</\1\s*>", re.IGNORECASE | re.DOTALL)
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
#: Files, categories and links to other languages: their whole text goes, captions included.
_SIDE_LINK = re.compile(r"\[\[\s*(?:File|Image|Category|[a-z]{2,3}(?:-[a-z]+)*)\s*:", re.IGNORECASE)
_LINK = re.compile(r"\[\[(?:[^\[\]|]*\|)?([^\[\]|]*)\]\]")
_LINK_MANY_PARTS = re.compile(r"\[\[[^\[\]]*\|([^\[\]|]*)\]\]")
_URL_LABELLED = re.compile(r"\[(?:https?|ftp)://\S+\s+([^\]]*)\]")
_URL = re.compile(r"\[(?:https?|ftp)://[^\]]*\]")
_APPENDIX = re.compile(
    r"\n=+\s*(See also|References|External links|Further reading|Notes|Footnotes|Bibliography|Sources|"
    r"Notes and references|Works cited|Citations)\s*=+\s*\n.*",
    re.IGNORECASE | re.DOTALL,
)
_HEADING = re.compile(r"^=+\s*(.*?)\s*=+\s*$", re.MULTILINE)
#: Shorter articles are stubs and lists.
_SHORTEST = 500


def articles(export: bytes) -> list[str]:
    """The articles of an XML export, each as its title and its prose, in the order of the export."""
    texts = []
    for page in ElementTree.fromstring(export).iterfind("{*}page"):
        title, text = page.findtext("{*}title", ""), page.findtext("{*}revision/{*}text", "")
        if page.findtext("{*}ns", "0") == "0" and page.find("{*}redirect") is None:
            prose = plain(text)
            if len(prose) > _SHORTEST:
                texts.append(f"{title}\n{prose}")
    return texts


def halves(texts: list[str]) -> tuple[str, str]:
    """Two texts of about equal length; no article is in both."""
    total = sum(map(len, texts))
    seen = 0
    for count, text in enumerate(texts, start=1):
        seen += len(text)
        if 2 * seen >= total:
            return "\n\n".join(texts[:count]), "\n\n".join(texts[count:])
    return "", ""


def plain(markup: str) -> str:
    """The prose of one article."""
    text = _COMMENT.sub("", html.unescape(markup))
    text = _ELEMENT.sub("", _EMPTY_ELEMENT.sub("", text))
    text = _without_nested(_without_nested(text, "{{", "}}"), "{|", "|}")
    text = _without_side_links(text)
    text = _LINK_MANY_PARTS.sub(r"\1", _LINK.sub(r"\1", text))
    text = _URL.sub("", _URL_LABELLED.sub(r"\1", text))
    text = re.sub(r"'{2,}", "", text)
    text = re.sub(r"__[A-Z]+__", "", re.sub(r"<[^>]+>", "", text))
    text = _HEADING.sub(r"\1", _APPENDIX.sub("\n", text))
    lines = (_tidy(line) for line in text.split("\n"))
    return "\n".join(line for line in lines if line and not line.startswith(("|", "!")))


def _tidy(line: str) -> str:
    line = re.sub(r"^[*#:;]+\s*", "", line.strip())
    line = re.sub(r"\(\s*[;,]?\s*\)", "", line)
    return re.sub(r" ([,.;:])", r"\1", re.sub(r"[ \t\xa0]+", " ", line)).strip()


def _without_nested(text: str, opening: str, closing: str) -> str:
    kept: list[str] = []
    depth = 0
    for part in re.split(f"({re.escape(opening)}|{re.escape(closing)})", text):
        if part == opening:
            depth += 1
        elif part == closing and depth:
            depth -= 1
        elif not depth:
            kept.append(part)
    return "".join(kept)


def _without_side_links(text: str) -> str:
    kept: list[str] = []
    start = 0
    while found := _SIDE_LINK.search(text, start):
        kept.append(text[start : found.start()])
        start = _end_of_link(text, found.start())
    return "".join([*kept, text[start:]])


def _end_of_link(text: str, start: int) -> int:
    depth = 0
    for found in re.compile(r"\[\[|\]\]").finditer(text, start):
        depth += 1 if found[0] == "[[" else -1
        if depth == 0:
            return found.end()
    return len(text)


def write_texts(export: bytes, folder: Path) -> None:
    """Write wikipedia.txt and its two halves, wikipedia-calibration.txt and wikipedia-evaluation.txt."""
    texts = articles(export)
    first, second = halves(texts)
    named = {"wikipedia": f"{first}\n\n{second}", "wikipedia-calibration": first, "wikipedia-evaluation": second}
    for name, text in named.items():
        (folder / f"{name}.txt").write_text(text, encoding="utf-8", newline="\n")

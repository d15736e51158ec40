"""Writes annotations as WebVTT, so that any player and browser shows them over the video.

Source: W3C, WebVTT: The Web Video Text Tracks Format, sections 4 (syntax) and 6 (parsing). Cues may overlap: players
stack them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from fyc.asl.elan.document import Tier, clock_text
from fyc.asl.files import write_whole


def write_webvtt(tiers: Iterable[Tier], path: str | Path) -> None:
    """Write a WebVTT file with a cue for every annotation; the file is there whole or not at all.

    A cue's text is the annotation's, in a class span named after its tier (`<c.brows>`), so that a style sheet can
    colour tiers. A NOTE in front lists what class is what tier. Empty annotations have no cue.

    Raises:
        ElanError: FYC-E05 if the file cannot be written.
        ResourceError: FYC-S01 if the disk is full.
    """
    write_whole(Path(path), webvtt(tiers).encode("utf-8"))


def webvtt(tiers: Iterable[Tier]) -> str:
    """The text of a WebVTT file, cues in the order of time."""
    listed = list(tiers)
    classes = _class_names([tier.name for tier in listed])
    blocks = ["WEBVTT"]
    if listed:
        blocks.append("\n".join(["NOTE", *(f"{classes[tier.name]}: {_plain(tier.name)}" for tier in listed)]))
    cues = [
        (annotation.start_ms, annotation.end_ms, order, f"<c.{classes[tier.name]}>{_escaped(annotation.value)}</c>")
        for order, tier in enumerate(listed)
        for annotation in tier.annotations
        if annotation.value.strip() and annotation.end_ms > annotation.start_ms
    ]
    blocks += [f"{clock_text(start)} --> {clock_text(end)}\n{text}" for start, end, _, text in sorted(cues)]
    return "\n\n".join(blocks) + "\n"


def _plain(text: str) -> str:
    """One line that does not end the block, nor looks like a cue's times."""
    return " ".join(text.split()).replace("-->", "->")


def _escaped(text: str) -> str:
    """Cue text: no markup, and no blank line, which would end the cue."""
    lines = [line.strip() for line in re.split(r"\r\n|\r|\n", text.replace("\0", "\ufffd")) if line.strip()]
    return "\n".join(lines).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _class_names(tiers: list[str]) -> dict[str, str]:
    """A class for each tier: its name with `-` for what a class cannot hold, numbered if two become the same."""
    classes: dict[str, str] = {}
    for tier in tiers:
        base = re.sub(r"[^\w-]+", "-", tier).strip("-") or "tier"
        name, number = base, 2
        while name in classes.values():
            name, number = f"{base}-{number}", number + 1
        classes[tier] = name
    return classes

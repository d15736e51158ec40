"""Small pieces of text: close matches, byte counts, durations."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def closest(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate most like `name`, or None when nothing is close."""
    names = sorted(candidates)
    folded = {candidate.lower().replace("_", "-"): candidate for candidate in names}
    match = difflib.get_close_matches(name.lower().replace("_", "-"), folded, n=1, cutoff=0.6)
    return folded[match[0]] if match else None


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """A hint for a misspelt name: the close match, else what there is."""
    names = sorted(candidates)
    match = closest(name, names)
    if match is not None:
        return f"did you mean `{match}`?"
    return f"known: {', '.join(names)}" if names else "there is none"


def human_bytes(count: float) -> str:
    """Bytes for people: `931 B`, `1.5 MB`, `2.20 GB` (powers of 1000)."""
    for unit, digits in (("B", 0), ("kB", 0), ("MB", 1), ("GB", 2)):
        if abs(count) < 1000 or unit == "GB":
            return f"{count:.{digits}f} {unit}"
        count /= 1000
    raise AssertionError("unreachable: GB ends the loop")


def human_seconds(seconds: float) -> str:
    """A duration for people: `0.03 s`, `42.5 s`, `3:07`, `1:02:45`."""
    if seconds < 9.995:
        return f"{seconds:.2f} s"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"

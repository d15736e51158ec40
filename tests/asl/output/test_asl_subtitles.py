"""WebVTT of annotations, read back by a parser that follows the standard's rules for blocks and cues."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fyc.asl.elan.document import Annotation, Tier
from fyc.asl.output.subtitles import webvtt, write_webvtt
from fyc.errors import ElanError

_TIMES = re.compile(r"(\d\d+):(\d\d):(\d\d)\.(\d{3}) --> (\d\d+):(\d\d):(\d\d)\.(\d{3})")


def cues(text: str) -> list[tuple[int, int, str, str]]:
    """Start and end in milliseconds, class and text of every cue."""
    blocks = text.removesuffix("\n").split("\n\n")
    assert blocks[0] == "WEBVTT"
    found = []
    for block in blocks[1:]:
        first, _, rest = block.partition("\n")
        if first.startswith("NOTE"):
            assert "-->" not in block
            continue
        match = _TIMES.fullmatch(first)
        assert match is not None, block
        h1, m1, s1, f1, h2, m2, s2, f2 = map(int, match.groups())
        span = re.fullmatch(r"<c\.([^\s.<>&]+)>([^<>]*)</c>", rest)
        assert span is not None, block
        start, end = ((h * 60 + m) * 60_000 + s * 1000 + f for h, m, s, f in ((h1, m1, s1, f1), (h2, m2, s2, f2)))
        found.append((start, end, span[1], html.unescape(span[2])))
    return found


def test_a_document(tmp_path: Path) -> None:
    tiers = [
        Tier("head shake", (Annotation(3_600_500, 3_601_000, "neg"), Annotation(0, 40, "x"))),
        Tier(
            "brows", (Annotation(10, 2000, "a < b & c\n\n--> d"), Annotation(2000, 2100, " "), Annotation(5, 5, "no"))
        ),
        Tier("head.shake", (Annotation(10, 20, "same"),)),
    ]
    write_webvtt(tiers, tmp_path / "手.vtt")
    text = (tmp_path / "手.vtt").read_text(encoding="utf-8")
    assert text.startswith("WEBVTT\n\nNOTE\nhead-shake: head shake\nbrows: brows\nhead-shake-2: head.shake\n\n")
    assert cues(text) == [
        (0, 40, "head-shake", "x"),
        (10, 20, "head-shake-2", "same"),
        (10, 2000, "brows", "a < b & c\n--> d"),
        (3_600_500, 3_601_000, "head-shake", "neg"),
    ]
    assert "01:00:00.500 --> 01:00:01.000" in text
    assert cues(webvtt([])) == []


@given(st.lists(st.tuples(st.text(max_size=8), st.text(max_size=20), st.integers(0, 10**7)), max_size=5))
def test_any_text_stays_within_its_cue(items: list[tuple[str, str, int]]) -> None:
    tiers = {name: Tier(name, (Annotation(start, start + 7, value),)) for name, value, start in items}
    found = cues(webvtt(tiers.values()))
    shown = [tier for tier in tiers.values() if tier.annotations[0].value.strip()]
    assert len(found) == len(shown)
    assert sorted(start for start, *_ in found) == sorted(tier.annotations[0].start_ms for tier in shown)
    assert len({name for _, _, name, _ in found}) == len(shown)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ElanError) as caught:
        write_webvtt([], tmp_path / "no" / "a.vtt")
    assert caught.value.code == "FYC-E05"

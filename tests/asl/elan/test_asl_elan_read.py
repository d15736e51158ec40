"""Reading ELAN documents: times of all kinds of annotations, old versions, bad files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fyc.asl.elan.document import Annotation, Document, Tier, overlaps
from fyc.asl.elan.read import read_eaf
from fyc.errors import ElanError

#: Slots 2 to 4 have no values; `words` divides `text` in time, `parts` by symbols, `note` is one to one.
DIVIDED = """<?xml version="1.0" encoding="UTF-8"?>
<ANNOTATION_DOCUMENT AUTHOR="" DATE="2014-10-28T10:14:04+01:00" FORMAT="{version}" VERSION="{version}">
  <HEADER MEDIA_FILE="" TIME_UNITS="milliseconds">
    <MEDIA_DESCRIPTOR MEDIA_URL="file:///C:/My Videos/a%20b.mpg" MIME_TYPE="video/mpeg" TIME_ORIGIN=" 40 "/>
  </HEADER>
  <TIME_ORDER>
    <TIME_SLOT TIME_SLOT_ID="ts1" TIME_VALUE=" 1000 "/><TIME_SLOT TIME_SLOT_ID=" ts2"/>
    <TIME_SLOT TIME_SLOT_ID="ts3"/><TIME_SLOT TIME_SLOT_ID="ts4" TIME_VALUE=""/>
    <TIME_SLOT TIME_SLOT_ID="ts5" TIME_VALUE="1000"/><TIME_SLOT TIME_SLOT_ID="ts6" TIME_VALUE="3000"/>
  </TIME_ORDER>
  <TIER TIER_ID="parts" LINGUISTIC_TYPE_REF="sub" PARENT_REF="text ">
    <ANNOTATION><REF_ANNOTATION ANNOTATION_ID="p2" ANNOTATION_REF="a1" PREVIOUS_ANNOTATION="p1">
      <ANNOTATION_VALUE>zwei</ANNOTATION_VALUE></REF_ANNOTATION></ANNOTATION>
    <ANNOTATION><REF_ANNOTATION ANNOTATION_ID="p1" ANNOTATION_REF=" a1">
      <ANNOTATION_VALUE>eins</ANNOTATION_VALUE></REF_ANNOTATION></ANNOTATION>
    <ANNOTATION><REF_ANNOTATION ANNOTATION_ID="p3" ANNOTATION_REF="a1" PREVIOUS_ANNOTATION="p2">
      <ANNOTATION_VALUE>drei</ANNOTATION_VALUE></REF_ANNOTATION></ANNOTATION>
  </TIER>
  <TIER TIER_ID="note" LINGUISTIC_TYPE_REF="one" PARENT_REF="parts">
    <ANNOTATION><REF_ANNOTATION ANNOTATION_ID="n1" ANNOTATION_REF="p2">
      <ANNOTATION_VALUE>two</ANNOTATION_VALUE></REF_ANNOTATION></ANNOTATION>
  </TIER>
  <TIER TIER_ID="words" LINGUISTIC_TYPE_REF="time" PARENT_REF="text">
    <ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="w1" TIME_SLOT_REF1="ts1" TIME_SLOT_REF2="ts2">
      <ANNOTATION_VALUE>a</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>
    <ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="w2" TIME_SLOT_REF1="ts2" TIME_SLOT_REF2="ts3">
      <ANNOTATION_VALUE>b</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>
    <ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="w3" TIME_SLOT_REF1="ts3" TIME_SLOT_REF2="ts4">
      <ANNOTATION_VALUE>c</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>
    <ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="w4" TIME_SLOT_REF1="ts4" TIME_SLOT_REF2="ts6">
      <ANNOTATION_VALUE>d</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>
  </TIER>
  <TIER TIER_ID=" text" LINGUISTIC_TYPE_REF="top" PARTICIPANT="Anna">
    <ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a1" TIME_SLOT_REF1="ts1" TIME_SLOT_REF2="ts6">
      <ANNOTATION_VALUE>a b c d</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>
  </TIER>
  <LINGUISTIC_TYPE LINGUISTIC_TYPE_ID="top" TIME_ALIGNABLE="true" CONTROLLED_VOCABULARY_REF="cv"/>
  <LINGUISTIC_TYPE LINGUISTIC_TYPE_ID="time" TIME_ALIGNABLE="true" CONSTRAINTS="Time_Subdivision"/>
  <LINGUISTIC_TYPE LINGUISTIC_TYPE_ID="sub" TIME_ALIGNABLE="false" CONSTRAINTS="Symbolic_Subdivision"/>
  <LINGUISTIC_TYPE LINGUISTIC_TYPE_ID="one" TIME_ALIGNABLE="false" CONSTRAINTS="Symbolic_Association"/>
  {vocabulary}
</ANNOTATION_DOCUMENT>
"""
OLD_VOCABULARY = """<CONTROLLED_VOCABULARY CV_ID="cv" DESCRIPTION="">
  <CV_ENTRY DESCRIPTION="question">wh</CV_ENTRY><CV_ENTRY DESCRIPTION="">neg</CV_ENTRY></CONTROLLED_VOCABULARY>"""
NEW_VOCABULARY = """<LANGUAGE LANG_ID="eng"/><CONTROLLED_VOCABULARY CV_ID="cv">
  <DESCRIPTION LANG_REF="eng">x</DESCRIPTION>
  <CV_ENTRY_ML CVE_ID="c1"><CVE_VALUE DESCRIPTION="question" LANG_REF="eng">wh</CVE_VALUE>
    <CVE_VALUE DESCRIPTION="Frage" LANG_REF="deu">w</CVE_VALUE></CV_ENTRY_ML>
  <CV_ENTRY_ML CVE_ID="c2"><CVE_VALUE DESCRIPTION="" LANG_REF="eng">neg</CVE_VALUE></CV_ENTRY_ML>
</CONTROLLED_VOCABULARY>"""


def saved(folder: Path, content: str | bytes) -> Path:
    path = folder / "x é.eaf"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def simple(tier: str, slots: str = "", root: str = "ANNOTATION_DOCUMENT") -> str:
    return f"<{root}><HEADER/><TIME_ORDER>{slots}</TIME_ORDER>{tier}</{root}>"


def slots(*values: int | None) -> str:
    stored = (
        f'<TIME_SLOT TIME_SLOT_ID="s{i}"' + ("/>" if v is None else f' TIME_VALUE="{v}"/>')
        for i, v in enumerate(values)
    )
    return "".join(stored)


def aligned(name: str, *items: tuple[str, str, str]) -> str:
    stored = (
        f'<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="{name}{i}" TIME_SLOT_REF1="{first}" TIME_SLOT_REF2="{last}">'
        f"<ANNOTATION_VALUE>{value}</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>"
        for i, (first, last, value) in enumerate(items)
    )
    return f'<TIER TIER_ID="{name}" LINGUISTIC_TYPE_REF="t">{"".join(stored)}</TIER>'


@pytest.mark.parametrize(
    ("version", "vocabulary"), [("2.7", OLD_VOCABULARY), ("2.8", NEW_VOCABULARY), ("3.0", NEW_VOCABULARY)]
)
def test_every_annotation_gets_the_times_that_elan_shows(tmp_path: Path, version: str, vocabulary: str) -> None:
    found = read_eaf(saved(tmp_path, DIVIDED.format(version=version, vocabulary=vocabulary)))
    assert found.problems == ()
    assert [tier.name for tier in found.tiers] == ["parts", "note", "words", "text"]
    times = {t.name: [(a.start_ms, a.end_ms, a.value) for a in t.annotations] for t in found.tiers}
    assert times["text"] == [(1000, 3000, "a b c d")]
    assert times["words"] == [(1000, 1500, "a"), (1500, 2000, "b"), (2000, 2500, "c"), (2500, 3000, "d")]
    assert times["parts"] == [(1000, 1667, "eins"), (1667, 2333, "zwei"), (2333, 3000, "drei")]
    assert times["note"] == [(1667, 2333, "two")]
    assert (found.tier("text").participant, found.tier("text").vocabulary) == ("Anna", "cv")
    assert found.tier("note").parent == "parts"
    assert found.vocabularies[0].labels == (("wh", "question"), ("neg", ""))
    assert (found.media[0].mime_type, found.media[0].time_origin_ms) == ("video/mpeg", 40)
    assert found.media[0].path == Path("C:/My Videos/a%20b.mpg")


def test_percent_encoded_addresses_are_understood(tmp_path: Path) -> None:
    (tmp_path / "a b.mpg").write_bytes(b"x")
    found = read_eaf(saved(tmp_path, DIVIDED.format(version="3.0", vocabulary="")))
    assert found.media[0].path == tmp_path / "a b.mpg"


def test_a_slot_outside_of_a_chain_lies_between_its_neighbours(tmp_path: Path) -> None:
    tier = aligned("t", ("s1", "s2", "x"))
    found = read_eaf(saved(tmp_path, simple(tier, slots(1000, None, None, 4000))))
    assert found.tiers[0].annotations == (Annotation(2000, 3000, "x"),)
    after_the_last = read_eaf(saved(tmp_path, simple(aligned("t", ("s0", "s1", "x")), slots(1000, None))))
    assert after_the_last.tiers[0].annotations == (Annotation(1000, 1000, "x"),)


def test_encodings_marks_and_foreign_elements(tmp_path: Path) -> None:
    tier = aligned("t", ("s0", "s1", "hé"))
    body = simple(tier, slots(0, 5))
    expected = (Tier("t", (Annotation(0, 5, "hé"),)),)
    for content in (
        b"\xef\xbb\xbf" + body.encode(),
        body.encode("utf-16"),
        b'<?xml version="1.0" encoding="ISO-8859-1"?>' + body.encode("latin-1"),
    ):
        assert read_eaf(saved(tmp_path, content)).tiers == expected
    foreign = '<q:TIER xmlns:q="urn:q" TIER_ID="no"><q:x/>text</q:TIER><!-- note --><?pi?><UNKNOWN/>'
    namespaced = body.replace("<ANNOTATION_DOCUMENT>", '<ANNOTATION_DOCUMENT xmlns="urn:e" xmlns:q="urn:q" q:DATE="1">')
    for text in (body, namespaced):
        assert (
            read_eaf(
                saved(tmp_path, text.replace("</HEADER>", "</HEADER>").replace("<HEADER/>", f"<HEADER/>{foreign}"))
            ).tiers
            == expected
        )


def test_empty_tiers_and_documents(tmp_path: Path) -> None:
    assert read_eaf(saved(tmp_path, simple(aligned("t")))) == Document(tiers=(Tier("t"),))
    assert read_eaf(saved(tmp_path, "<ANNOTATION_DOCUMENT/>")) == Document()


def test_problems_name_the_tier_and_the_times(tmp_path: Path) -> None:
    tier = aligned(
        "brows",
        ("s0", "s2", "up"),
        ("s1", "s3", "down"),
        ("s3", "s0", "back"),
        ("s9", "s1", "lost"),
        ("s3", "s4", "ok"),
    )
    lonely = (
        '<TIER TIER_ID="ref" LINGUISTIC_TYPE_REF="t"><ANNOTATION><REF_ANNOTATION ANNOTATION_ID="r" ANNOTATION_REF="q">'
        "<ANNOTATION_VALUE>nobody</ANNOTATION_VALUE></REF_ANNOTATION></ANNOTATION></TIER>"
    )
    found = read_eaf(saved(tmp_path, simple(tier + lonely, slots(0, 500, 900, 61_200, 61_300))))
    assert [item.value for item in found.tier("brows").annotations] == ["up", "down", "ok"]
    assert sorted(found.problems) == [
        "tier 'brows': 'back' ends before it begins (00:01:01.200 to 00:00:00.000)",
        "tier 'brows': 'lost' (brows3) has no time",
        "tier 'brows': 'up' (00:00:00.000 to 00:00:00.900) overlaps 'down' (00:00:00.500 to 00:01:01.200)",
        "tier 'ref': 'nobody' (r) has no time",
    ]


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 8)), max_size=8))
def test_overlaps_are_found_as_by_comparing_all(spans: list[tuple[int, int]]) -> None:
    tier = Tier("t", tuple(Annotation(start, start + length, str(i)) for i, (start, length) in enumerate(spans)))
    items = sorted(tier.annotations, key=lambda a: (a.start_ms, a.end_ms))
    begins_in_another = [b for i, b in enumerate(items) if any(a.end_ms > b.start_ms for a in items[:i])]
    found = list(overlaps(tier))
    assert [second for _, second in found] == begins_in_another
    assert all(first.start_ms <= second.start_ms < first.end_ms for first, second in found)


def refused(folder: Path, content: str | bytes) -> ElanError:
    with pytest.raises(ElanError) as caught:
        read_eaf(saved(folder, content))
    assert str(folder / "x é.eaf") in caught.value.where
    assert caught.value.next
    return caught.value


BOMB = '<!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]><ANNOTATION_DOCUMENT>&b;</ANNOTATION_DOCUMENT>'
EXTERNAL = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><ANNOTATION_DOCUMENT>&x;</ANNOTATION_DOCUMENT>'
OUTSIDE = '<!DOCTYPE a SYSTEM "http://127.0.0.1:9/a.dtd"><ANNOTATION_DOCUMENT/>'


@pytest.mark.parametrize("content", [BOMB, EXTERNAL, OUTSIDE, BOMB.encode("utf-16")])
def test_entities_are_refused(tmp_path: Path, content: str | bytes) -> None:
    assert refused(tmp_path, content).code == "FYC-E03"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "empty"), (" \n", "empty"), ("hello", "syntax error"), (b"\x00\x01\x02" * 50, "XML"),
        ("<ANNOTATION_DOCUMENT><HEADER>", "no element found"), ("<html/>", "its root is <html>"),
        ("<a></b>", "mismatched tag"), ("<ANNOTATION_DOCUMENT>&nbsp;</ANNOTATION_DOCUMENT>", "undefined entity"),
        (b'<?xml version="1.0" encoding="klingon"?><a/>', "unknown encoding"), (b"<a>\xff</a>", "invalid token"),
        (simple("", slots(5).replace('"5"', '"5.5"')), "whole number"), (simple("", slots(-5)), "is -5"),
        (simple("", slots(2**32)), "is 4294967296"),
        (simple("", slots(5).replace('"5"', f'"{"9" * 5000}"')), "whole number"),
        (simple(aligned("t") + aligned("t ")), "two tiers are named 't'"), (simple("<TIER/>"), "no name"),
        (simple('<TIER TIER_ID="a" PARENT_REF="b"/><TIER TIER_ID="b" PARENT_REF="a"/>'), "its own ancestor"),
        ("<a>" * 100_000, "nested more than"),
    ],
)  # fmt: skip
def test_damaged_files_have_one_clear_error(tmp_path: Path, content: str | bytes, why: str) -> None:
    error = refused(tmp_path, content)
    assert error.code == "FYC-E02"
    assert why in error.why


def test_the_error_points_at_the_line(tmp_path: Path) -> None:
    assert refused(tmp_path, "<ANNOTATION_DOCUMENT>\n  <HEADER>\n</x>").where.endswith("x é.eaf:3:3")


def test_files_that_cannot_be_opened(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.eaf"):
        with pytest.raises(ElanError) as caught:
            read_eaf(path)
        assert caught.value.code == "FYC-E01"
    if os.geteuid() != 0:
        path = saved(tmp_path, "<ANNOTATION_DOCUMENT/>")
        path.chmod(0)
        assert refused(tmp_path, "").code == "FYC-E01"


WHOLE = DIVIDED.format(version="3.0", vocabulary=NEW_VOCABULARY).encode()


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damage_is_an_error_or_a_document(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(WHOLE)
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    for _ in range(data.draw(st.integers(0, 4)) if content else 0):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = read_eaf(saved(tmp_path, bytes(content)))
    except ElanError as error:
        code = error.code
    else:
        code = "FYC-E02"
        assert all(a.start_ms <= a.end_ms for tier in found.tiers for a in tier.annotations)
    assert code in {"FYC-E02", "FYC-E03"}


@pytest.mark.timeout(60)
def test_circles_and_long_chains_end(tmp_path: Path) -> None:
    """References that run in a circle, and sizes at which an algorithm that looks at all pairs would take minutes."""
    circle = aligned("t", ("s1", "s2", "a"), ("s2", "s1", "b"), ("s0", "s1", "c"))
    assert len(read_eaf(saved(tmp_path, simple(circle, slots(5, None, None)))).tiers[0].annotations) == 3
    many = 20_000
    chain = aligned("t", *((f"s{i}", f"s{i + 1}", "x") for i in range(many)))
    alone = aligned("u", *((f"s{i}", f"s{i}", "x") for i in range(many)))
    previous = "".join(
        f'<ANNOTATION><REF_ANNOTATION ANNOTATION_ID="r{i}" ANNOTATION_REF="t0" PREVIOUS_ANNOTATION="r{(i + 1) % many}">'
        "<ANNOTATION_VALUE/></REF_ANNOTATION></ANNOTATION>"
        for i in range(many)
    )
    references = f'<TIER TIER_ID="r" LINGUISTIC_TYPE_REF="t">{previous}</TIER>'
    found = read_eaf(saved(tmp_path, simple(chain + alone + references, slots(0, *[None] * (many - 1), many))))
    assert found.tier("t").annotations[-1] == Annotation(many - 1, many, "x")
    assert len(found.tier("r").annotations) == many

"""Writing ELAN documents: valid, read back by fyc and by pympi, whole or not there."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import eaf_rules
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pympi.Elan import Eaf

from fyc.asl.elan.curves import Curve, write_curves
from fyc.asl.elan.document import Annotation, Document, LinkedFile, Media, Tier, Vocabulary
from fyc.asl.elan.read import read_eaf
from fyc.asl.elan.write import write_eaf
from fyc.errors import ElanError

MARKERS = Vocabulary("markers", (("wh", 'lowered "brows" & shake'), ("y/n", ""), ("neg", "shake")))
PHASES = Vocabulary("phases", (("onset", ""), ("core", ""), ("offset", "")))


def document(folder: Path) -> Document:
    wh, neg = Annotation(0, 1000, "wh"), Annotation(1200, 1504, "neg")
    return Document(
        media=(Media(folder / "video 手.mp4", "video/mp4"), Media(folder.parent / "other.mov", "video/quicktime", 480)),
        tiers=(
            Tier("phase", (Annotation(0, 200, "onset"), Annotation(200, 900, "core")), "NMM", "A", "phases"),
            Tier("NMM", (wh, neg, Annotation(1504, 1600, "not in the list")), None, "A", "markers"),
            Tier("gloss <é>", (Annotation(5, 6, "LINE 1\nline 2 & <b> 手話"),)),
            Tier("empty"),
        ),
        vocabularies=(MARKERS, PHASES),
        linked=(LinkedFile(folder / "video.csv", "text/csv"),),
    )


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    folder = tmp_path / "a b é"
    folder.mkdir()
    path = folder / "x.eaf"
    write_eaf(document(folder), path)
    eaf_rules.check(path)
    assert read_eaf(path) == document(folder)
    assert [file.name for file in folder.iterdir()] == ["x.eaf"]


def test_pympi_reads_the_same(tmp_path: Path) -> None:
    path = tmp_path / "x.eaf"
    write_eaf(document(tmp_path), path)
    eaf = Eaf(str(path))
    for tier in document(tmp_path).tiers:
        found = sorted(eaf.get_annotation_data_for_tier(tier.name))
        assert found == [(item.start_ms, item.end_ms, item.value) for item in tier.annotations]
        assert eaf.get_parameters_for_tier(tier.name).get("PARENT_REF") == tier.parent
    assert set(eaf.get_controlled_vocabulary_names()) == {"markers", "phases"}
    assert eaf.media_descriptors[0]["RELATIVE_MEDIA_URL"] == "./video 手.mp4"
    assert eaf.linked_file_descriptors[0]["RELATIVE_LINK_URL"] == "./video.csv"


def test_addresses_are_written_as_elan_does(tmp_path: Path) -> None:
    """Absolute, not percent-encoded, and the way from the document's folder."""
    folder = tmp_path / "100% é"
    (folder / "out").mkdir(parents=True)
    path = folder / "out" / "x.eaf"
    write_eaf(Document(media=(Media(folder / "a b.mp4"), Media(folder / "x.weird", time_origin_ms=-3))), path)
    first, second = ElementTree.parse(path).getroot().iterfind("HEADER/MEDIA_DESCRIPTOR")
    assert first.attrib == {
        "MEDIA_URL": f"file://{folder}/a b.mp4", "RELATIVE_MEDIA_URL": "../a b.mp4", "MIME_TYPE": "video/mp4",
    }  # fmt: skip
    assert (second.attrib["MIME_TYPE"], second.attrib["TIME_ORIGIN"]) == ("video/*", "-3")


def test_moved_media_are_found_beside_the_document(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    (old / "a b.mp4").write_bytes(b"x")
    write_eaf(Document(media=(Media(old / "a b.mp4"),)), old / "x.eaf")
    assert read_eaf(old / "x.eaf").media[0].path == old / "a b.mp4"
    old.rename(new)
    assert read_eaf(new / "x.eaf").media[0].path == new / "a b.mp4"
    (new / "a b.mp4").unlink()
    assert read_eaf(new / "x.eaf").media[0].path == old / "a b.mp4"


texts = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"), max_size=12)
names = texts.map(str.strip).filter(bool)


@st.composite
def documents(draw: st.DrawFn) -> Document:
    labels = draw(st.lists(names, max_size=4, unique=True))
    vocabularies = (Vocabulary("v", tuple((label, draw(texts)) for label in labels)),)
    tiers = []
    for name in draw(st.lists(names, max_size=4, unique=True)):
        edges = sorted(draw(st.sets(st.integers(0, 10_000), max_size=10)))
        pairs = zip(edges[::2], edges[1::2], strict=False)
        values = texts | st.sampled_from(labels) if labels else texts
        annotations = tuple(Annotation(start, end, draw(values)) for start, end in pairs)
        vocabulary = draw(st.sampled_from([None, "v"]))
        participant = draw(texts).strip()
        tiers.append(Tier(name, annotations, None, participant, vocabulary))
        if annotations and draw(st.booleans()):
            inner = Annotation(annotations[0].start_ms, annotations[0].end_ms, draw(texts))
            tiers.append(Tier(f"{name} of {name}", (inner,), name))
    unique = {tier.name: tier for tier in tiers}
    kept = tuple(tier for tier in unique.values() if tier.parent is None or _fits(tier, unique[tier.parent]))
    return Document(tiers=kept, vocabularies=vocabularies)


def _fits(tier: Tier, parent: Tier) -> bool:
    return any(
        (outer.start_ms, outer.end_ms) == (inner.start_ms, inner.end_ms)
        for outer in parent.annotations
        for inner in tier.annotations
    )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=documents())
def test_any_document_survives(tmp_path: Path, content: Document) -> None:
    path = tmp_path / "x.eaf"
    write_eaf(content, path)
    eaf_rules.check(path)
    assert read_eaf(path) == content


def replaced(tier: int, **changes: Any) -> Any:
    def change(content: Document) -> Document:
        tiers = list(content.tiers)
        tiers[tier] = dataclasses.replace(tiers[tier], **changes)
        return dataclasses.replace(content, tiers=tuple(tiers))

    return change


IMPOSSIBLE = {
    "ends before it begins": replaced(2, annotations=(Annotation(9, 5, "x"),)),
    "no length": replaced(2, annotations=(Annotation(9, 9, "x"),)),
    "before zero": replaced(2, annotations=(Annotation(-1, 5, "x"),)),
    "too late": replaced(2, annotations=(Annotation(1, 2**32, "x"),)),
    "overlap": replaced(2, annotations=(Annotation(0, 10, "x"), Annotation(9, 12, "y"))),
    "outside the parent": replaced(0, annotations=(Annotation(900, 1100, "core"),)),
    "before the parent": replaced(0, parent="gloss <é>", annotations=(Annotation(0, 2, "core"),)),
    "no such parent": replaced(0, parent="nobody"),
    "its own parent": replaced(1, parent="phase"),
    "same name": replaced(3, name="NMM"),
    "no name": replaced(3, name=" "),
    "no such vocabulary": replaced(3, vocabulary="nothing"),
    "a character": replaced(2, annotations=(Annotation(0, 10, "a\x00b"),)),
    "half a character": replaced(3, name="a\ud800"),
    "a path that is no text": lambda d: dataclasses.replace(d, media=(Media(Path("a\udcff.mp4")),)),
    "same label": lambda d: dataclasses.replace(
        d, vocabularies=(Vocabulary("markers", (("a", ""), ("a", ""))), PHASES)
    ),
}


@pytest.mark.parametrize("case", IMPOSSIBLE)
def test_what_elan_cannot_hold_is_refused(tmp_path: Path, case: str) -> None:
    with pytest.raises(ElanError) as caught:
        write_eaf(IMPOSSIBLE[case](document(tmp_path)), tmp_path / "x.eaf")
    assert caught.value.code == "FYC-E04"
    assert caught.value.where.startswith(str(tmp_path / "x.eaf"))
    assert not list(tmp_path.iterdir())


def test_curves_are_described_for_elan(tmp_path: Path) -> None:
    """The names that ELAN's configuration parser and its viewer's preferences look for."""
    path = tmp_path / "手 a.eaf"
    curves = [
        Curve("yaw", 3, "deg", -40, 40, (200, 0, 0)),
        Curve("pitch", 4, "deg", -40, 40, (0, 0, 200)),
        Curve("brow & co", 6, "cm", -1, 1.5, (0, 120, 0), panel=2),
    ]
    linked = write_curves(path, tmp_path / "a b.csv", 1, curves)
    write_eaf(Document(linked=linked), path)
    eaf_rules.check(path)
    assert [file.path.name for file in read_eaf(path).linked] == ["a b.csv", "手 a_tsconf.xml"]
    urls = [item.attrib["LINK_URL"] for item in ElementTree.parse(path).getroot().iter("LINKED_FILE_DESCRIPTOR")]
    source = ElementTree.parse(tmp_path / "手 a_tsconf.xml").getroot().find("tracksource")
    assert source is not None
    assert source.attrib["source-url"] == urls[0]
    assert (source.attrib["time-column"], source.attrib["sample-type"]) == ("1", "Discontinuous Rate")
    tracks = source.findall("track")
    assert [track.attrib["name"] for track in tracks] == ["yaw", "pitch", "brow & co"]
    assert [track.find("sample-position/pos").attrib["col"] for track in tracks] == ["3", "4", "6"]  # type: ignore[union-attr]
    assert tracks[2].find("range").attrib == {"max": "1.5", "min": "-1.0"}  # type: ignore[union-attr]
    assert tracks[0].findtext("color") == "200,0,0"
    preferences = ElementTree.parse(tmp_path / "手 a.pfsx").getroot()
    assert preferences.findtext("pref[@key='TimeSeriesViewer.NumberOfPanels']/Int") == "2"
    panels = [[name.text for name in panel] for panel in preferences.iterfind("prefList")]
    assert panels == [["yaw", "pitch"], ["brow & co"]]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    with pytest.raises(ElanError) as caught:
        write_eaf(Document(), tmp_path / "no" / "x.eaf")
    assert caught.value.code == "FYC-E05"
    path = tmp_path / "x.eaf"
    path.mkdir()
    with pytest.raises(ElanError) as caught:
        write_eaf(Document(), path)
    assert caught.value.code == "FYC-E05"
    assert [file.name for file in tmp_path.iterdir()] == ["x.eaf"]


_FULL = """
import resource, sys
from fyc.asl.elan.document import Document
from fyc.asl.elan.write import write_eaf
from fyc.errors import ResourceError
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
try:
    write_eaf(Document(), sys.argv[1])
except ResourceError as error:
    print(error.code)
"""


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x.eaf"
    path.write_text("old", encoding="utf-8")
    done = subprocess.run([sys.executable, "-c", _FULL, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout == "FYC-S01\n"
    assert path.read_text(encoding="utf-8") == "old"
    assert os.listdir(tmp_path) == ["x.eaf"]  # noqa: PTH208

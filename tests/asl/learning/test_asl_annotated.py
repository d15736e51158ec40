"""Annotated documents as training material: what is taken, what is said, what is refused."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from asl_annotated import analysis_of, annotate, corpus, tier, with_tier
from asl_measures import sentence

from fyc.asl.elan.document import Annotation, Document, LinkedFile, Media, Vocabulary
from fyc.asl.elan.seal import EMPTY, SEAL
from fyc.asl.learning.annotated import AnnotatedVideo, Wanted, beyond, read_all, read_annotated
from fyc.asl.learning.examples import Material, material
from fyc.asl.measures import Measures
from fyc.asl.output.annotation import MARKER_TIER, SYNTHETIC, TIERS
from fyc.asl.output.csv_read import read_csv
from fyc.asl.output.csv_table import write_csv
from fyc.asl.run import EVENT_LABELS
from fyc.asl.segments import Segment
from fyc.errors import FycError

#: A tier of markers by one signer; `words` has no video times of its own.
FOREIGN = """<?xml version="1.0" encoding="UTF-8"?>
<ANNOTATION_DOCUMENT AUTHOR="" DATE="2014-10-28T10:14:04+01:00" FORMAT="{version}" VERSION="{version}">
  <HEADER MEDIA_FILE="" TIME_UNITS="milliseconds">
    <MEDIA_DESCRIPTOR MEDIA_URL="file:///C:/corpus/sound.wav" MIME_TYPE="audio/x-wav"/>
    <MEDIA_DESCRIPTOR MEDIA_URL="file:///C:/corpus/{video}" MIME_TYPE="video/mp4" TIME_ORIGIN="400"/>
  </HEADER>
  <TIME_ORDER>
    <TIME_SLOT TIME_SLOT_ID="t1" TIME_VALUE="100"/><TIME_SLOT TIME_SLOT_ID="t2" TIME_VALUE="900"/>
    <TIME_SLOT TIME_SLOT_ID="t3" TIME_VALUE="700"/><TIME_SLOT TIME_SLOT_ID="t4" TIME_VALUE="1500"/>
    <TIME_SLOT TIME_SLOT_ID="t5" TIME_VALUE="1500"/><TIME_SLOT TIME_SLOT_ID="t6" TIME_VALUE="1540"/>
  </TIME_ORDER>
  <TIER TIER_ID="NMM Anna" LINGUISTIC_TYPE_REF="top" PARTICIPANT=" Anna ">
    <ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a1" TIME_SLOT_REF1="t1" TIME_SLOT_REF2="t2">
      <ANNOTATION_VALUE>whq </ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>
    <ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a2" TIME_SLOT_REF1="t3" TIME_SLOT_REF2="t4">
      <ANNOTATION_VALUE>neg</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>
    <ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a3" TIME_SLOT_REF1="t5" TIME_SLOT_REF2="t6">
      <ANNOTATION_VALUE>neg</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>
    <ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a4" TIME_SLOT_REF1="t1" TIME_SLOT_REF2="t2">
      <ANNOTATION_VALUE>  </ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>
    <ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a5" TIME_SLOT_REF1="t1" TIME_SLOT_REF2="nowhere">
      <ANNOTATION_VALUE>lost</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>
  </TIER>
  <TIER TIER_ID="type" LINGUISTIC_TYPE_REF="one" PARENT_REF="NMM Anna">
    <ANNOTATION><REF_ANNOTATION ANNOTATION_ID="r1" ANNOTATION_REF="a2">
      <ANNOTATION_VALUE>shake</ANNOTATION_VALUE></REF_ANNOTATION></ANNOTATION>
  </TIER>
  <LINGUISTIC_TYPE LINGUISTIC_TYPE_ID="top" TIME_ALIGNABLE="true"/>
  <LINGUISTIC_TYPE LINGUISTIC_TYPE_ID="one" TIME_ALIGNABLE="false" CONSTRAINTS="Symbolic_Association"/>
</ANNOTATION_DOCUMENT>
"""


def fails(code: str, *arguments: object, **options: object) -> FycError:
    with pytest.raises(FycError) as error:
        read_all(*arguments, **options)  # type: ignore[arg-type]
    assert error.value.code == code
    return error.value


def taught(videos: list[AnnotatedVideo]) -> Material:
    return material([(video, video.measures) for video in videos if video.measures is not None])


def labelled(segments: object) -> list[tuple[float, float, str]]:
    return [(part.start_s, part.end_s, part.label) for part in segments]  # type: ignore[attr-defined]


@pytest.mark.parametrize("version", ["2.8", "3.0"])
def test_a_foreign_document(version: str, tmp_path: Path) -> None:
    eaf = annotate(tmp_path, 0)
    eaf.write_text(FOREIGN.format(version=version, video="x.mp4"), encoding="utf-8")
    (video,), _ = read_all([eaf], Wanted(" nmm anna", ("Type",)))
    assert labelled(taught([video]).examples[0].markers) == [(0.5, 1.3, "whq"), (1.1, 1.9, "neg")]
    assert labelled(taught([video]).examples[0].events) == [(1.1, 1.9, "shake")]
    assert video.signer == "Anna"
    said = "\n".join(video.notes)
    for word in (
        "overlaps",
        "has no time",
        "1 of 4 annotations without a text",
        "1 of 4 annotations shorter than 0.1 s",
    ):
        assert word in said


def test_a_missing_tier_is_named_with_those_that_there_are(tmp_path: Path) -> None:
    eaf = annotate(tmp_path, 0)
    error = fails("FYC-E09", [eaf], Wanted("NMM"))
    assert "'nonmanual markers', 'brows'" in error.why
    assert "--markers" in error.next
    assert "--events" in fails("FYC-E09", [eaf], Wanted(events=("gaze",))).next


def test_a_corpus_in_folders_and_its_tables_in_others(tmp_path: Path) -> None:
    """A folder for each signer, as `fyc asl run` mirrors them."""
    annotate(tmp_path / "docs" / "anna", 0)
    annotate(tmp_path / "docs" / "ben", 1)
    tables = tmp_path / "tables"
    for table in sorted((tmp_path / "docs").rglob("*.csv")):
        (tables / table.parent.name).mkdir(parents=True)
        table.rename(tables / table.parent.name / table.name)
    videos, _ = read_all([tmp_path / "docs"], Wanted(), [tables])
    assert [video.path.parent.name for video in videos] == ["anna", "ben"]
    assert [video.source.path.parent for video in videos] == [tables / "anna", tables / "ben"]


def test_all_broken_documents_are_named_at_once_or_left_out(tmp_path: Path) -> None:
    corpus(tmp_path, 4)
    (tmp_path / "sentence 001.eaf").write_text("<x/>", encoding="utf-8")
    (tmp_path / "sentence 002.csv").unlink()
    error = fails("FYC-E02", [tmp_path], Wanted())
    assert "2 of 4" in error.what
    assert "sentence 001.eaf" in error.why
    assert "sentence 002.eaf" in error.why
    assert "--skip-broken" in error.next
    error = fails("FYC-E09", [tmp_path / "sentence 000.eaf", tmp_path / "sentence 003.eaf"], Wanted("no such"))
    assert error.why.count("no tier 'no such'") == 1  # what is wrong with all of them is said once
    assert "its tiers: " in error.why
    assert error.why.endswith(f"{tmp_path / 'sentence 000.eaf'}, {tmp_path / 'sentence 003.eaf'}")
    videos, left = read_all([tmp_path], Wanted(), skip=True)
    assert [video.path.stem for video in videos] == ["sentence 000", "sentence 003"]
    assert [one.code for one in left] == ["FYC-E02", "FYC-V01"]
    fails("FYC-E01", [tmp_path / "none.eaf"], Wanted(), skip=True)
    (tmp_path / "empty").mkdir()
    assert "no .eaf file" in fails("FYC-E01", [tmp_path / "empty"], Wanted()).what


def test_missing_media_and_table(tmp_path: Path) -> None:
    eaf = annotate(tmp_path, 0)
    eaf.with_suffix(".csv").unlink()
    error = fails("FYC-V01", [eaf], Wanted())
    assert error.where == str(eaf)
    assert "sentence 000.mp4" in error.why
    eaf.with_suffix(".mp4").write_text("no video", encoding="utf-8")
    assert fails("FYC-V02", [eaf], Wanted()).where.endswith(".mp4")


def test_a_damaged_table_is_no_reason_to_measure_again(tmp_path: Path) -> None:
    eaf = annotate(tmp_path, 0)
    table = eaf.with_suffix(".csv")
    table.write_text(table.read_text(encoding="utf-8").replace(",", ";"), encoding="utf-8")
    assert fails("FYC-E08", [eaf], Wanted()).where == str(table)


def test_where_tables_are_found(tmp_path: Path) -> None:
    """In the folder that is given, else the linked one, else the one beside; others are passed over."""
    eaf = annotate(tmp_path / "a", 0)
    other, _ = sentence(("topic", "statement"), 7)
    for folder in ("given", "linked"):
        (tmp_path / folder).mkdir()
    given, linked = tmp_path / "given" / "sentence 000.csv", tmp_path / "linked" / "x.csv"
    write_csv(analysis_of(other, eaf), [], EVENT_LABELS, given)
    shutil.copy(given, linked)
    foreign = tmp_path / "gaze.csv"
    foreign.write_text("time,gaze\n0,up\n", encoding="utf-8")

    def link(document: Document) -> Document:
        return replace(document, linked=(LinkedFile(foreign), LinkedFile(linked, time_origin_ms=200)))

    assert read_annotated(eaf, Wanted()).source.path == eaf.with_suffix(".csv")
    annotate(tmp_path / "a", 0, change=link)
    found = read_annotated(eaf, Wanted())
    assert (found.source.path, found.source.origin_s) == (linked, 0.2)
    assert read_annotated(eaf, Wanted(), [tmp_path / "a", tmp_path / "given"]).source.path == eaf.with_suffix(".csv")
    assert read_annotated(eaf, Wanted(), [tmp_path / "linked", tmp_path / "given"]).source.path == given
    foreign.rename(given)
    assert fails("FYC-E08", [eaf], Wanted(), [tmp_path / "given"]).where == str(given)


def test_one_table_for_two_documents_is_refused(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        annotate(tmp_path / folder, 0)
    assert len(read_all([tmp_path / "a", tmp_path / "b", tmp_path / "a"], Wanted())[0]) == 2
    assert "'sentence 000'" in fails("FYC-R09", [tmp_path / "a", tmp_path / "b"], Wanted(), [tmp_path / "a"]).what


def test_a_moved_corpus(tmp_path: Path) -> None:
    corpus(tmp_path / "old", 2)
    shutil.move(tmp_path / "old", tmp_path / "new é")
    videos, _ = read_all([tmp_path / "new é"], Wanted())
    assert {video.source.path.parent for video in videos} == {tmp_path / "new é"}


def test_event_tiers_that_some_documents_lack_are_not_learned_from(tmp_path: Path) -> None:
    both = {"brows": TIERS["brows"], "Head Yaw": ["head-shake"]}
    first = annotate(tmp_path, 1, events=both)
    second = annotate(tmp_path, 2, events={"brows": TIERS["brows"]})
    found = taught(read_all([first, second], Wanted())[0])
    assert "'Head Yaw' is in 1 of 2 documents" in found.notes[0]
    assert set(found.event_tiers.values()) == {"brows"}
    assert set(taught(read_all([first], Wanted())[0]).event_tiers.values()) == {"brows", "Head Yaw"}
    assert taught(read_all([second, first], Wanted(events=("brows",)))[0]).notes == ()


def test_the_same_label_in_two_tiers_is_two_classes(tmp_path: Path) -> None:
    def rename(document: Document) -> Document:
        parts = [Segment(0.1, 0.6, "up"), Segment(1, 1.5, "x{}")]
        return replace(document, tiers=(document.tiers[0], tier("brow", parts), tier("gaze", parts[:1])))

    eaf = annotate(tmp_path, 0, change=rename)
    found = taught(read_all([eaf], Wanted(events=("brow", "gaze")))[0])
    assert found.event_tiers == {"brow: up": "brow", "x{}": "brow", "gaze: up": "gaze"}
    assert sorted(part.label for part in found.examples[0].events) == ["brow: up", "gaze: up", "x{}"]


def test_who_signs(tmp_path: Path) -> None:
    eafs = [annotate(tmp_path, seed, signer=who) for seed, who in enumerate(("Anna", "Anna ", "", ""))]
    found = taught(read_all(eafs, Wanted())[0])
    signers = [example.signer for example in found.examples]
    assert signers[0] == signers[1] == "Anna"
    assert len(set(signers)) == 3
    assert not found.signers_known
    assert taught(read_all(eafs[:2], Wanted())[0]).signers_known


def test_doubtful_frames_are_not_known(tmp_path: Path) -> None:
    eaf = annotate(tmp_path, 0)
    measures, _ = sentence(("wh-question",), 0)
    confidence = np.where(np.arange(len(measures)) < 10, 0.4, 0.9)
    doubtful = Measures.from_table(measures.time_s, confidence, measures.table)
    write_csv(analysis_of(doubtful, eaf), [], EVENT_LABELS, eaf.with_suffix(".csv"))
    (example,) = taught(read_all([eaf], Wanted())[0]).examples
    assert np.isnan(example.measures.table[:10]).all()
    assert np.isfinite(example.measures.table[10:]).all()


def test_synthetic_documents_say_so(tmp_path: Path) -> None:
    def mark(document: Document) -> Document:
        words = Vocabulary("v", (("negation", SYNTHETIC), ("wh-question", SYNTHETIC)))
        return with_tier(replace(document, vocabularies=(words,)), MARKER_TIER, vocabulary="v")

    assert taught([read_annotated(annotate(tmp_path, 0, change=mark), Wanted())]).synthetic
    assert not taught([read_annotated(annotate(tmp_path, 0), Wanted())]).synthetic


def test_annotations_after_the_end_are_told(tmp_path: Path) -> None:
    def late(document: Document) -> Document:
        return with_tier(document, MARKER_TIER, annotations=(Annotation(100, 90_000, "topic"),))

    video = read_annotated(annotate(tmp_path, 0, change=late), Wanted())
    assert "until 90.0 s" in beyond(video, read_csv(video.source.path))
    video = read_annotated(annotate(tmp_path, 0), Wanted())
    assert beyond(video, read_csv(video.source.path)) == ""


def test_what_fyc_wrote_itself_is_told(tmp_path: Path) -> None:
    eaf = annotate(tmp_path, 0, change=lambda document: replace(document, properties=((SEAL, EMPTY),)))
    assert "fyc wrote this" in read_annotated(eaf, Wanted()).notes[0]
    eaf.write_text(eaf.read_text(encoding="utf-8").replace("wh-question", "whq"), encoding="utf-8")
    assert read_annotated(eaf, Wanted()).notes == ()


def test_nothing_annotated(tmp_path: Path) -> None:
    def empty(document: Document) -> Document:
        return with_tier(document, MARKER_TIER, annotations=(Annotation(0, 500, " "),))

    eaf = annotate(tmp_path, 0, change=empty)
    assert "nothing is annotated" in fails("FYC-E09", [eaf], Wanted()).what
    with pytest.raises(FycError, match="nothing is annotated"):
        taught([read_annotated(eaf, Wanted())])


@pytest.mark.assets
def test_a_video_beside_a_document_that_names_none(talking: Path, tmp_path: Path) -> None:
    eaf = annotate(tmp_path, 0, change=lambda document: replace(document, media=()))
    eaf.with_suffix(".csv").unlink()
    shutil.copy(talking, eaf.with_suffix(talking.suffix))
    assert read_annotated(eaf, Wanted()).source.path == eaf.with_suffix(talking.suffix)
    moved = [Media(tmp_path / "gone" / "sound.wav", "audio/x-wav"), Media(Path("/gone/film.mov"), time_origin_ms=40)]
    eaf = annotate(tmp_path, 1, change=lambda document: replace(document, media=tuple(moved)))
    eaf.with_suffix(".csv").unlink()
    shutil.copy(talking, tmp_path / f"film{talking.suffix}")
    source = read_annotated(eaf, Wanted()).source
    assert (source.path, source.origin_s) == (tmp_path / f"film{talking.suffix}", 0.04)

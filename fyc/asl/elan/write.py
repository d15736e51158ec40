"""Writes ELAN documents in EAF 3.0, valid against its schema (http://www.mpi.nl/tools/elan/EAFv3.0.xsd).

Addresses of files are written as ELAN itself writes and reads them: `file://` and the path, without percent-encoding.
"""

from __future__ import annotations

import bisect
import datetime
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from fyc.asl.elan.document import Annotation, Document, LinkedFile, Media, Tier, clock_text, overlaps
from fyc.asl.elan.seal import sealed
from fyc.asl.files import write_whole
from fyc.errors import ElanError

_XSI = "http://www.w3.org/2001/XMLSchema-instance"
_SCHEMA = "http://www.mpi.nl/tools/elan/EAFv3.0.xsd"
_LATEST = 2**32 - 1
#: What XML 1.0 does not allow in a text.
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_MIME_TYPES = {
    ".mp4": "video/mp4", ".m4v": "video/mp4", ".mov": "video/quicktime", ".mpg": "video/mpeg", ".mpeg": "video/mpeg",
    ".wav": "audio/x-wav", ".csv": "text/csv", ".txt": "text/plain", ".xml": "text/xml",
}  # fmt: skip
#: The four stereotypes of ELAN. Only the last is used; ELAN lists all in every document.
_STEREOTYPES = {
    "Time_Subdivision": "parts that fill the parent without gaps, each with its own times",
    "Symbolic_Subdivision": "parts of the parent in an order, without times",
    "Symbolic_Association": "one annotation for each of the parent",
    "Included_In": "annotations with times of their own within the parent; gaps are allowed",
}


def write_eaf(document: Document, path: str | Path) -> None:
    """Write an ELAN document; the file is there whole or not at all.

    Every tier is time-aligned; one with a parent lies within its annotations (stereotype Included_In). Labels that the
    tier's vocabulary has refer to its entry. `document.problems` is not written. An empty seal among the properties is
    closed (see `fyc.asl.elan.seal`).

    Raises:
        ElanError: FYC-E04 if ELAN could not hold the annotations (see docs/errors.md), FYC-E05 if the file cannot be
            written.
        ResourceError: FYC-S01 if the disk is full.
    """
    target = Path(path)
    _check(document, target)
    root = Element("ANNOTATION_DOCUMENT", {
        "AUTHOR": "fyc", "DATE": datetime.datetime.now().astimezone().isoformat(timespec="seconds"), "FORMAT": "3.0",
        "VERSION": "3.0", "xmlns:xsi": _XSI, "xsi:noNamespaceSchemaLocation": _SCHEMA,
    })  # fmt: skip
    total = sum(len(tier.annotations) for tier in document.tiers)
    _add_header(root, document, target, total)
    slots = _add_time_order(root, document.tiers)
    entries = {
        (vocabulary.name, label): f"cve{index}"
        for vocabulary in document.vocabularies
        for index, (label, _) in enumerate(vocabulary.labels)
    }
    numbers = count(1)
    for tier in document.tiers:
        _add_tier(root, tier, slots, entries, numbers)
    _add_types(root, document.tiers)
    SubElement(root, "LOCALE", {"LANGUAGE_CODE": "en", "COUNTRY_CODE": "US"})
    SubElement(root, "LANGUAGE", {
        "LANG_ID": "und", "LANG_DEF": "http://cdb.iso.org/lg/CDB-00130975-001", "LANG_LABEL": "undetermined (und)",
    })  # fmt: skip
    for stereotype, text in _STEREOTYPES.items():
        SubElement(root, "CONSTRAINT", {"STEREOTYPE": stereotype, "DESCRIPTION": text})
    _add_vocabularies(root, document, entries)
    write_whole(target, sealed(to_bytes(root)))


def to_bytes(root: Element) -> bytes:
    """XML as it is stored: UTF-8, indented, one newline at the end."""
    ElementTree.indent(root, "    ")
    content: bytes = ElementTree.tostring(root, encoding="UTF-8", xml_declaration=True)
    return content + b"\n"


def file_url(path: Path) -> str:
    """The address of a file as ELAN writes it."""
    text = path.absolute().as_posix()
    return f"file:///{text.lstrip('/')}"


def _add_header(root: Element, document: Document, target: Path, total: int) -> None:
    header = SubElement(root, "HEADER", {"MEDIA_FILE": "", "TIME_UNITS": "milliseconds"})
    for media in document.media:
        SubElement(header, "MEDIA_DESCRIPTOR", _descriptor(media, target, "MEDIA_URL", "RELATIVE_MEDIA_URL"))
    for linked in document.linked:
        SubElement(header, "LINKED_FILE_DESCRIPTOR", _descriptor(linked, target, "LINK_URL", "RELATIVE_LINK_URL"))
    for name, text in [("lastUsedAnnotationId", str(total)), *document.properties]:
        SubElement(header, "PROPERTY", {"NAME": name}).text = text


def _descriptor(file: Media | LinkedFile, target: Path, url: str, relative: str) -> dict[str, str]:
    attributes = {url: file_url(file.path)}
    if way := _relative(file.path, target):
        attributes[relative] = way
    unknown = "video/*" if isinstance(file, Media) else "unknown"
    attributes["MIME_TYPE"] = file.mime_type or _MIME_TYPES.get(file.path.suffix.lower(), unknown)
    if file.time_origin_ms:
        attributes["TIME_ORIGIN"] = str(file.time_origin_ms)
    return attributes


def _relative(path: Path, target: Path) -> str:
    """The way from the document's folder to the file; empty if there is none, as between two drives of Windows."""
    try:
        way = Path(os.path.relpath(path.absolute(), target.absolute().parent)).as_posix()
    except ValueError:
        return ""
    return way if way.startswith("../") else f"./{way}"


def _ends(tier: Tier) -> Iterator[tuple[int, str, int, int]]:
    for index, annotation in enumerate(tier.annotations):
        yield annotation.start_ms, tier.name, index, 0
        yield annotation.end_ms, tier.name, index, 1


def _add_time_order(root: Element, tiers: Sequence[Tier]) -> dict[tuple[str, int, int], str]:
    """Write a time slot for both ends of every annotation, in the order of time; the slot's name for each end."""
    order = SubElement(root, "TIME_ORDER")
    slots = {}
    for number, (time, name, index, side) in enumerate(sorted(end for tier in tiers for end in _ends(tier)), 1):
        slots[name, index, side] = f"ts{number}"
        SubElement(order, "TIME_SLOT", {"TIME_SLOT_ID": f"ts{number}", "TIME_VALUE": str(time)})
    return slots


def _add_tier(
    root: Element,
    tier: Tier,
    slots: dict[tuple[str, int, int], str],
    entries: dict[tuple[str, str], str],
    numbers: Iterator[int],
) -> None:
    attributes = {"TIER_ID": tier.name, "LINGUISTIC_TYPE_REF": _type_name(tier)}
    if tier.parent:
        attributes["PARENT_REF"] = tier.parent
    if tier.participant:
        attributes["PARTICIPANT"] = tier.participant
    element = SubElement(root, "TIER", attributes)
    for index, annotation in enumerate(tier.annotations):
        entry = entries.get((tier.vocabulary or "", annotation.value))
        item = SubElement(SubElement(element, "ANNOTATION"), "ALIGNABLE_ANNOTATION", {
            "ANNOTATION_ID": f"a{next(numbers)}",
            **({"CVE_REF": entry} if entry else {}),
            "TIME_SLOT_REF1": slots[tier.name, index, 0],
            "TIME_SLOT_REF2": slots[tier.name, index, 1],
        })  # fmt: skip
        SubElement(item, "ANNOTATION_VALUE").text = annotation.value


def _type_name(tier: Tier) -> str:
    return f"{tier.vocabulary or 'text'}{' within parent' if tier.parent else ''}"


def _add_types(root: Element, tiers: Sequence[Tier]) -> None:
    """One linguistic type for every vocabulary, and one more for its tiers that have a parent."""
    for name, tier in {_type_name(tier): tier for tier in tiers}.items():
        attributes = {"LINGUISTIC_TYPE_ID": name, "TIME_ALIGNABLE": "true", "GRAPHIC_REFERENCES": "false"}
        if tier.parent:
            attributes["CONSTRAINTS"] = "Included_In"
        if tier.vocabulary:
            attributes["CONTROLLED_VOCABULARY_REF"] = tier.vocabulary
        SubElement(root, "LINGUISTIC_TYPE", attributes)


def _add_vocabularies(root: Element, document: Document, entries: dict[tuple[str, str], str]) -> None:
    for vocabulary in document.vocabularies:
        element = SubElement(root, "CONTROLLED_VOCABULARY", {"CV_ID": vocabulary.name})
        SubElement(element, "DESCRIPTION", {"LANG_REF": "und"})
        for label, description in vocabulary.labels:
            entry = SubElement(element, "CV_ENTRY_ML", {"CVE_ID": entries[vocabulary.name, label]})
            SubElement(entry, "CVE_VALUE", {"LANG_REF": "und", "DESCRIPTION": description}).text = label


# What an ELAN document cannot hold.


def _check(document: Document, target: Path) -> None:
    _check_names(document, target)
    by_name = {tier.name: tier for tier in document.tiers}
    for tier in document.tiers:
        _check_ancestors(tier, by_name, target)
        for annotation in tier.annotations:
            _check_annotation(annotation, tier, target)
        for first, second in overlaps(tier):
            why = f"{first.value!r} lasts until {clock_text(first.end_ms)}"
            raise _impossible("two annotations of a tier overlap", _place(target, tier, second), why)
    for tier in document.tiers:
        if tier.parent:
            _check_inside(tier, by_name[tier.parent], target)


def _check_names(document: Document, target: Path) -> None:
    vocabularies = [vocabulary.name for vocabulary in document.vocabularies]
    labels = [f"{v.name}: {label}" for v in document.vocabularies for label, _ in v.labels]
    for kind, names in (
        ("tier", [tier.name for tier in document.tiers]), ("vocabulary", vocabularies), ("label", labels),
    ):  # fmt: skip
        twice = [name for name, times in Counter(names).items() if times > 1 or not name.strip()]
        if twice:
            raise _impossible(f"the name of a {kind} is used twice, or is empty", str(target), repr(twice[0]))
    texts = [text for tier in document.tiers for text in (tier.name, tier.participant)]
    texts += [text for v in document.vocabularies for entry in v.labels for text in (v.name, *entry)]
    files: list[Media | LinkedFile] = [*document.media, *document.linked]
    texts += [text for file in files for text in (str(file.path), file.mime_type)]
    texts += [text for entry in document.properties for text in entry]
    for text in texts:
        _check_text(text, str(target))
    for tier in document.tiers:
        if tier.vocabulary is not None and tier.vocabulary not in vocabularies:
            why = f"it names {tier.vocabulary!r}"
            raise _impossible("a tier's vocabulary is not in the document", f"{target}, tier {tier.name!r}", why)


def _check_ancestors(tier: Tier, by_name: dict[str, Tier], target: Path) -> None:
    seen = {tier.name}
    current = tier
    while current.parent:
        if current.parent not in by_name or current.parent in seen:
            why = f"its parent is {current.parent!r}"
            what = "a tier's parent is not in the document, or is its own child"
            raise _impossible(what, f"{target}, tier {current.name!r}", why)
        seen.add(current.parent)
        current = by_name[current.parent]


def _check_annotation(annotation: Annotation, tier: Tier, target: Path) -> None:
    if not 0 <= annotation.start_ms < annotation.end_ms <= _LATEST:
        why = f"from {annotation.start_ms} to {annotation.end_ms} ms"
        raise _impossible(
            "an annotation must end after it begins, and not begin before zero", _place(target, tier, annotation), why
        )
    _check_text(annotation.value, _place(target, tier, annotation))


def _check_inside(tier: Tier, parent: Tier, target: Path) -> None:
    outer = sorted((p.start_ms, p.end_ms) for p in parent.annotations)  # they do not overlap
    for annotation in tier.annotations:
        place = bisect.bisect(outer, (annotation.start_ms, _LATEST))
        if place == 0 or annotation.end_ms > outer[place - 1][1]:
            what = f"an annotation lies within none of its parent tier {parent.name!r}"
            raise _impossible(what, _place(target, tier, annotation), f"it ends at {clock_text(annotation.end_ms)}")


def _check_text(text: str, where: str) -> None:
    found = _NOT_XML.search(text)
    if found:
        raise _impossible("a text holds a character that XML does not allow", where, f"{found[0]!r} in {text[:40]!r}")


def _place(target: Path, tier: Tier, annotation: Annotation) -> str:
    return f"{target}, tier {tier.name!r}, {annotation.value!r} at {clock_text(annotation.start_ms)}"


def _impossible(what: str, where: str, why: str) -> ElanError:
    return ElanError("FYC-E04", what, where=where, why=why, next="correct the annotations; nothing was written")

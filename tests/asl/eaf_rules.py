"""The rules of the EAF 3.0 schema that fyc's documents touch, checked by hand: the schema itself may not be copied."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

#: Children of the root in their order.
_ORDER = [
    "LICENSE", "HEADER", "TIME_ORDER", "TIER", "LINGUISTIC_TYPE", "LOCALE", "LANGUAGE", "CONSTRAINT",
    "CONTROLLED_VOCABULARY", "LEXICON_REF", "REF_LINK_SET", "EXTERNAL_REF",
]  # fmt: skip
#: Element: (required attributes, optional ones, children in their order).
_ELEMENTS: dict[str, tuple[set[str], set[str], list[str]]] = {
    "ANNOTATION_DOCUMENT": ({"DATE", "AUTHOR", "VERSION"}, {"FORMAT"}, _ORDER),
    "HEADER": (set(), {"MEDIA_FILE", "TIME_UNITS"}, ["MEDIA_DESCRIPTOR", "LINKED_FILE_DESCRIPTOR", "PROPERTY"]),
    "MEDIA_DESCRIPTOR": ({"MEDIA_URL", "MIME_TYPE"}, {"RELATIVE_MEDIA_URL", "TIME_ORIGIN", "EXTRACTED_FROM"}, []),
    "LINKED_FILE_DESCRIPTOR": ({"LINK_URL", "MIME_TYPE"}, {"RELATIVE_LINK_URL", "TIME_ORIGIN", "ASSOCIATED_WITH"}, []),
    "PROPERTY": (set(), {"NAME"}, []),
    "TIME_ORDER": (set(), set(), ["TIME_SLOT"]),
    "TIME_SLOT": ({"TIME_SLOT_ID"}, {"TIME_VALUE"}, []),
    "TIER": (
        {"TIER_ID", "LINGUISTIC_TYPE_REF"},
        {"PARTICIPANT", "ANNOTATOR", "DEFAULT_LOCALE", "PARENT_REF", "EXT_REF", "LANG_REF"},
        ["ANNOTATION"],
    ),
    "ANNOTATION": (set(), set(), ["ALIGNABLE_ANNOTATION"]),
    "ALIGNABLE_ANNOTATION": (
        {"ANNOTATION_ID", "TIME_SLOT_REF1", "TIME_SLOT_REF2"},
        {"EXT_REF", "LANG_REF", "CVE_REF", "SVG_REF"},
        ["ANNOTATION_VALUE"],
    ),
    "ANNOTATION_VALUE": (set(), set(), []),
    "LINGUISTIC_TYPE": (
        {"LINGUISTIC_TYPE_ID"},
        {"TIME_ALIGNABLE", "CONSTRAINTS", "GRAPHIC_REFERENCES", "CONTROLLED_VOCABULARY_REF", "EXT_REF", "LEXICON_REF"},
        [],
    ),
    "LOCALE": ({"LANGUAGE_CODE"}, {"COUNTRY_CODE", "VARIANT"}, []),
    "LANGUAGE": ({"LANG_ID"}, {"LANG_DEF", "LANG_LABEL"}, []),
    "CONSTRAINT": ({"STEREOTYPE"}, {"DESCRIPTION"}, []),
    "CONTROLLED_VOCABULARY": ({"CV_ID"}, {"EXT_REF"}, ["DESCRIPTION", "CV_ENTRY_ML"]),
    "DESCRIPTION": ({"LANG_REF"}, set(), []),
    "CV_ENTRY_ML": ({"CVE_ID"}, {"EXT_REF"}, ["CVE_VALUE"]),
    "CVE_VALUE": ({"LANG_REF"}, {"DESCRIPTION"}, []),
}
#: Attributes of type xsd:ID: one namespace for the whole document.
_IDS = {"TIME_SLOT_ID", "ANNOTATION_ID", "LANGUAGE_CODE", "LANG_ID", "STEREOTYPE"}
_DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d([+-]\d\d:\d\d|Z)?")


def check(path: Path) -> None:
    """Assert that a document keeps to the schema: elements, their order and attributes, ids, references, numbers."""
    root = ElementTree.parse(path).getroot()
    assert root.tag == "ANNOTATION_DOCUMENT"
    ids: list[str] = []
    for element in root.iter():
        _check_element(element)
        ids += [value for name, value in element.attrib.items() if name in _IDS]
    assert len(ids) == len(set(ids))
    assert all(re.fullmatch(r"[A-Za-z_][\w.-]*", name, re.ASCII) for name in ids)
    assert _DATE.fullmatch(root.attrib["DATE"])
    assert (len(root.findall("HEADER")), len(root.findall("TIME_ORDER"))) == (1, 1)
    _check_references(root)
    for slot in root.iter("TIME_SLOT"):
        assert 0 <= int(slot.attrib["TIME_VALUE"]) < 2**32
    values = [int(slot.attrib["TIME_VALUE"]) for slot in root.iter("TIME_SLOT")]
    assert values == sorted(values)


def _check_element(element: ElementTree.Element) -> None:
    required, optional, children = _ELEMENTS[element.tag]
    names = {name for name in element.attrib if not name.startswith("{")}
    assert required <= names <= required | optional, (element.tag, names)
    places = [children.index(child.tag) for child in element]
    assert places == sorted(places)
    if element.tag in {"ANNOTATION", "ALIGNABLE_ANNOTATION"}:
        assert len(element) == 1
    if element.tag == "CV_ENTRY_ML":
        assert len(element) >= 1


def _check_references(root: ElementTree.Element) -> None:
    def named(tag: str, attribute: str) -> set[str]:
        found = [element.attrib[attribute] for element in root.iter(tag)]
        assert len(found) == len(set(found)), tag
        return set(found)

    def refer(tag: str, attribute: str, known: set[str]) -> None:
        assert {element.attrib[attribute] for element in root.iter(tag) if attribute in element.attrib} <= known

    slots = named("TIME_SLOT", "TIME_SLOT_ID")
    refer("ALIGNABLE_ANNOTATION", "TIME_SLOT_REF1", slots)
    refer("ALIGNABLE_ANNOTATION", "TIME_SLOT_REF2", slots)
    refer("TIER", "PARENT_REF", named("TIER", "TIER_ID"))
    refer("TIER", "LINGUISTIC_TYPE_REF", named("LINGUISTIC_TYPE", "LINGUISTIC_TYPE_ID"))
    refer("LINGUISTIC_TYPE", "CONSTRAINTS", named("CONSTRAINT", "STEREOTYPE"))
    refer("LINGUISTIC_TYPE", "CONTROLLED_VOCABULARY_REF", named("CONTROLLED_VOCABULARY", "CV_ID"))
    languages = named("LANGUAGE", "LANG_ID")
    refer("CVE_VALUE", "LANG_REF", languages)
    refer("DESCRIPTION", "LANG_REF", languages)
    types = {element.attrib["LINGUISTIC_TYPE_ID"]: element for element in root.iter("LINGUISTIC_TYPE")}
    for tier in root.iter("TIER"):
        kind = types[tier.attrib["LINGUISTIC_TYPE_REF"]]
        assert ("PARENT_REF" in tier.attrib) == ("CONSTRAINTS" in kind.attrib)
        _check_entries(root, tier, kind.get("CONTROLLED_VOCABULARY_REF"))


def _check_entries(root: ElementTree.Element, tier: ElementTree.Element, vocabulary: str | None) -> None:
    """A reference to an entry is to one of the tier's vocabulary, with the same text."""
    labels = {
        entry.attrib["CVE_ID"]: entry.findtext("CVE_VALUE") or ""
        for element in root.iter("CONTROLLED_VOCABULARY")
        if element.attrib["CV_ID"] == vocabulary
        for entry in element.iter("CV_ENTRY_ML")
    }
    for annotation in tier.iter("ALIGNABLE_ANNOTATION"):
        if "CVE_REF" in annotation.attrib:
            assert labels[annotation.attrib["CVE_REF"]] == annotation.findtext("ANNOTATION_VALUE")

"""Reads ELAN documents, EAF 2.7 to 3.0: every annotation gets times, also those that only refer to others.

Rules of the format: its schema (http://www.mpi.nl/tools/elan/EAFv3.0.xsd) and the guide "ELAN Annotation Format" of the
Max Planck Institute for Psycholinguistics. Times that are not stored are computed as ELAN shows them:

- a time slot without a value lies in a chain of annotations that share slots (time subdivision): those between two
  slots with values are spread evenly;
- a reference annotation has the time of its parent (symbolic association), or an equal part of it (symbolic
  subdivision), in the order that PREVIOUS_ANNOTATION gives.
"""

from __future__ import annotations

import bisect
import re
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote
from xml.etree.ElementTree import Element

from fyc.asl.elan.document import Annotation, Document, LinkedFile, Media, Tier, Vocabulary, clock_text, overlaps
from fyc.asl.elan.xml import not_eaf, parse_xml

#: TIME_VALUE is an unsigned int of 32 bits.
_LATEST = 2**32 - 1


@dataclass(frozen=True)
class _Alignable:
    """An annotation with two time slots."""

    id: str
    value: str
    first_slot: str
    last_slot: str


@dataclass(frozen=True)
class _Reference:
    """An annotation that has its time from another."""

    id: str
    value: str
    parent: str
    previous: str


@dataclass
class _RawTier:
    """A tier as it is stored."""

    name: str
    parent: str | None
    participant: str
    divides: bool
    vocabulary: str | None
    alignable: list[_Alignable] = field(default_factory=list)
    references: list[_Reference] = field(default_factory=list)


def read_eaf(path: str | Path) -> Document:
    """Read an ELAN document.

    What is wrong with single annotations (no times, a reference to nothing, an end before the start, an overlap within
    a tier) is said in `Document.problems`; those without times are left out. Spaces around names and numbers do not
    count. Elements of foreign namespaces are skipped.

    Raises:
        ElanError: FYC-E01 not readable, FYC-E02 damaged or no ELAN document, FYC-E03 it defines entities.
    """
    file = Path(path)
    root = parse_xml(file)
    if root.tag != "ANNOTATION_DOCUMENT":
        raise not_eaf(str(file), f"its root is <{root.tag}>, not <ANNOTATION_DOCUMENT>")
    tiers = _raw_tiers(root, file)
    times = _Times(root, file)
    for tier in _parents_first(tiers, file):
        times.add(tier)
    finished = tuple(times.finished(tier) for tier in tiers)
    return Document(
        media=tuple(_media(item, file) for item in root.iterfind("HEADER/MEDIA_DESCRIPTOR")),
        tiers=finished,
        vocabularies=tuple(_vocabulary(item) for item in root.iterfind("CONTROLLED_VOCABULARY")),
        linked=tuple(_linked(item, file) for item in root.iterfind("HEADER/LINKED_FILE_DESCRIPTOR")),
        properties=properties(root),
        problems=(*times.problems, *(problem for tier in finished for problem in _overlap_problems(tier))),
    )


def properties(root: Element) -> tuple[tuple[str, str], ...]:
    """Names and texts of a document's properties, but for ELAN's own count of annotations."""
    found = [(_attribute(item, "NAME"), item.text or "") for item in root.iterfind("HEADER/PROPERTY")]
    return tuple((name, text) for name, text in found if name != "lastUsedAnnotationId")


def _overlap_problems(tier: Tier) -> list[str]:
    return [f"tier {tier.name!r}: {_shown(first)} overlaps {_shown(second)}" for first, second in overlaps(tier)]


def _shown(annotation: Annotation) -> str:
    return f"{annotation.value!r} ({clock_text(annotation.start_ms)} to {clock_text(annotation.end_ms)})"


def _attribute(element: Element, name: str) -> str:
    return element.get(name, "").strip()


def _integer(text: str, where: str, what: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise not_eaf(where, f"{what} is {text[:40]!r}, which is no whole number") from None


def _raw_tiers(root: Element, file: Path) -> list[_RawTier]:
    types = {_attribute(item, "LINGUISTIC_TYPE_ID"): item for item in root.iterfind("LINGUISTIC_TYPE")}
    tiers: dict[str, _RawTier] = {}
    for element in root.iterfind("TIER"):
        name = _attribute(element, "TIER_ID")
        if not name or name in tiers:
            raise not_eaf(str(file), f"two tiers are named {name!r}" if name else "a tier has no name")
        kind = types.get(_attribute(element, "LINGUISTIC_TYPE_REF"), element)
        tiers[name] = _RawTier(
            name=name,
            parent=_attribute(element, "PARENT_REF") or None,
            participant=_attribute(element, "PARTICIPANT"),
            divides=_attribute(kind, "CONSTRAINTS") == "Symbolic_Subdivision",
            vocabulary=_attribute(kind, "CONTROLLED_VOCABULARY_REF") or None,
        )
        _fill(tiers[name], element)
    return list(tiers.values())


def _fill(tier: _RawTier, element: Element) -> None:
    for item in element.iterfind("ANNOTATION/*"):
        value = item.findtext("ANNOTATION_VALUE", "")
        name = _attribute(item, "ANNOTATION_ID")
        if item.tag == "ALIGNABLE_ANNOTATION":
            slots = _attribute(item, "TIME_SLOT_REF1"), _attribute(item, "TIME_SLOT_REF2")
            tier.alignable.append(_Alignable(name, value, *slots))
        elif item.tag == "REF_ANNOTATION":
            references = _attribute(item, "ANNOTATION_REF"), _attribute(item, "PREVIOUS_ANNOTATION")
            tier.references.append(_Reference(name, value, *references))


def _parents_first(tiers: list[_RawTier], file: Path) -> list[_RawTier]:
    """The tiers, each after the one that it depends on."""
    by_name = {tier.name: tier for tier in tiers}
    done: dict[str, _RawTier] = {}
    for tier in tiers:
        path: dict[str, _RawTier] = {}
        current: _RawTier | None = tier
        while current is not None and current.name not in done:
            if current.name in path:
                raise not_eaf(str(file), f"the tier {current.name!r} is its own ancestor")
            path[current.name] = current
            current = by_name.get(current.parent) if current.parent else None
        done |= dict(reversed(path.items()))
    return list(done.values())


class _Times:
    """Finds the times of annotations, tier by tier, parents first."""

    def __init__(self, root: Element, file: Path) -> None:
        self.problems: list[str] = []
        self._slots: dict[str, float] = {}
        self._order: dict[str, int] = {}
        self._of_annotation: dict[str, tuple[float, float]] = {}
        for index, slot in enumerate(root.iterfind("TIME_ORDER/TIME_SLOT")):
            name, value = _attribute(slot, "TIME_SLOT_ID"), _attribute(slot, "TIME_VALUE")
            self._order[name] = index
            if value:
                time = _integer(value, str(file), f"the time of slot {name!r}")
                if not 0 <= time <= _LATEST:
                    raise not_eaf(str(file), f"the time of slot {name!r} is {time}")
                self._slots[name] = time
        self._stored = sorted((self._order[name], time) for name, time in self._slots.items())

    def add(self, tier: _RawTier) -> None:
        """Find the times of a tier whose parent is done."""
        self._spread(tier)
        for item in tier.alignable:
            start, end = self._time_of(item.first_slot), self._time_of(item.last_slot)
            if start is not None and end is not None:
                self._of_annotation[item.id] = start, end
        groups: dict[str, list[_Reference]] = defaultdict(list)
        for reference in tier.references:
            groups[reference.parent].append(reference)
        for parent, group in groups.items():
            if parent in self._of_annotation:
                self._share(tier, self._of_annotation[parent], _in_order(group))

    def finished(self, tier: _RawTier) -> Tier:
        """The tier with times; what has none is told and left out."""
        annotations = []
        items: list[_Alignable | _Reference] = [*tier.alignable, *tier.references]
        for item in items:
            times = self._of_annotation.get(item.id)
            if times is None:
                self.problems.append(f"tier {tier.name!r}: {item.value!r} ({item.id}) has no time")
            elif times[0] > times[1]:
                order = f"{clock_text(round(times[0]))} to {clock_text(round(times[1]))}"
                self.problems.append(f"tier {tier.name!r}: {item.value!r} ends before it begins ({order})")
            else:
                annotations.append(Annotation(round(times[0]), round(times[1]), item.value))
        annotations.sort(key=lambda item: (item.start_ms, item.end_ms))
        return Tier(tier.name, tuple(annotations), tier.parent, tier.participant, tier.vocabulary)

    def _spread(self, tier: _RawTier) -> None:
        """Give even times to the slots without values between two with values in a chain of annotations."""
        following = {item.first_slot: item.last_slot for item in tier.alignable}
        for first in [slot for slot in following if slot in self._slots and following[slot] not in self._slots]:
            chain = [first]
            while chain[-1] in following and (len(chain) == 1 or chain[-1] not in self._slots):
                chain.append(following[chain[-1]])
                if len(chain) > len(following) + 1:  # the chain runs in a circle
                    break
            last = chain[-1]
            if last in self._slots and len(chain) <= len(following) + 1:
                start, end = self._slots[first], self._slots[last]
                for index, slot in enumerate(chain[1:-1], 1):
                    self._slots[slot] = start + (end - start) * index / (len(chain) - 1)

    def _time_of(self, slot: str) -> float | None:
        """The time of a slot; for one outside of any chain, between its neighbours in TIME_ORDER."""
        if slot in self._slots:
            return self._slots[slot]
        if slot not in self._order:
            return None
        index = self._order[slot]
        place = bisect.bisect(self._stored, (index, 0.0))
        if place == 0:
            return None
        low, start = self._stored[place - 1]
        high, end = self._stored[place] if place < len(self._stored) else (index, start)
        return start + (end - start) * (index - low) / (high - low)

    def _share(self, tier: _RawTier, parent: tuple[float, float], group: list[_Reference]) -> None:
        """Give reference annotations their parent's time: all of it, or equal parts."""
        start, end = parent
        step = (end - start) / len(group)
        for index, item in enumerate(group):
            part = (start + index * step, start + (index + 1) * step)
            self._of_annotation[item.id] = part if tier.divides else parent


def _in_order(group: list[_Reference]) -> list[_Reference]:
    """Annotations of one parent in the order of PREVIOUS_ANNOTATION; what is not linked stays where it is stored."""
    names = {item.id for item in group}
    after: dict[str, list[_Reference]] = defaultdict(list)
    for item in group:
        after[item.previous if item.previous in names and item.previous != item.id else ""].append(item)
    ordered: list[_Reference] = []
    waiting = after.pop("", [])[::-1]
    while waiting:
        ordered.append(waiting.pop())
        waiting += after.pop(ordered[-1].id, [])[::-1]
    return ordered + [item for rest in after.values() for item in rest]


def _vocabulary(element: Element) -> Vocabulary:
    """Entries of EAF 2.8 and 3.0 (CV_ENTRY_ML, in the first of its languages) or of 2.7 (CV_ENTRY)."""
    labels = []
    for entry in element.iterfind("*"):
        value = entry.find("CVE_VALUE") if entry.tag == "CV_ENTRY_ML" else entry
        if entry.tag in {"CV_ENTRY_ML", "CV_ENTRY"} and value is not None:
            labels.append(((value.text or "").strip(), value.get("DESCRIPTION", "")))
    return Vocabulary(_attribute(element, "CV_ID"), tuple(labels))


def _media(element: Element, file: Path) -> Media:
    path = _located(_attribute(element, "MEDIA_URL"), _attribute(element, "RELATIVE_MEDIA_URL"), file)
    return Media(path, _attribute(element, "MIME_TYPE"), _origin(element, file))


def _linked(element: Element, file: Path) -> LinkedFile:
    path = _located(_attribute(element, "LINK_URL"), _attribute(element, "RELATIVE_LINK_URL"), file)
    return LinkedFile(path, _attribute(element, "MIME_TYPE"), _origin(element, file))


def _origin(element: Element, file: Path) -> int:
    return _integer(_attribute(element, "TIME_ORIGIN") or "0", str(file), "a TIME_ORIGIN")


def _located(url: str, relative: str, file: Path) -> Path:
    """The file that a descriptor means: as stored, else beside the document, as ELAN looks for it."""
    absolute = re.sub(r"^file:/*", "/", url)
    absolute = re.sub(r"^/(?=[A-Za-z]:)", "", absolute)
    beside = relative or absolute.rpartition("/")[2]
    texts = [absolute, unquote(absolute)]
    texts += [str(file.parent / beside), str(file.parent / unquote(beside)), str(file.parent / Path(absolute).name)]
    candidates = [Path(text) for text in texts]
    return next((path for path in candidates if path.is_file()), candidates[0])

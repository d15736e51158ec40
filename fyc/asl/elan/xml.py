"""Parses XML of unknown origin, and writes files so that they are whole or not there."""

from __future__ import annotations

from pathlib import Path
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from fyc.errors import ElanError

#: EAF nests five deep; what is much deeper is made to exhaust something.
_DEEPEST = 50


class _Refused(Exception):
    """Raised within a parser's callback."""


def parse_xml(path: Path) -> Element:
    """The root element of an XML file. Names lose the namespace of the root; elements of others are left out.

    Document type definitions are refused: ELAN writes none, and entities are how XML attacks its reader.

    Raises:
        ElanError: FYC-E01 not readable, FYC-E02 not well-formed, FYC-E03 a document type definition.
    """
    content = _read(path)
    builder = _Builder()
    parser = expat.ParserCreate(namespace_separator="}")
    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = builder.doctype
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.text
    try:
        parser.Parse(content, True)
    except _Refused as error:
        place = f"{path}:{parser.CurrentLineNumber}:{parser.CurrentColumnNumber + 1}"
        raise ElanError(
            "FYC-E03", "the ELAN document is refused", where=place, why=str(error),
            next="get the file again from where it was made; remove the <!DOCTYPE> only if you trust it",
        ) from None  # fmt: skip
    except (expat.ExpatError, LookupError, ValueError) as error:
        place = f"{path}:{parser.CurrentLineNumber}:{parser.CurrentColumnNumber + 1}"
        raise not_eaf(place, f"it is no XML that can be read: {str(error).split(':')[0]}") from error
    return builder.close()


def not_eaf(where: str, why: str) -> ElanError:
    """The FYC-E02 for a file that cannot be understood."""
    advice = "open and save it in ELAN, or take ELAN's backup (.001)"
    return ElanError("FYC-E02", "the file is damaged, or is no ELAN document", where=where, why=why, next=advice)


def _read(path: Path) -> bytes:
    if not path.exists():
        raise ElanError("FYC-E01", "the ELAN document cannot be found", where=str(path), next="check the path")
    try:
        content = path.read_bytes()
    except OSError as error:
        why = error.strerror or str(error)
        advice = "give one .eaf file that you may read"
        raise ElanError(
            "FYC-E01", "the ELAN document cannot be opened", where=str(path), why=why, next=advice
        ) from error
    if not content.strip():
        raise not_eaf(str(path), "it is empty")
    return content


class _Builder:
    """Callbacks for expat that build a tree."""

    def __init__(self) -> None:
        self._tree = TreeBuilder()
        self._namespace: str | None = None
        self._depth = 0
        self._skipped = 0

    def doctype(self, name: str, *_: object) -> None:
        raise _Refused(f"it has a document type definition, <!DOCTYPE {name}>, which ELAN never writes")

    def start(self, name: str, attributes: dict[str, str]) -> None:
        namespace, _, local = name.rpartition("}")
        if self._namespace is None:
            self._namespace = namespace
        self._depth += 1
        if self._depth > _DEEPEST:
            raise ValueError(f"its elements are nested more than {_DEEPEST} deep")
        if self._skipped or namespace != self._namespace:
            self._skipped += 1
            return
        self._tree.start(local, {key: value for key, value in attributes.items() if "}" not in key})

    def end(self, name: str) -> None:
        self._depth -= 1
        if self._skipped:
            self._skipped -= 1
        else:
            self._tree.end(name.rpartition("}")[2])

    def text(self, data: str) -> None:
        if not self._skipped:
            self._tree.data(data)

    def close(self) -> Element:
        return self._tree.close()

"""What a document says of how it was made: from which video, with what settings, by which fyc."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from fyc.asl.elan.read import properties
from fyc.asl.elan.seal import EMPTY, SEAL
from fyc.asl.elan.xml import parse_xml
from fyc.asl.video.container import require_file
from fyc.errors import VideoError

_PART = 1 << 20
_VIDEO, _SETTINGS, _FYC = "fyc:video", "fyc:settings", "fyc:version"


@dataclass(frozen=True)
class Record:
    """How a document was made.

    Attributes:
        video: fingerprint of the video; empty if it is not known, as in a document of somebody else.
        settings: what the results depend on, in words.
        fyc: version of fyc.
    """

    video: str
    settings: str
    fyc: str

    @classmethod
    def of(cls, video: Path, settings: str) -> Record:
        """Of a run that begins now.

        Raises:
            VideoError: FYC-V01 if the video cannot be read.
        """
        return cls(fingerprint(video), settings, version("fyc"))

    @classmethod
    def read(cls, eaf: Path) -> Record:
        """Of a document.

        Raises:
            ElanError: if it cannot be read.
        """
        found = dict(properties(parse_xml(eaf)))
        return cls(found.get(_VIDEO, ""), found.get(_SETTINGS, ""), found.get(_FYC, ""))

    @property
    def properties(self) -> tuple[tuple[str, str], ...]:
        """As `Document.properties`, with a seal that is still open."""
        return (_VIDEO, self.video), (_SETTINGS, self.settings), (_FYC, self.fyc), (SEAL, EMPTY)

    def difference(self, now: Record) -> str:
        """Why a document with this record is not what a run would make now; empty if it is."""
        if not self.video:
            return "fyc did not write it"
        if self.video != now.video:
            return "it was made from another video, or the video has changed"
        if self.settings != now.settings:
            return f"it was made with {self.settings}, not {now.settings}"
        return "" if self.fyc == now.fyc else f"it was made by fyc {self.fyc}, this is {now.fyc}"


def fingerprint(video: Path) -> str:
    """SHA-256 of a file's size, first and last MiB, in hex: a copy has the same, and an hour of video takes no time.

    Raises:
        VideoError: FYC-V01 if it cannot be read.
    """
    require_file(video)  # a pipe would be waited for
    try:
        with video.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            digest = hashlib.sha256(b"%d:" % size + stream.read(_PART))
            stream.seek(max(_PART, size - _PART))
            digest.update(stream.read(_PART))
    except OSError as error:
        raise VideoError(
            "FYC-V01", "the video cannot be opened", where=str(video), why=error.strerror or str(error),
            next="check the path and the rights of the file",
        ) from error  # fmt: skip
    return digest.hexdigest()

"""What an ELAN document holds: media, tiers of annotations, controlled vocabularies, linked files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Annotation:
    """A stretch of time with a text.

    Attributes:
        start_ms: first millisecond on the document's clock.
        end_ms: where it ends, in milliseconds.
        value: the text; a label of the tier's vocabulary, if it has one.
    """

    start_ms: int
    end_ms: int
    value: str


@dataclass(frozen=True)
class Tier:
    """A row of annotations.

    Attributes:
        name: unique within the document.
        annotations: in the order of time.
        parent: name of the tier on which this one depends.
        participant: who is annotated, such as the signer.
        vocabulary: name of the controlled vocabulary that lists the labels.
    """

    name: str
    annotations: tuple[Annotation, ...] = ()
    parent: str | None = None
    participant: str = ""
    vocabulary: str | None = None


@dataclass(frozen=True)
class Vocabulary:
    """A controlled vocabulary: ELAN offers its labels in a menu.

    Attributes:
        name: unique within the document.
        labels: label and description of each entry, in the order of the menu.
    """

    name: str
    labels: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Media:
    """A video or sound that is annotated.

    Attributes:
        path: the file.
        mime_type: such as `video/mp4`; empty when writing: by the file's suffix.
        time_origin_ms: where, on the clock of the file, the document's clock is zero. 0 but for files that start before
            the others (TIME_ORIGIN).
    """

    path: Path
    mime_type: str = ""
    time_origin_ms: int = 0


@dataclass(frozen=True)
class LinkedFile:
    """Another file that belongs to the document, such as a table of curves.

    Attributes:
        path: the file.
        mime_type: such as `text/csv`; empty when writing: by the file's suffix.
        time_origin_ms: as for media.
    """

    path: Path
    mime_type: str = ""
    time_origin_ms: int = 0


@dataclass(frozen=True)
class Document:
    """An ELAN document.

    Attributes:
        media: videos and sounds; the first is the master.
        tiers: parents may stand before or after their children.
        vocabularies: those that tiers name.
        linked: secondary files.
        properties: names and texts that ELAN keeps; its own count of annotations is none of them.
        problems: what was found wrong when it was read, one sentence each; it is not written.
    """

    media: tuple[Media, ...] = ()
    tiers: tuple[Tier, ...] = ()
    vocabularies: tuple[Vocabulary, ...] = ()
    linked: tuple[LinkedFile, ...] = ()
    properties: tuple[tuple[str, str], ...] = ()
    problems: tuple[str, ...] = ()

    def tier(self, name: str) -> Tier:
        """The tier of this name.

        Raises:
            KeyError: there is none.
        """
        for tier in self.tiers:
            if tier.name == name:
                return tier
        raise KeyError(name)


def overlaps(tier: Tier) -> Iterator[tuple[Annotation, Annotation]]:
    """Pairs of annotations of a tier that overlap in time, which ELAN does not allow.

    Each annotation that begins within others is paired with that of them which ends last. Annotations that only touch
    do not overlap.
    """
    reaching: Annotation | None = None
    for annotation in sorted(tier.annotations, key=lambda item: (item.start_ms, item.end_ms)):
        if reaching is not None and annotation.start_ms < reaching.end_ms:
            yield reaching, annotation
        if reaching is None or annotation.end_ms > reaching.end_ms:
            reaching = annotation


def clock_text(milliseconds: int) -> str:
    """Milliseconds as ELAN shows them: `00:01:02.345`."""
    seconds, rest = divmod(milliseconds, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}.{rest:03d}"

"""Annotated ELAN documents as material for training: markers, events, who signs, and where the measures are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fyc.asl.elan.document import Document, Tier
from fyc.asl.elan.read import read_eaf
from fyc.asl.elan.seal import is_unbroken
from fyc.asl.files import documents_in
from fyc.asl.learning.sources import Source, check_video, find_source
from fyc.asl.measures import Measures
from fyc.asl.output.annotation import MARKER_TIER, SYNTHETIC, TIERS
from fyc.asl.output.csv_read import read_csv
from fyc.asl.recognition.features import RATE
from fyc.errors import ElanError, FycError, UserError

#: Annotations must be so long, in seconds: onset, core and offset need a moment each.
LEAST_S = 3 / RATE
#: Annotations that go on for longer than this after the last frame are told, in seconds.
_BEYOND_S = 1.0


@dataclass(frozen=True)
class Wanted:
    """Which tiers to learn from; case and spaces around their names do not count.

    Attributes:
        markers: the tier of markers.
        events: tiers of events, which every document must have; None for those that `fyc asl run` writes, as far as
            all documents have them; empty to learn from none.
    """

    markers: str = MARKER_TIER
    events: tuple[str, ...] | None = None


@dataclass(frozen=True, repr=False)
class AnnotatedVideo:
    """A document.

    Attributes:
        path: of the document.
        markers, events: tiers, without annotations that cannot be learned from, on the clock of the video.
        source: the table, or the video.
        measures: of the video, if there is a table.
        synthetic: whether the document says that it is.
        notes: what should be known of it, one sentence each.
    """

    path: Path
    markers: Tier
    events: tuple[Tier, ...]
    source: Source
    measures: Measures | None
    synthetic: bool
    notes: tuple[str, ...]

    @property
    def signer(self) -> str:
        """Who signs: the participant of the tier of markers; without one every video counts as a signer."""
        return self.markers.participant or f"video {self.source.path.resolve()}"


def read_annotated(path: Path, wanted: Wanted, folders: Sequence[Path] = ()) -> AnnotatedVideo:
    """Read a document and its table, or check that its video can be opened.

    Args:
        path: of the document.
        wanted: tiers.
        folders: of tables, see `fyc.asl.learning.sources.find_source`.

    Raises:
        ElanError: FYC-E01 to FYC-E03 for the document, FYC-E08 for its table, FYC-E09 if it has no such tier.
        VideoError: if there is no table, and the video is missing or cannot be opened.
    """
    document = read_eaf(path)
    markers = _tier(document, wanted.markers, path, "--markers")
    if wanted.events is None:
        events = [tier for name in TIERS if (tier := _named(document, name)) and tier.name != markers.name]
    else:
        events = [_tier(document, name, path, "--events") for name in dict.fromkeys(wanted.events)]
    source = find_source(path, document, folders)
    measures = read_csv(source.path) if source.is_table else None
    if not source.is_table:
        check_video(source.path)
    notes: list[str] = []
    if is_unbroken(path.read_bytes()):
        notes.append("fyc wrote this document and nobody has edited it since: it teaches what fyc found")
    cleaned = [_cleaned(tier, source.origin_s, document, notes) for tier in (markers, *events)]
    return AnnotatedVideo(
        path, cleaned[0], tuple(cleaned[1:]), source, measures, _is_synthetic(document, markers), tuple(notes)
    )


def read_all(
    paths: Sequence[Path], wanted: Wanted, folders: Sequence[Path] = (), *, skip: bool = False
) -> tuple[list[AnnotatedVideo], list[FycError]]:
    """Read all documents before anything else is done with them.

    Args:
        paths: documents, or folders of them.
        wanted, folders: as for `read_annotated`.
        skip: whether documents that cannot be used are left out, and their errors returned.

    Raises:
        FycError: as `read_annotated`, if not `skip`, or if no document can be used; FYC-E01 if a folder has none,
            FYC-E09 if nothing is annotated.
        UserError: FYC-R09 if two documents have the name of one table in the folders.
    """
    files = [file for path in paths for file in (_documents(path) if path.is_dir() else [path])]
    files = list({file.resolve(): file for file in files}.values())
    same = [stem for stem, times in Counter(file.stem for file in files).items() if times > 1]
    if folders and same:
        raise UserError(
            "FYC-R09", f"several documents are named {same[0]!r}, and --measures has one table of this name",
            where=", ".join(map(str, folders)), next="train without --measures, or rename them",
        )  # fmt: skip
    videos, errors = [], []
    for file in files:
        try:
            videos.append(read_annotated(file, wanted, folders))
        except UserError as error:
            errors.append(error)
    if errors and not (skip and videos):
        raise _together(errors, len(files))
    check_marked(videos)
    return videos, list[FycError](errors)


def check_marked(videos: Sequence[AnnotatedVideo]) -> None:
    """Check that a marker is annotated anywhere.

    Raises:
        ElanError: FYC-E09 if none is.
    """
    if not any(video.markers.annotations for video in videos):
        raise ElanError(
            "FYC-E09", "nothing is annotated in the tiers of markers",
            where=", ".join(str(video.path) for video in videos[:3]),
            why=f"of {len(videos)} documents none has an annotation with a text in {videos[0].markers.name!r}",
            next="name another tier with --markers",
        )  # fmt: skip


def _documents(folder: Path) -> list[Path]:
    found = documents_in(folder)
    if not found:
        raise ElanError("FYC-E01", "there is no .eaf file in this folder", where=str(folder), next="check the path")
    return found


def _together(errors: Sequence[UserError], total: int) -> UserError:
    """One error that names all documents."""
    first = errors[0]
    if len(errors) == 1:
        return first
    places: dict[str, list[str]] = {}
    for error in errors:
        places.setdefault(f"{error.what} ({error.why})" if error.why else error.what, []).append(error.where)
    lines = [f"{what}: {', '.join(where)}" for what, where in places.items()]
    return type(first)(
        first.code, f"{len(errors)} of {total} documents cannot be used", where=first.where, why="; ".join(lines),
        next=f"{first.next}; --skip-broken goes on without them",
    )  # fmt: skip


def beyond(video: AnnotatedVideo, measures: Measures) -> str:
    """What to say if annotations go on after the last frame of the video: then they belong to another; else empty."""
    last = max((a.end_ms for tier in (video.markers, *video.events) for a in tier.annotations), default=0) / 1000
    end = float(measures.time_s[-1])
    if last <= end + _BEYOND_S:
        return ""
    return f"annotations go on until {last:.1f} s, {video.source.path.name} ends at {end:.1f} s"


def common_tiers(videos: Sequence[AnnotatedVideo]) -> tuple[list[str], list[str]]:
    """Names of the event tiers that all documents have, and what to say of others, in which absence means nothing."""
    names = list(dict.fromkeys(tier.name for video in videos for tier in video.events))
    having = {name: sum(_has(video.events, name) for video in videos) for name in names}
    left = [
        f"the tier {name!r} is in {count} of {len(videos)} documents and is not learned from"
        for name, count in having.items()
        if count < len(videos)
    ]
    kept: dict[str, str] = {}
    for name in names:
        if having[name] == len(videos):
            kept.setdefault(_folded(name), name)
    return list(kept.values()), left


def tier_of(video: AnnotatedVideo, name: str) -> Tier:
    """The event tier of this name, case and spaces aside.

    Raises:
        StopIteration: there is none.
    """
    return next(tier for tier in video.events if _folded(tier.name) == _folded(name))


def _has(tiers: Iterable[Tier], name: str) -> bool:
    return any(_folded(tier.name) == _folded(name) for tier in tiers)


def _folded(name: str) -> str:
    return name.strip().casefold()


def _named(document: Document, name: str) -> Tier | None:
    """The tier of this name, else one that differs in case or in spaces around it."""
    exact = [tier for tier in document.tiers if tier.name == name]
    alike = [tier for tier in document.tiers if _folded(tier.name) == _folded(name)]
    return next(iter(exact + alike), None)


def _tier(document: Document, name: str, path: Path, option: str) -> Tier:
    found = _named(document, name)
    if found is None:
        names = ", ".join(repr(tier.name) for tier in document.tiers) or "none"
        raise ElanError(
            "FYC-E09", f"the document has no tier {name!r} to learn from", where=str(path), why=f"its tiers: {names}",
            next=f"name one of them with {option}",
        )  # fmt: skip
    return found


def _cleaned(tier: Tier, origin_s: float, document: Document, notes: list[str]) -> Tier:
    """The tier on the clock of the video, without what cannot be learned from; that is said."""
    origin = round(1000 * origin_s)
    notes += [problem for problem in document.problems if problem.startswith(f"tier {tier.name!r}: ")]
    empty = [a for a in tier.annotations if not a.value.strip()]
    short = [a for a in tier.annotations if a.value.strip() and a.end_ms - a.start_ms < 1000 * LEAST_S]
    kept = [a for a in tier.annotations if a not in empty and a not in short]
    for gone, what in ((empty, "without a text"), (short, f"shorter than {LEAST_S:.1f} s")):
        if gone:
            notes.append(f"tier {tier.name!r}: {len(gone)} of {len(tier.annotations)} annotations {what} are ignored")
    moved = [replace(a, start_ms=a.start_ms + origin, end_ms=a.end_ms + origin, value=a.value.strip()) for a in kept]
    return replace(tier, annotations=tuple(moved), participant=tier.participant.strip())


def _is_synthetic(document: Document, tier: Tier) -> bool:
    texts = [text for one in document.vocabularies if one.name == tier.vocabulary for _, text in one.labels]
    return SYNTHETIC in texts

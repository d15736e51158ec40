"""Where the measures of an annotated video come from: a table that is there, or the video, which is analysed once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from glob import escape
from importlib.metadata import version
from pathlib import Path

from fyc.asl.analysis import Analyst, Progress
from fyc.asl.elan.document import Document
from fyc.asl.files import unwritable
from fyc.asl.measures import Measures
from fyc.asl.output.csv_read import is_table, read_csv
from fyc.asl.output.csv_table import write_csv
from fyc.asl.output.record import fingerprint
from fyc.asl.run import EVENT_LABELS, find
from fyc.asl.tracking.track_file import write_track
from fyc.asl.video.reader import open_video
from fyc.errors import VideoError

#: Ending of the track of a video that is being measured.
_TRACK = ".track"
#: Suffixes of videos that are looked for beside a document.
_VIDEOS = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".mts", ".wmv")


@dataclass(frozen=True)
class Source:
    """A table or a video.

    Attributes:
        path: the file.
        is_table: whether it is a table of measures.
        origin_s: what the file's clock shows where the document's shows zero, in seconds.
    """

    path: Path
    is_table: bool
    origin_s: float


def find_source(path: Path, document: Document, folders: Sequence[Path] = ()) -> Source:
    """Find the measures of a document, or else its video.

    A table is NAME.csv in or below the first of the folders that has it, a table that the document links, or NAME.csv
    beside it; CSV files that hold something else are passed over. A video is the first one that the document names,
    where it says or beside the document, or one beside it that has the name of either.

    Args:
        path: of the document.
        document: what is in it.
        folders: of tables.

    Raises:
        VideoError: FYC-V01 if neither is there.
    """
    films = [media for media in document.media if not media.mime_type.startswith("audio/")]
    origin = films[0].time_origin_ms / 1000 if films else 0.0
    for folder in folders:
        given = [folder / f"{path.stem}.csv", *sorted(folder.rglob(f"*/{escape(path.stem)}.csv"))]
        there = [table for table in given if table.is_file()]
        if there:
            return Source(there[0], True, origin)
    linked = [(file.path, file.time_origin_ms / 1000) for file in document.linked]
    for table, shift in (*linked, (path.with_suffix(".csv"), origin)):
        if is_table(table):
            return Source(table, True, shift)
    for media in films:
        if media.path.is_file():
            return Source(media.path, False, media.time_origin_ms / 1000)
    beside = _beside(path, [path.stem, *(media.path.stem for media in films)])
    if beside is not None:
        return Source(beside, False, origin)
    named = ", ".join(str(media.path) for media in films) or "no video"
    raise VideoError(
        "FYC-V01", "neither the video of this document nor a table of its measures can be found", where=str(path),
        why=f"the document names {named}",
        next="put the video beside the document, or its table NAME.csv; --skip-broken goes on without it",
    )  # fmt: skip


def check_video(path: Path) -> None:
    """Open a video and close it.

    Raises:
        VideoError: if it cannot be read.
    """
    with open_video(path):
        pass


def measured(
    video: Path, folders: Sequence[Path], analyst: Callable[[], Analyst], progress: Progress | None = None
) -> Measures:
    """The measures of a video: from a table that an earlier call kept, else by analysing it.

    Tables are kept under the name of the video, its fingerprint and the version of fyc, so that a changed video is
    measured again and a moved one is not.

    Args:
        video: the file.
        folders: where tables are looked for; a new one is kept in the first.
        analyst: makes what analyses it, if that is needed.
        progress: is told how far it is.

    Raises:
        VideoError: if the video cannot be read.
        NoFaceError: FYC-V06 if there is no face.
        ElanError: FYC-E05 if the table cannot be written, FYC-E08 if a kept one is damaged.
        ResourceError: FYC-S01 if the disk is full.
    """
    name = f"{video.stem}-{fingerprint(video)[:12]}-{version('fyc')}.csv"
    for folder in folders:
        if (folder / name).is_file():
            return read_csv(folder / name)
    kept = folders[0] / name
    track = kept.with_name(f".{name}{_TRACK}")
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with write_track(track, {}) as file:
            analysis = analyst().analyse(video, file, progress)
        track.unlink()
    except OSError as error:
        raise unwritable(kept, error) from error
    write_csv(analysis, find(analysis).events, EVENT_LABELS, kept)
    return read_csv(kept)


def remove_parts(folder: Path) -> None:
    """Remove what a killed process left of tables in the folder that `measured` keeps them in; nobody else writes it.

    Raises:
        ElanError: FYC-E05 if they cannot be removed.
    """
    try:
        for pattern in ("..*.csv.*.part", f".*.csv{_TRACK}", ".*.csv.new"):
            for path in folder.glob(pattern):
                path.unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from error


def _beside(path: Path, stems: list[str]) -> Path | None:
    """A video in the document's folder that has one of these names."""
    listed = sorted(path.parent.iterdir())
    for stem in stems:
        for suffix in _VIDEOS:
            found = [file for file in listed if file.stem == stem and file.suffix.lower() == suffix and file.is_file()]
            if found:
                return found[0]
    return None

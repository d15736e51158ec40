"""Which videos a corpus has, and where the results of each go."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from fyc.errors import RecipeError, VideoError

#: Endings of files that are taken for videos in a folder; a file that is named itself may have any.
ENDINGS = frozenset({
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".m2v", ".ts", ".mts", ".m2ts", ".mxf", ".wmv",
    ".flv", ".3gp", ".ogv", ".dv", ".vob",
})  # fmt: skip
_OVERLAY = ".overlay.mp4"


@dataclass(frozen=True)
class Task:
    """A video, and where its results go.

    Attributes:
        video: the video.
        folder: of its results.
        name: of the results, without their endings.
    """

    video: Path
    folder: Path
    name: str


def find_tasks(inputs: Sequence[Path], output: Path) -> list[Task]:
    """The videos of files and folders, in the order of their names.

    A folder is searched through all its depth, and its tree is mirrored in the output. Hidden files and folders, fyc's
    own overlays, and the output folder within it are left out. Results have the name of the video without its ending;
    where two of a folder would have one name, the ending stays.

    Args:
        inputs: files and folders.
        output: folder of the results.

    Raises:
        VideoError: FYC-V01 if a folder cannot be read, FYC-V02 if there is no video in it.
        RecipeError: FYC-R09 if two videos would have the same results.
    """
    found: dict[Path, Path] = {}
    for entry in inputs:
        videos = list(_videos(entry, output)) if entry.is_dir() else [entry]
        if not videos:
            raise VideoError(
                "FYC-V02", "there is no video in this folder", where=str(entry),
                why=f"none of its files ends in {', '.join(sorted(ENDINGS))}",
                next="give the folder of the videos, or name the files",
            )  # fmt: skip
        for video in videos:
            found.setdefault(video, output / video.parent.relative_to(entry) if entry.is_dir() else output)
    groups: dict[Path, list[Path]] = defaultdict(list)
    for video, folder in found.items():
        groups[folder].append(video)
    return [
        Task(video, folder, name)
        for folder, videos in groups.items()
        for video, name in zip(videos, _names(videos), strict=True)
    ]


def _videos(folder: Path, output: Path) -> Iterator[Path]:
    try:
        entries = sorted(folder.iterdir(), key=lambda entry: entry.name)
    except OSError as error:
        raise VideoError(
            "FYC-V01", "the folder cannot be read", where=str(folder), why=error.strerror or str(error),
            next="check its rights",
        ) from error  # fmt: skip
    for entry in entries:
        if entry.name.startswith("."):
            continue
        if entry.is_dir() and not entry.is_symlink():
            if entry.resolve() != output.resolve():
                yield from _videos(entry, output)
        elif entry.suffix.lower() in ENDINGS and not entry.name.endswith(_OVERLAY) and entry.is_file():
            yield entry


def _names(videos: Sequence[Path]) -> list[str]:
    """A name for each video of a folder."""
    stems = Counter(video.stem.casefold() for video in videos)
    names = [video.stem if stems[video.stem.casefold()] == 1 else video.name for video in videos]
    if not _repeated(names):
        return names
    names = [video.name for video in videos]
    if twice := _repeated(names):
        both = [str(video) for video in videos if video.name.casefold() == twice]
        raise RecipeError(
            "FYC-R09", "two videos would have the same results", where=" and ".join(both[:2]),
            next="give each an output folder of its own, or give the folder above both",
        )  # fmt: skip
    return names


def _repeated(names: Iterable[str]) -> str:
    """A name that is there twice, on a disk that does not tell capitals from small letters; else empty."""
    return next((name for name, times in Counter(map(str.casefold, names)).items() if times > 1), "")

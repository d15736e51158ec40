"""A claim on the results of a video: no other run writes them, no edited document is lost, no litter is left."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from fyc.asl.elan.seal import is_unbroken
from fyc.asl.files import alone, unwritable
from fyc.asl.output.record import Record
from fyc.errors import ElanError, FycError

if TYPE_CHECKING:
    from fyc.asl.run import Results


@contextmanager
def claim(results: Results) -> Iterator[None]:
    """Have the results of a video alone; what a killed run left half-written is removed.

    Raises:
        ResourceError: FYC-S03 if another run has them, FYC-S01 if the disk is full.
        ElanError: FYC-E05 if the folder cannot be written.
    """
    folder, name = results.eaf.parent, results.eaf.stem
    with alone(folder / f".{name}.lock", "another run is making these results", results.eaf):
        remove_litter(results)
        yield


def remove_litter(results: Results) -> None:
    """Remove the temporary files that a killed run left of these results; the caller has claimed them."""
    folder, name = results.eaf.parent, results.eaf.stem
    names = [path.name for path in vars(results).values() if path is not None]
    for written in (*names, f"{name}.pfsx", f"{name}_tsconf.xml"):
        for ending in ("new", "part"):
            (folder / f".{written}.{ending}").unlink(missing_ok=True)
    for column in folder.glob(f"..{escape(results.track.name)}.*.part"):
        column.unlink(missing_ok=True)


def remove_stale(results: Results) -> None:
    """Remove an overlay and a page of an earlier run where this one writes none: they would belong to other results.

    Raises:
        ElanError: FYC-E05 if they cannot be removed.
    """
    every = results.in_folder(results.eaf.parent, results.eaf.stem)
    for wanted, path in ((results.overlay, every.overlay), (results.report, every.report)):
        if wanted is None and path is not None:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise unwritable(path, error) from error


def is_done(results: Results, record: Record) -> bool:
    """Whether the document is there and is what a run would make now, edited since or not.

    Raises:
        ElanError: FYC-E07 if one is there that was made otherwise, or if other files are missing; if there is none, but
            files of somebody else have the names of results.
    """
    if not results.eaf.exists():
        _refuse_foreign(results)
        return False
    try:
        why = Record.read(results.eaf).difference(record)
    except ElanError as error:
        why = f"it cannot be read: {error.why or error.what}"
    missing = [path.name for path in vars(results).values() if path is not None and not path.exists()]
    if not why and missing:
        why = f"not there: {', '.join(missing)}"
    if why:
        raise _there(results.eaf, why)
    return True


def keep_edited(eaf: Path) -> Path | None:
    """Copy a document that was changed since fyc wrote it, or that fyc did not write, before it is written again.

    Returns:
        The copy, `NAME.eaf.bak` or with a number if that is taken; None if there was nothing to keep.

    Raises:
        ElanError: FYC-E05 if the copy cannot be written.
        ResourceError: FYC-S01 if the disk is full.
    """
    try:
        if not eaf.exists() or is_unbroken(content := eaf.read_bytes()):
            return None
        for number in count(1):
            copy = eaf.with_name(f"{eaf.name}.bak{'' if number == 1 else number}")
            if not copy.exists():
                break
            if copy.read_bytes() == content:
                return copy
        part = copy.with_name(f".{copy.name}.new")
        try:
            shutil.copy2(eaf, part)
            part.rename(copy)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(eaf, error) from error
    return copy


def _refuse_foreign(results: Results) -> None:
    """A run that was stopped left a track where it left a table, subtitles or curves: it is there before them."""
    eaf = results.eaf
    others = (results.csv, results.vtt, eaf.with_suffix(".pfsx"), eaf.with_name(f"{eaf.stem}_tsconf.xml"))
    there = [path.name for path in others if path.exists()]
    if there and not results.track.exists():
        raise ElanError(
            "FYC-E07", "files that fyc did not write have the names of results", where=str(eaf.parent),
            why=f"there already: {', '.join(there)}", next="give another folder, or write over them with --overwrite",
        )  # fmt: skip


def _there(eaf: Path, why: str) -> FycError:
    advice = "keep it, give another folder, or write it again with --overwrite; one that was edited is kept as .eaf.bak"
    return ElanError("FYC-E07", "the ELAN document is there already", where=str(eaf), why=why, next=advice)

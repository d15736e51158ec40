"""Files that are whole or not there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from fyc.errors import ElanError, FycError, ResourceError, resource_error

#: Seconds to wait for another run: as long as one that was stopped takes to be gone.
_PATIENCE = 2.0


def documents_in(folder: Path) -> list[Path]:
    """The .eaf files of a folder, through its whole depth, in the order of their paths; hidden ones are left out."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() == ".eaf" and path.is_file())
    return sorted(path for path in found if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def write_whole(path: Path, content: bytes) -> None:
    """Write a file by a temporary sibling and a rename; it survives the death of the process and of the machine.

    Raises:
        ElanError: FYC-E05 if the folder cannot be written.
        ResourceError: FYC-S01 if the disk is full.
    """
    temporary = path.with_name(f".{path.name}.new")
    try:
        try:
            with temporary.open("wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(path, error) from error


@contextmanager
def staged(path: Path) -> Iterator[Path]:
    """A temporary sibling that takes the place of a file when the `with` block ends without an error, else is removed.

    Raises:
        ElanError: FYC-E05 if it cannot take its place.
    """
    part = path.with_name(f".{path.name}.new")
    try:
        yield part
        try:
            part.replace(path)
        except OSError as error:
            raise unwritable(path, error) from error
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def alone(lock: Path, what: str, where: Path) -> Iterator[None]:
    """Be the only one who writes something; the folder of the lock is made.

    The lock is the kernel's: when a process dies, however it dies, it is free.

    Args:
        lock: the file, which is removed at the end.
        what: what another run is doing, for the error.
        where: what is written, for the error.

    Raises:
        ResourceError: FYC-S03 if another run is writing it, FYC-S01 if the disk is full.
        ElanError: FYC-E05 if the folder cannot be written.
    """
    held = FileLock(lock, timeout=_PATIENCE)
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        held.acquire()
    except Timeout as error:
        raise ResourceError("FYC-S03", what, where=str(where), next="wait for it") from error
    except OSError as error:
        raise unwritable(lock.parent, error) from error
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
        held.release()


def unwritable(path: Path, error: OSError) -> FycError:
    """The error for an OSError that writing a result raised: FYC-S01 for a full disk, else FYC-E05."""
    full = resource_error(error, where=str(path))
    return full or ElanError(
        "FYC-E05", "the file cannot be written", where=str(path), why=error.strerror or str(error),
        next="give a folder that you may write",
    )  # fmt: skip

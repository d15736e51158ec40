"""Files that are whole or not there."""

from __future__ import annotations

import os
from pathlib import Path

from fyc.errors import ElanError, FycError, resource_error


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


def unwritable(path: Path, error: OSError) -> FycError:
    """The error for an OSError that writing a result raised: FYC-S01 for a full disk, else FYC-E05."""
    full = resource_error(error, where=str(path))
    return full or ElanError(
        "FYC-E05", "the file cannot be written", where=str(path), why=error.strerror or str(error),
        next="give a folder that you may write",
    )  # fmt: skip

"""The cache folder: converted GGUF files and fetched assets, each built once and put in place whole."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock

from fyc.errors import FycError, ResourceError, UserError


def cache_dir() -> Path:
    """Where fyc keeps what it can make again: `FYC_CACHE`, else the platform's cache folder."""
    if chosen := os.environ.get("FYC_CACHE"):
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "fyc" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "fyc"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fyc"


def build_once(target: Path, build: Callable[[Path], None]) -> Path:
    """The folder `target`; if it is not there, `build` fills a temporary folder, which is then renamed to it.

    Safe when several processes ask at once: one builds, the others wait. A process that dies leaves nothing that
    looks complete, and the next one removes what it left.

    Args:
        target: the folder.
        build: writes the content into the folder it is given.

    Raises:
        ResourceError: FYC-S01 if the disk is full.
        UserError: FYC-R09 if the cache folder cannot be written.
    """
    if target.is_dir():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_name(f"{target.name}.lock")):
            if not target.is_dir():
                _build(target, build)
    except FycError:
        raise
    except OSError as error:
        raise disk_error(error, target.parent) from error
    return target


def _build(target: Path, build: Callable[[Path], None]) -> None:
    prefix = f".{target.name}.new-"
    for stale in target.parent.glob(f"{prefix}*"):
        shutil.rmtree(stale, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=target.parent))
    try:
        build(folder)
        folder.chmod(0o755)
        folder.rename(target)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def disk_error(error: OSError, folder: Path) -> FycError:
    """The fyc error for an OSError that writing below `folder` raised."""
    reason = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ResourceError(
            "FYC-S01", "the disk is full", where=str(folder), why=reason,
            next="free some space, or set FYC_CACHE to a folder on another disk",
        )  # fmt: skip
    return UserError(
        "FYC-R09", "the cache folder cannot be written", where=str(folder), why=reason,
        next="set FYC_CACHE to a folder that you may write",
    )  # fmt: skip


def check_free(folder: Path, needed: int) -> None:
    """Raise FYC-S01 if the disk below `folder` has fewer than `needed` bytes free."""
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise ResourceError(
            "FYC-S01", f"{needed / 1e9:.1f} GB of disk are needed, {free / 1e9:.1f} GB are free",
            where=str(folder), next="free some space, or set FYC_CACHE to a folder on another disk",
        )  # fmt: skip


def is_offline(offline: bool) -> bool:
    """Whether the network is switched off: for this call, or by `HF_HUB_OFFLINE` for every one."""
    return offline or os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "on", "yes", "true")


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()

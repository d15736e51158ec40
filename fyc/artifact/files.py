"""Files of an artifact: atomic writes, safetensors headers."""

from __future__ import annotations

import json
import math
import os
import re
import stat
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fyc.errors import ArtifactError

if TYPE_CHECKING:
    from torch import Tensor

_MAX_HEADER = 100 * 2**20
#: Bytes of one value, by safetensors' names of types.
_SIZES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "I64": 8, "I32": 4, "I16": 2, "I8": 1,
    "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1, "C64": 8,
}  # fmt: skip


@dataclass(frozen=True)
class StoredTensor:
    """Name, dtype (safetensors' spelling) and shape of a tensor in a file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: str

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return math.prod(self.shape) * _SIZES[self.dtype]


def write_text(path: Path, text: str) -> None:
    """Write a text file so that it is either complete or absent."""
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def write_json(path: Path, data: object) -> None:
    """Write JSON with sorted keys so that it is either complete or absent."""
    write_text(path, json.dumps(data, indent=1, sort_keys=True, allow_nan=False) + "\n")


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file so that it is either complete or absent; equal tensors give equal bytes.

    The metadata is exactly `{"format": "pt"}`: transformers wants it, and more keys would be written in random order.
    Tensors that share memory are stored one by one.

    Raises:
        OSError: the system's own, for example when the disk is full.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    temporary = path.with_name(path.name + ".part")
    temporary.touch()
    mode = stat.S_IMODE(temporary.stat().st_mode)  # what the umask allows; safetensors writes 0600
    try:
        save_file(_separate(tensors), temporary, metadata={"format": "pt"})
    except SafetensorError as error:
        raise _system_error(error, path) from error
    temporary.chmod(mode)
    temporary.replace(path)


def _separate(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous tensors, sorted by name, no two in one piece of memory: safetensors refuses those."""
    memories: set[int] = set()
    separate: dict[str, Tensor] = {}
    for name in sorted(tensors):
        tensor = tensors[name].detach().contiguous()
        if tensor.untyped_storage().data_ptr() in memories:
            tensor = tensor.clone()
        memories.add(tensor.untyped_storage().data_ptr())
        separate[name] = tensor
    return separate


def _system_error(error: Exception, path: Path) -> Exception:
    """The OSError that safetensors reports as text, or the error itself."""
    found = re.search(r"\(os error (\d+)\)", str(error))
    if found is None:
        return error
    return OSError(int(found[1]), os.strerror(int(found[1])), str(path))


def read_tensors(path: Path, names: Iterable[str] | None = None) -> dict[str, Tensor]:
    """Read a safetensors file, or some tensors of it, into freshly allocated memory.

    The copies matter: a tensor over a mapped file can sit at any alignment, and vectorised kernels may round
    differently for another alignment, which would make a resumed run differ from an undisturbed one.
    """
    from safetensors import safe_open

    with safe_open(path, framework="pt") as stream:
        return {name: stream.get_tensor(name).clone() for name in names or stream.keys()}


def read_header(path: Path) -> dict[str, StoredTensor]:
    """Names, dtypes and shapes in a safetensors file, without reading its tensors.

    Raises:
        ArtifactError: FYC-A02 when the header is damaged or does not describe the bytes that follow it.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > min(_MAX_HEADER, size):
                raise ValueError(f"a header of {length} bytes")
            header = json.loads(stream.read(length))
        header.pop("__metadata__", None)
        _check_layout(header, size - 8 - length)
        return {
            name: StoredTensor(name, entry["dtype"], tuple(entry["shape"]), path.name) for name, entry in header.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error, RecursionError) as error:
        raise ArtifactError(
            "FYC-A02",
            "a safetensors file is damaged",
            where=str(path),
            why=f"its header cannot be read: {error}",
            next="restore the file, or convert the model again",
        ) from error


def _check_layout(header: Mapping[str, Any], size: int) -> None:
    """Make sure that the tensors fill the file, one after the other, as their shapes say."""
    position = 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        begin, end = entry["data_offsets"]
        numbers = [begin, end, *entry["shape"]]
        if not all(type(number) is int and number >= 0 for number in numbers):
            raise ValueError(f"shape or offsets of {name!r} are not valid")
        if begin != position or end - begin != math.prod(entry["shape"]) * _SIZES[entry["dtype"]]:
            raise ValueError(f"the bytes of {name!r} are not where its shape says")
        position = end
    if position != size:
        raise ValueError(f"it describes {position} bytes, {size} follow")

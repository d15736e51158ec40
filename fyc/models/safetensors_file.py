"""Read safetensors files with plain file reads, so that no page of a weight file stays mapped into the process.

The file format is described at https://huggingface.co/docs/safetensors: eight bytes of header length (little endian),
a JSON header, then the tensors' bytes. A memory map counts as resident memory for as long as the file is open, which
is why `safetensors.safe_open` is not used here: four open shards of a 2.2 GB model cost 2.66 GB.
"""

from __future__ import annotations

import json
import math
import mmap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import torch

from fyc.errors import ModelError

if TYPE_CHECKING:
    from io import FileIO
    from pathlib import Path

DTYPES: dict[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
#: The format's own limit on the header, in bytes.
MAX_HEADER = 100_000_000
#: Bytes converted and checked at a time; bounds what a read needs beside its result.
CHUNK = 8 << 20
#: Tensors of at least this many bytes get memory pages of their own.
MAPPED = 1 << 20


@dataclass(frozen=True)
class TensorInfo:
    """Where a tensor is stored.

    Attributes:
        file: the file that holds it.
        name: its name in that file.
        dtype: the stored dtype.
        shape: its shape.
        begin: position of its first byte in the file.
        nbytes: its size in the file, in bytes.
    """

    file: Path
    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    begin: int
    nbytes: int


def read_header(path: Path) -> dict[str, TensorInfo]:
    """The tensors of one safetensors file, checked against the file's size.

    Raises:
        ModelError: FYC-M03 if the file is damaged, FYC-M05 if a dtype is not supported.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            prefix = stream.read(8)
            if len(prefix) < 8:
                _damaged(path, f"the file has {size} bytes, too few for a header")
            length = int.from_bytes(prefix, "little")
            if length > min(MAX_HEADER, size - 8):
                _damaged(path, f"the header claims {length} bytes, the file has {size}")
            raw = stream.read(length)
    except OSError as error:
        _damaged(path, f"it cannot be read: {error.strerror or error}")
    header = _parse(path, raw)
    header.pop("__metadata__", None)
    start = 8 + length
    infos = {name: _entry(path, name, entry, start) for name, entry in header.items()}
    _check_layout(path, infos, start, size)
    return infos


def _parse(path: Path, raw: bytes) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        keys = [key for key, _ in pairs]
        if len(set(keys)) < len(keys):
            raise ValueError("a name occurs twice")
        return dict(pairs)

    try:
        header = json.loads(raw.decode("utf-8"), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        _damaged(path, f"the header is not valid JSON ({error})")
    if not isinstance(header, dict):
        _damaged(path, "the header is not a JSON object")
    return header


def _entry(path: Path, name: str, entry: Any, start: int) -> TensorInfo:
    try:
        label, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
    except (TypeError, KeyError, ValueError):
        _damaged(path, f"the header entry of {name!r} is not complete")
    numbers = [begin, end, *(shape if isinstance(shape, list) else [None])]
    if not all(type(number) is int and number >= 0 for number in numbers) or begin > end:
        _damaged(path, f"shape or offsets of {name!r} are not valid")
    dtype = DTYPES.get(label) if isinstance(label, str) else None
    if dtype is None:
        raise ModelError(
            "FYC-M05",
            f"tensor {name} has dtype {label!r}, which fyc does not read",
            where=str(path),
            why=f"fyc reads {', '.join(DTYPES)}",
            next="use a checkpoint of the model that is not quantized (float32, bfloat16 or float16)",
        )
    if end - begin != math.prod(shape) * dtype.itemsize:
        _damaged(path, f"{name!r} has shape {shape} and dtype {label} but {end - begin} bytes")
    return TensorInfo(path, name, dtype, tuple(shape), start + begin, end - begin)


def _check_layout(path: Path, infos: dict[str, TensorInfo], start: int, size: int) -> None:
    position = start
    for info in sorted(infos.values(), key=lambda info: (info.begin, info.nbytes)):
        if info.begin != position:
            _damaged(path, f"the bytes of {info.name!r} overlap others or leave a hole")
        position += info.nbytes
    if position != size:
        state = "cut off" if position > size else "too long"
        _damaged(path, f"the file is {state}: its header describes {position} bytes, it has {size}")


def read_tensor(stream: FileIO, info: TensorInfo, dtype: torch.dtype | None = None) -> torch.Tensor:
    """Read one tensor into newly allocated memory.

    Args:
        stream: the tensor's file, opened unbuffered.
        info: the tensor's place, from `read_header`.
        dtype: convert a floating-point tensor to this dtype; other tensors keep theirs.

    Returns:
        A CPU tensor of shape `info.shape`.

    Raises:
        ModelError: FYC-M03 if the file ends early, FYC-M04 if a value is NaN or infinite.
    """
    target_dtype = dtype if dtype is not None and info.dtype.is_floating_point else info.dtype
    target = _allocate(math.prod(info.shape), target_dtype)
    step = CHUNK // info.dtype.itemsize
    scratch = None if target_dtype == info.dtype else _allocate(min(step, len(target)), info.dtype)
    stream.seek(info.begin)
    for start in range(0, len(target), step):
        part = target[start : start + step]
        raw = part if scratch is None else scratch[: len(part)]
        _fill(stream, raw, info)
        check_finite(raw, info.name, str(info.file))
        if scratch is not None:
            part.copy_(raw)
            check_finite(part, info.name, str(info.file), why=f"its values do not fit {target_dtype}")
    return target.reshape(info.shape)


def _allocate(count: int, dtype: torch.dtype) -> torch.Tensor:
    """An uninitialized vector whose memory goes back to the system as soon as it is freed.

    The C library's heap does not promise that: reading and releasing 22 blocks of 88 MB one after the other peaked
    at 0.45 to 1.4 GB, depending on how the heap happened to be laid out (see also `fyc.models.memory`).
    """
    size = count * dtype.itemsize
    if size < MAPPED:
        return torch.empty(count, dtype=dtype)
    try:
        return torch.frombuffer(mmap.mmap(-1, size), dtype=dtype)
    except OSError as error:  # of the kernel, not of the file that is being read
        raise MemoryError(f"cannot allocate {size} bytes") from error


def _fill(stream: FileIO, raw: torch.Tensor, info: TensorInfo) -> None:
    view = memoryview(raw.view(torch.uint8).numpy())  # type: ignore[arg-type]
    while view:
        count = stream.readinto(view)
        if not count:
            _damaged(info.file, f"it ends inside {info.name!r}")
        view = view[count:]


def check_finite(tensor: torch.Tensor, name: str, where: str, why: str = "") -> None:
    """Raise FYC-M04 naming the tensor if a value of it is NaN or infinite."""
    # The sum of values is finite only if all are, and is a twentieth of the work; where it overflows, look closely.
    if not tensor.is_floating_point() or bool(torch.isfinite(tensor.sum())) or bool(torch.isfinite(tensor).all()):
        return
    raise ModelError(
        "FYC-M04",
        f"tensor {name} holds NaN or infinite values",
        where=where,
        why=why or "the checkpoint is damaged, or training diverged",
        next="get the checkpoint again, or load it in a dtype with a larger range (`model: {dtype: float32}`)",
    )


def _damaged(path: Path, reason: str) -> NoReturn:
    raise ModelError(
        "FYC-M03",
        f"{path.name} is damaged",
        where=str(path),
        why=reason,
        next="get the file again; a partial download is the usual cause",
    )

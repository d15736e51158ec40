"""Turn nested call arguments into JSON plus named tensors, and back."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from fyc.errors import ArtifactError


def pack(value: Any, tensors: dict[str, Tensor], name: str) -> Any:
    """JSON for a nest of tuples, lists, dicts, tensors and plain values; tensors are added to `tensors` by name."""
    if isinstance(value, Tensor):
        tensors[name] = value.detach().clone()
        return {"tensor": name}
    if isinstance(value, tuple | list):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [pack(item, tensors, f"{name}.{i}") for i, item in enumerate(value)]}
    if isinstance(value, dict):
        return {"dict": {key: pack(item, tensors, f"{name}.{key}") for key, item in value.items()}}
    if value is None or isinstance(value, bool | int | float | str):
        return {"value": value}
    raise TypeError(f"cannot store a {type(value).__name__}")


def unpack(data: Any, tensors: dict[str, Tensor]) -> Any:
    """The inverse of `pack`.

    Raises:
        ArtifactError: FYC-A07 when the data is malformed, FYC-A06 when a tensor is missing.
    """
    if not isinstance(data, dict) or len(data) != 1:
        raise ArtifactError("FYC-A07", "a stored argument was refused", why="it is not of the form {kind: content}")
    ((kind, content),) = data.items()
    if kind == "tensor":
        if content not in tensors:
            raise ArtifactError("FYC-A06", f"the stored sample lacks the tensor {content!r}")
        return tensors[content]
    if kind == "value":
        return content
    if kind in {"tuple", "list"} and isinstance(content, list):
        items = [unpack(item, tensors) for item in content]
        return tuple(items) if kind == "tuple" else items
    if kind == "dict" and isinstance(content, dict):
        return {key: unpack(item, tensors) for key, item in content.items()}
    raise ArtifactError("FYC-A07", "a stored argument was refused", why=f"unknown kind {kind!r}")

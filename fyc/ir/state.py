"""What a staged run of a model graph holds between two block calls, and how it is saved."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from fyc.errors import TraceError


@dataclass
class State:
    """Values alive between two block calls.

    Attributes:
        inputs: names of the inputs the run was started with.
        values: node name -> value.
        position: index of the block call that comes next.
        output: the model's named outputs after the last call, else None.
    """

    inputs: list[str]
    values: dict[str, Any] = field(default_factory=dict)
    position: int = 0
    output: Any = None

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by name, contiguous and sharing no memory: ready for safetensors."""
        return self._pack()[0]

    def metadata(self) -> dict[str, str]:
        """Everything that is not a tensor, as safetensors metadata."""
        return self._pack()[1]

    @classmethod
    def restore(cls, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> State:
        """The state that `tensors()` and `metadata()` were taken from."""
        data = json.loads(metadata["fyc_state"])
        values = {name: _unpack(item, tensors) for name, item in data["values"].items()}
        return cls(data["inputs"], values, data["position"], _unpack(data["output"], tensors))

    def _pack(self) -> tuple[dict[str, Tensor], dict[str, str]]:
        tensors: dict[str, Tensor] = {}
        values = {name: _pack(value, name, tensors) for name, value in self.values.items()}
        output = _pack(self.output, "output", tensors)
        data = {"inputs": self.inputs, "position": self.position, "values": values, "output": output}
        return _separate(tensors), {"fyc_state": json.dumps(data)}


def _pack(value: Any, name: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        tensors[name] = value.detach()
        return {"tensor": name}
    if value is None or isinstance(value, bool | int | float | str):
        return {"value": value}
    if isinstance(value, tuple | list):
        kind = "list" if isinstance(value, list) else "size" if isinstance(value, torch.Size) else "tuple"
        return {kind: [_pack(v, f"{name}.{i}", tensors) for i, v in enumerate(value)]}
    if isinstance(value, dict):
        return {"dict": {k: _pack(v, f"{name}.{k}", tensors) for k, v in value.items()}}
    if isinstance(value, torch.dtype):
        return {"dtype": str(value).removeprefix("torch.")}
    if isinstance(value, torch.device):
        return {"device": str(value)}
    raise TraceError(
        "FYC-G08",
        f"a {type(value).__name__} cannot be saved between two blocks",
        where=name,
        next="run without a cache",
    )


def _unpack(item: Any, tensors: Mapping[str, Tensor]) -> Any:
    ((kind, content),) = item.items()
    match kind:
        case "tensor":
            return tensors[content]
        case "dict":
            return {k: _unpack(v, tensors) for k, v in content.items()}
        case "tuple" | "list" | "size":
            parts = [_unpack(v, tensors) for v in content]
            return {"tuple": tuple, "list": list, "size": torch.Size}[kind](parts)
        case "dtype":
            return getattr(torch, content)
        case "device":
            return torch.device(content)
    return content


def _separate(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    seen: set[int] = set()
    result = {}
    for name, tensor in tensors.items():
        own = tensor.contiguous()
        storage = own.untyped_storage().data_ptr()
        if storage in seen or own.untyped_storage().nbytes() != own.nbytes:
            own = own.clone()
        seen.add(own.untyped_storage().data_ptr())
        result[name] = own
    return result

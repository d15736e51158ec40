"""Finding a model's blocks by structure, describing that structure, and copying a model to the meta device."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.pytorch_utils import Conv1D

from fyc.ir.layer_index import LayerIndex
from fyc.ir.ops import INDEX_ATTRIBUTES

_SCALARS = (bool, int, float, str, type(None), torch.dtype)


def find_blocks(model: nn.Module) -> list[str]:
    """Module paths of the repeated blocks of `model`, in definition order.

    A block is a member of a ModuleList whose members all have one class, or are all `GradientCheckpointingLayer`s, and
    hold a linear layer or a stack of expert weights. Outermost lists win, except that a member which only wraps
    further lists gives way to what it wraps. Names play no part.
    """
    found: list[str] = []
    _search(model, "", found, set())
    return found


def _search(module: nn.Module, path: str, found: list[str], seen: set[int]) -> None:
    for name, child in module.named_children():
        where = f"{path}.{name}" if path else name
        if isinstance(child, nn.ModuleList) and _repeats(list(child)):
            for index, member in enumerate(child):
                if id(member) not in seen:
                    seen.add(id(member))
                    found.append(f"{where}.{index}")
        else:
            _search(child, where, found, seen)


def _repeats(members: list[nn.Module]) -> bool:
    if not members or any(next(m.children(), None) is None for m in members):
        return False
    checkpointed = all(isinstance(m, GradientCheckpointingLayer) for m in members)
    if not checkpointed and len({type(m) for m in members}) != 1:
        return False
    if not checkpointed and all(isinstance(c, nn.ModuleList) for m in members for c in m.children()):
        return False
    return all(any(_has_weights(m) for m in member.modules()) for member in members)


def _has_weights(module: nn.Module) -> bool:
    if isinstance(module, nn.Linear | Conv1D):
        return True
    return any(p.dim() >= 3 for p in module.parameters(recurse=False))


def to_meta(model: nn.Module) -> nn.Module:
    """A copy of `model` with all parameters, buffers and tensor attributes on the meta device (shared ones stay so)."""
    memo: dict[int, Any] = {}
    for module in model.modules():
        for tensor in _tensors(module):
            if id(tensor) not in memo:
                memo[id(tensor)] = _meta(tensor)
    return copy.deepcopy(model, memo)


def _tensors(module: nn.Module) -> Iterator[Tensor]:
    yield from (p for p in module._parameters.values() if p is not None)
    yield from (b for b in module._buffers.values() if b is not None)
    yield from (value for value in vars(module).values() if isinstance(value, Tensor))


def _meta(tensor: Tensor) -> Tensor:
    empty = torch.empty_like(tensor, device="meta", requires_grad=False)
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(empty, requires_grad=tensor.requires_grad)
    return empty


def watch_layer_index(model: nn.Module) -> None:
    """Replace integer layer indices by ones that notice when a graph comes to depend on them."""
    for module in model.modules():
        for name in INDEX_ATTRIBUTES & vars(module).keys():
            value = vars(module)[name]
            if type(value) is int:
                setattr(module, name, LayerIndex(value))


def forget_layer_index(model: nn.Module) -> None:
    """Mark all layer indices of `model` as unused."""
    for index in _indices(model):
        index.used = False


def depends_on_layer_index(model: nn.Module) -> bool:
    """Whether code that ran since `forget_layer_index` computed with a layer index."""
    return any(index.used for index in _indices(model))


def _indices(model: nn.Module) -> Iterator[LayerIndex]:
    for module in model.modules():
        yield from (v for v in vars(module).values() if isinstance(v, LayerIndex))


def structure(layer: nn.Module) -> str:
    """Digest of what decides a layer's graph: classes, child tree, shapes, dtypes and scalar attributes."""
    return hashlib.sha256(json.dumps(_describe(layer), sort_keys=True).encode()).hexdigest()


def _describe(module: nn.Module) -> dict[str, Any]:
    scalars = {name: _plain(value) for name, value in vars(module).items() if _counts(name)}
    tensors = {
        name: None if t is None else [list(t.shape), str(t.dtype)]
        for store in (module._parameters, module._buffers)
        for name, t in store.items()
    }
    cls = type(module)
    return {
        "class": f"{cls.__module__}.{cls.__qualname__}",
        "scalars": scalars,
        "tensors": tensors,
        "children": [[name, _describe(child)] for name, child in module.named_children()],
    }


def _counts(name: str) -> bool:
    return not name.startswith("_") and name not in INDEX_ATTRIBUTES and name != "training"


def _plain(value: Any) -> Any:
    if isinstance(value, float | torch.dtype):
        return repr(value)
    if isinstance(value, _SCALARS):
        return value
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    name = getattr(value, "__qualname__", None)
    return f"{value.__module__}.{name}" if name else type(value).__qualname__

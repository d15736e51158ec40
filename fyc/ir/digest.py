"""Structural digests of graphs: equal for equal computations, whatever the nodes are called."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import torch
from torch import fx

from fyc.ir import allowlist, ops


def digest(graph: fx.Graph, *, ignore_dropout: bool = False) -> str:
    """SHA-256 of the graph's structure; the same in every process. Node names do not count, argument names do.

    Args:
        graph: the graph.
        ignore_dropout: leave out the attention dropout, which an evaluation-mode trace sees as 0.
    """
    index = {node: i for i, node in enumerate(graph.nodes)}
    lines = []
    for node in graph.nodes:
        kwargs = dict(node.kwargs)
        if ignore_dropout and node.target is ops.attention:
            kwargs.pop("dropout", None)
        lines.append([node.op, target_name(node.target), encode(node.args, index), encode(kwargs, index)])
    return hashlib.sha256(json.dumps(lines, sort_keys=True).encode()).hexdigest()


def target_name(target: str | Callable[..., Any]) -> str:
    """A target as text: the module path or method itself, a function as module:name."""
    if isinstance(target, str):
        return target
    known = allowlist.function_name(target)
    if known is not None:
        return known
    return f"{target.__module__}:{getattr(target, '__qualname__', getattr(target, '__name__', repr(target)))}"


def encode(value: Any, index: dict[fx.Node, int]) -> Any:
    """An argument as JSON-able data that tells all different arguments apart."""
    if isinstance(value, fx.Node):
        return {"node": index[value]}
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return {"float": value.hex()}
    if isinstance(value, tuple | list):
        return {type(value).__name__.removeprefix("immutable_"): [encode(v, index) for v in value]}
    if isinstance(value, dict):
        return {"dict": [[k, encode(v, index)] for k, v in value.items()]}
    if isinstance(value, slice):
        return {"slice": [encode(v, index) for v in (value.start, value.stop, value.step)]}
    if isinstance(value, torch.dtype | torch.device | torch.layout | torch.memory_format) or value is ...:
        return {"const": repr(value)}
    return {"object": target_name(value) if callable(value) else repr(type(value))}

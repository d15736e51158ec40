"""Structural digests of graphs: equal for equal computations, whatever the names and the order of the nodes."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import fx

from fyc.ir import allowlist, ops
from fyc.ir.effects import has_effect, mutates


def digest(graph: fx.Graph, *, ignore_dropout: bool = False) -> str:
    """SHA-256 of the graph's structure; the same in every process. Node names do not count, argument names do.

    A node's hash is made of its target and the hashes of its inputs, so the order of independent nodes does not count
    either, unless the graph changes a tensor in place.

    Args:
        graph: the graph.
        ignore_dropout: leave out the attention dropout, which an evaluation-mode trace sees as 0.
    """
    hashes: dict[fx.Node, str] = {}
    seen: Counter[str] = Counter()
    for node in graph.nodes:
        kwargs = dict(node.kwargs)
        if ignore_dropout and node.target is ops.attention:
            kwargs.pop("dropout", None)
        line = [node.op, target_name(node.target), encode(node.args, hashes), encode(kwargs, hashes)]
        plain = _sha(line)
        # Two calls of one dropout are not one call used twice.
        hashes[node] = _sha([plain, seen[plain]]) if node.op == "call_module" or node.target is ops.dropout else plain
        seen[plain] += 1
    if any(mutates(node) for node in graph.nodes):
        return _sha([own for node, own in hashes.items() if node.op != "get_attr"])
    return _sha([hashes[node] for node in graph.nodes if has_effect(node)])


def _sha(data: Any) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def target_name(target: str | Callable[..., Any]) -> str:
    """A target as text: the module path or method itself, a function as module:name."""
    if isinstance(target, str):
        return target
    known = allowlist.function_name(target)
    if known is not None:
        return known
    return f"{target.__module__}:{getattr(target, '__qualname__', getattr(target, '__name__', repr(target)))}"


def encode(value: Any, hashes: dict[fx.Node, str]) -> Any:
    """An argument as JSON-able data that tells all different arguments apart."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, tuple | list):
        return {"list" if isinstance(value, list) else "tuple": [encode(v, hashes) for v in value]}
    if isinstance(value, dict):
        return {"dict": [[k, encode(v, hashes)] for k, v in value.items()]}
    if isinstance(value, slice):
        return {"slice": [encode(v, hashes) for v in (value.start, value.stop, value.step)]}
    return _leaf(value, hashes)


def _leaf(value: Any, hashes: dict[fx.Node, str]) -> dict[str, str]:
    if isinstance(value, fx.Node):
        return {"node": hashes[value]}
    if isinstance(value, float):
        return {"float": value.hex()}
    if isinstance(value, torch.dtype | torch.device | torch.layout | torch.memory_format) or value is ...:
        return {"const": repr(value)}
    return {"object": target_name(value) if callable(value) else repr(type(value))}

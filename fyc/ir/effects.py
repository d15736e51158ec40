"""Which nodes do something besides computing their value."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, fx

from fyc.ir import ops

_MUTATIONS = frozenset({operator.setitem, operator.iadd, operator.isub, operator.imul, operator.itruediv}) | {
    getattr(operator, name) for name in ("ifloordiv", "imod", "ipow", "iand", "ior", "ixor", "imatmul")
}
_EFFECTS = frozenset({ops.cache_update, ops.cross_cache_update, ops.require})


def has_effect(node: fx.Node) -> bool:
    """Whether a node must stay although nobody uses its value."""
    return node.op in ("placeholder", "output") or node.target in _EFFECTS or mutates(node)


def mutates(node: fx.Node) -> bool:
    """Whether a node changes a tensor in place."""
    return changes(node.op, node.target, node.args, node.kwargs)


def changes(op: str, target: str | Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether a call changes a tensor in place, by its name, `inplace` or `out`; what a module does cannot be seen."""
    if op == "call_method":
        name = str(target)
    elif op == "call_function":
        if target in _MUTATIONS or kwargs.get("out") is not None or _inplace(target, args, kwargs):
            return True
        name = getattr(target, "__name__", "")
    else:
        return False
    return name.endswith("_") and not name.endswith("__")


def _inplace(target: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    """Whether the argument `inplace` is given and not False, by name or by position."""
    code = getattr(target, "__code__", None)
    names = code.co_varnames[: code.co_argcount] if code is not None else ()
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    return given.get("inplace", False) is not False


def versions(*arguments: Any) -> list[int]:
    """The counters of the tensors in nested call arguments; each change in place raises them, also through views."""
    found: list[int] = []

    def note(value: Any) -> None:
        if isinstance(value, Tensor) and not value.is_inference():
            found.append(value._version)

    fx.node.map_aggregate(arguments, note)
    return found


def remove_dead(graph: fx.Graph) -> None:
    """Erase nodes whose value nobody uses and that have no effect."""
    for node in reversed(list(graph.nodes)):
        if not node.users and not has_effect(node):
            graph.erase_node(node)

"""Which nodes do something besides computing their value."""

from __future__ import annotations

import operator

from torch import fx

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
    if node.op == "call_method":
        name = str(node.target)
    elif node.op == "call_function":
        if node.target in _MUTATIONS:
            return True
        name = getattr(node.target, "__name__", "")
    else:
        return False
    return name.endswith("_") and not name.endswith("__")


def remove_dead(graph: fx.Graph) -> None:
    """Erase nodes whose value nobody uses and that have no effect."""
    for node in reversed(list(graph.nodes)):
        if not node.users and not has_effect(node):
            graph.erase_node(node)

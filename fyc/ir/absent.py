"""Checking that a trace with a mask and a cache also holds when they are None."""

from __future__ import annotations

import operator
from typing import Any

from torch import fx

from fyc.ir import ops
from fyc.ir.effects import remove_dead

_UPDATES = (ops.cache_update, ops.cross_cache_update)


def without(graph: fx.Graph, names: frozenset[str]) -> fx.Graph:
    """Simplify `graph`, in place, for the inputs `names` being None: what the graph then computes at run time."""
    absent = {node for node in graph.nodes if node.op == "placeholder" and node.target in names}
    for node in list(graph.nodes):
        if node.op == "call_function":
            _simplify(node, absent)
    for node in absent:
        for user in list(node.users):
            user.args = fx.node.map_arg(user.args, lambda n: None if n in absent else n)
            user.kwargs = fx.node.map_arg(user.kwargs, lambda n: None if n in absent else n)
    remove_dead(graph)
    for node in reversed(list(graph.nodes)):
        if node.target in _UPDATES and node.args[1] is None and not node.users:
            graph.erase_node(node)
    remove_dead(graph)
    return graph


def _simplify(node: fx.Node, absent: set[fx.Node]) -> None:
    args: tuple[Any, ...] = node.args
    if node.target in (ops.add_optional, ops.masked_fill_optional) and args[1] in absent:
        node.replace_all_uses_with(args[0])
    elif node.target is operator.add and any(_is_zero(a, absent) for a in args):
        node.replace_all_uses_with(next(a for a in args if not _is_zero(a, absent)))
    elif node.target is operator.getitem and isinstance(args[0], fx.Node) and args[1] in (0, 1):
        source = args[0]
        if source.target in _UPDATES and source.args[1] in absent:
            node.replace_all_uses_with(source.args[2 + args[1]])


def _is_zero(value: Any, absent: set[fx.Node]) -> bool:
    if isinstance(value, fx.Node):
        return value.target is ops.cache_length and value.args[0] in absent
    return type(value) is int and value == 0

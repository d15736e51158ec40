"""Putting the nodes of a graph into an order that depends on the graph alone."""

from __future__ import annotations

from torch import fx

from fyc.ir.effects import mutates
from fyc.ir.new_graph import new_graph


def reorder(graph: fx.Graph) -> fx.Graph:
    """The same graph with every node right before what needs it first, and with names that follow this order.

    Model code that loops over a set would otherwise give nodes other names in each process, and a stored state of one
    process could not be continued by another. A graph that changes tensors in place is left as it is.
    """
    if any(mutates(node) for node in graph.nodes):
        return graph
    made: dict[fx.Node, fx.Node] = {}
    ordered = new_graph()
    waiting = [(node, False) for node in reversed(graph.nodes) if node.op == "placeholder"]
    waiting.insert(0, (graph.output_node(), False))
    while waiting:
        node, ready = waiting.pop()
        if node in made:
            continue
        if not ready:
            waiting.append((node, True))
            waiting.extend((source, False) for source in reversed(node.all_input_nodes))
            continue
        args = fx.node.map_arg(node.args, lambda n: made[n])
        kwargs = fx.node.map_arg(node.kwargs, lambda n: made[n])
        name = node.name if node.op == "placeholder" else None
        made[node] = ordered.create_node(node.op, node.target, args, kwargs, name)
        made[node].meta = dict(node.meta)
    return ordered

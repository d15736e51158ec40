"""How every graph of fyc begins."""

from __future__ import annotations

from torch import fx


def new_graph() -> fx.Graph:
    """An empty graph in which no node can be called `self`, which generated code needs."""
    graph = fx.Graph()
    graph._graph_namespace.create_name("self", None)
    return graph

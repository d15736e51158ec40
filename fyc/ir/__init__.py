"""The intermediate representation: a model graph, one graph per distinct block, and binding them to live layers."""

from fyc.ir.bind import bind, is_bound, unbind
from fyc.ir.block_graph import BlockGraph
from fyc.ir.blocks import find_blocks
from fyc.ir.model_graph import BlockCall, ModelGraph, trace_model
from fyc.ir.state import State

__all__ = [
    "BlockCall",
    "BlockGraph",
    "ModelGraph",
    "State",
    "bind",
    "find_blocks",
    "is_bound",
    "trace_model",
    "unbind",
]

"""The intermediate representation: a model graph, one graph per distinct block, and binding them to live layers."""

from fyc.ir.bind import bind, is_bound, unbind
from fyc.ir.block_graph import BlockGraph
from fyc.ir.blocks import find_blocks
from fyc.ir.groups import LinearGroup, linear_groups
from fyc.ir.model_graph import BlockCall, ModelGraph
from fyc.ir.state import State
from fyc.ir.trace_model import trace_model

__all__ = [
    "BlockCall",
    "BlockGraph",
    "LinearGroup",
    "ModelGraph",
    "State",
    "bind",
    "find_blocks",
    "is_bound",
    "linear_groups",
    "trace_model",
    "unbind",
]

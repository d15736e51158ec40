"""Giving a Hugging Face layer a graph's code as its forward, in place, and taking it back."""

from __future__ import annotations

import copy
import linecache
import types
from collections.abc import Callable
from typing import Any, NoReturn

from torch import nn

from fyc.errors import ArtifactError, TraceError
from fyc.ir import ops
from fyc.ir.block_graph import BlockGraph

# One function per distinct source text, so that equal layers share code (and torch.compile its cache).
_FORWARDS: dict[tuple[str, str], Callable[..., Any]] = {}


def bind(layer: nn.Module, graph: BlockGraph) -> None:
    """Make `layer` compute `graph`. The object, its parameters, hooks and `isinstance` stay as they are.

    The layer's class is replaced by a subclass of the same name whose `forward` is the graph's generated code. An
    opaque graph leaves the layer alone. A bound layer cannot be pickled: its class could not be found again.

    The graph calls the block's leaf modules. Modules in between (an attention or MLP module) are no longer called
    themselves, so hooks on them do not fire; `output_attentions` works all the same.

    Raises:
        TraceError: FYC-G07 when the graph does not fit the layer.
    """
    unbind(layer)
    if graph.opaque:
        return
    graph.lint(layer)
    base = type(layer)
    layer.__class__ = types.new_class(base.__name__, (base,), {}, lambda body: body.update(_body(base, graph)))


def unbind(layer: nn.Module) -> None:
    """Give the layer its own class back.

    Raises:
        TraceError: FYC-G07 when something else (FSDP, for example) changed the layer's class after `bind`.
    """
    if is_bound(layer):
        if "_fyc_base" not in vars(type(layer)):
            raise TraceError(
                "FYC-G07",
                f"the class of {type(layer).__name__} was changed after fyc had bound it",
                next="bind and unbind before wrapping the model",
            )
        layer.__class__ = vars(type(layer))["_fyc_base"]


def is_bound(layer: nn.Module) -> bool:
    """Whether `bind` changed this layer."""
    return hasattr(type(layer), "_fyc_base")


def bound_graph(layer: nn.Module) -> BlockGraph:
    """The graph that a bound layer computes."""
    graph: BlockGraph = type(layer).fyc_graph  # type: ignore[attr-defined]
    return graph


def _body(base: type[nn.Module], graph: BlockGraph) -> dict[str, Any]:
    return {
        "__module__": base.__module__,
        "__qualname__": base.__qualname__,
        "__doc__": base.__doc__,
        "_fyc_base": base,
        "fyc_graph": graph,
        ops.SELF: property(lambda self: self),
        "forward": forward_of(graph),
        "__deepcopy__": _deepcopy,
        "__copy__": _copy,
        "__reduce_ex__": _refuse_pickle,
    }


def forward_of(graph: BlockGraph) -> Callable[..., Any]:
    """The graph as a python function `forward(self, ...)`."""
    code = graph.graph.python_code("self")
    key = (code.src, repr(sorted((name, id(value)) for name, value in code.globals.items())))
    if key not in _FORWARDS:
        name = f"<fyc block {graph.digest[:16]} {len(_FORWARDS)}>"
        namespace = dict(code.globals)
        exec(compile(code.src, name, "exec"), namespace)
        linecache.cache[name] = (len(code.src), None, code.src.splitlines(keepends=True), name)
        _FORWARDS[key] = namespace["forward"]
    return _FORWARDS[key]


def _deepcopy(self: nn.Module, memo: dict[int, Any]) -> nn.Module:
    new = type(self).__new__(type(self))
    memo[id(self)] = new
    vars(new).update(copy.deepcopy(vars(self), memo))
    return new


def _copy(self: nn.Module) -> nn.Module:
    new = type(self).__new__(type(self))
    vars(new).update(vars(self))
    return new


def _refuse_pickle(self: nn.Module, protocol: Any) -> NoReturn:
    raise ArtifactError(
        "FYC-A08",
        f"a converted {type(self).__name__} cannot be pickled",
        why="pickle would load the original class and silently drop what was done to the block",
        next="keep the artifact folder and load it with fyc.load(folder); a state_dict is fine too",
    )

"""Running a graph that nobody vouches for: the size of every value is known before memory is taken for it."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn

from fyc.errors import FycError
from fyc.ir import interpreter, serialize
from fyc.ir.block_graph import BlockGraph

#: A value may have this many elements, or `_FACTOR` times those of the largest tensor of the block and its arguments.
_ELEMENTS = 2**26
_FACTOR = 8
#: All values that are alive at a time may have this many times what one may have.
_ALIVE = 4
_ARITHMETIC = frozenset(
    {operator.mul, operator.imul, operator.mod, operator.imod, operator.pow, operator.lshift, round}
)
#: Functions whose result grows with the value of their second argument.
_GROWING = frozenset({operator.pow, operator.lshift, round})
_LARGEST_EXPONENT = 64
#: A value that a run without data does not have.
UNKNOWN: Any = object()
_INT64 = 2**63


def run_limited(graph: BlockGraph, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Interpret `graph` on `module`; before a function or method runs, its result is computed on meta tensors.

    What the ops of `fyc.ir` and the modules that the graph calls do is not limited: that is the code of fyc, of
    transformers and of the passes, on values that were checked.

    With everything on the meta device, what cannot be computed without data (experts, a kernel that looks at its
    weights) is `UNKNOWN`, and so is what follows from it; all else is checked.

    Raises:
        ArtifactError: FYC-A07 for a value that is far larger than the block's own tensors.
        Exception: whatever a node raises, also one whose size depends on data.
    """
    nodes = list(graph.graph.nodes)
    env = interpreter.bind_arguments(graph.graph, args, kwargs)
    tensors = [*module.parameters(), *module.buffers(), *_tensors((args, kwargs))]
    limit = max([_ELEMENTS, *(_FACTOR * tensor.numel() for tensor in tensors)])
    meta = all(tensor.is_meta for tensor in tensors)
    dying = interpreter.last_uses(nodes)
    alive: dict[str, int] = {}
    for node in nodes:
        if any(env.get(source.name) is UNKNOWN for source in node.all_input_nodes):
            value = UNKNOWN
        else:
            try:
                value = _value(node, module, env, limit, meta)
            except FycError:
                raise
            except Exception:
                if not meta:
                    raise
                value = UNKNOWN
        if node.op == "output":
            return value
        env[node.name] = value
        for dead in dying.get(node, ()):
            env.pop(dead.name, None)
        alive = {name: alive[name] if name in alive else _elements(held) for name, held in env.items()}
        if sum(alive.values()) > _ALIVE * limit:
            raise serialize.refuse("it keeps far more than the block's own tensors in memory", node.name)
    return None


def _value(node: fx.Node, module: nn.Module, env: dict[str, Any], limit: int, meta: bool) -> Any:
    if node.op == "placeholder":
        return env[node.name]
    if node.op not in ("call_function", "call_method") or getattr(node.target, "__module__", "") == "fyc.ir.ops":
        return interpreter.evaluate(node, module, env)
    called = interpreter.arguments(node, module, env)
    _check_value(called, limit, node.name)
    foreseen = _foreseen(node, *called)
    _check_value(foreseen, limit, node.name)
    return foreseen if meta else interpreter.apply(node, *called)


def _foreseen(node: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What a node gives for these arguments, computed with meta tensors in the place of tensors."""
    args, kwargs = _on_meta(args), _on_meta(kwargs)
    if "device" in kwargs:
        kwargs["device"] = torch.device("meta")
    if node.target in _ARITHMETIC:
        _check_arithmetic(node, [*args, *kwargs.values()])
    with torch.device("meta"), torch.no_grad():
        return interpreter.apply(node, args, kwargs)


def _on_meta(value: Any) -> Any:
    if type(value) in (tuple, list):
        return type(value)(_on_meta(item) for item in value)
    if type(value) is dict:
        return {key: _on_meta(item) for key, item in value.items()}
    if isinstance(value, torch.device):
        return torch.device("meta")
    return value.to("meta") if isinstance(value, Tensor) else value


def _check_arithmetic(node: fx.Node, values: list[Any]) -> None:
    """Refuse what python itself would spend all memory on: `[0] * 2**40`, `10 ** 10**9`, `"%1000000000d" % 1`."""
    if not all(isinstance(value, Tensor | int | float | complex) for value in values):
        raise serialize.refuse("it computes with something that is no number", node.name)
    if node.target in _GROWING and any(isinstance(v, int) and abs(v) > _LARGEST_EXPONENT for v in values[1:]):
        raise serialize.refuse(f"an exponent beyond {_LARGEST_EXPONENT}", node.name)


def _check_value(value: Any, limit: int, name: str) -> None:
    for count, item in enumerate(_leaves(value)):
        size = item.numel() if isinstance(item, Tensor) else len(item) if isinstance(item, str) else 1
        if size > limit or count > serialize.MAX_ITEMS:
            raise serialize.refuse("it makes a value far larger than the block's own tensors", name)
        if isinstance(item, int) and not -_INT64 <= item < _INT64:
            raise serialize.refuse("it makes a number beyond 64 bits", name)


def _elements(value: Any) -> int:
    return sum(tensor.numel() for tensor in _tensors(value))


def _tensors(value: Any) -> list[Tensor]:
    return [item for item in _leaves(value) if isinstance(item, Tensor)]


def _leaves(value: Any) -> Iterator[Any]:
    """Everything in a nest of tuples, lists and dicts that is none of them."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, tuple | list):
        for item in value:
            yield from _leaves(item)
    else:
        yield value

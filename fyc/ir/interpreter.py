"""Running graphs node by node, releasing each value after its last use."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from torch import Tensor, fx, nn

from fyc.errors import TraceError
from fyc.ir import ops

OnNode = Callable[[fx.Node, Any], Any]


def fetch(module: nn.Module, path: str) -> Any:
    """The submodule, parameter or tensor at a dotted path; `ops.SELF` is the module itself.

    Raises:
        AttributeError: there is none; in particular, what is neither a module nor a tensor is not found.
    """
    if path == ops.SELF:
        return module
    *parents, last = path.split(".")
    owner = module
    for name in parents:
        owner = owner._modules.get(name)  # type: ignore[assignment]
        if owner is None:
            raise AttributeError(f"no module {name} on the path {path}")
    value = getattr(owner, last)
    if not isinstance(value, nn.Module | Tensor):
        raise AttributeError(f"{path} is a {type(value).__name__}, not a module or a tensor")  # noqa: TRY004
    return value


def lookup(node: fx.Node, module: nn.Module, env: dict[str, Any]) -> Any:
    """The value of a node; attributes need not be in `env`."""
    if node.op == "get_attr" and node.name not in env:
        return fetch(module, str(node.target))
    return env[node.name]


def evaluate(node: fx.Node, module: nn.Module, env: dict[str, Any]) -> Any:
    """Compute one node from the values in `env` (by node name)."""
    if node.op == "get_attr":
        return fetch(module, str(node.target))
    args, kwargs = arguments(node, module, env)
    if node.op == "output":
        return args[0]
    if node.op == "call_module":
        return fetch(module, str(node.target))(*args, **kwargs)
    return apply(node, args, kwargs)


def arguments(node: fx.Node, module: nn.Module, env: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What a node is called with, from the values in `env`."""

    def load(argument: Any) -> Any:
        return thaw(fx.node.map_arg(argument, lambda n: lookup(n, module, env)))

    return load(node.args), load(node.kwargs)


def apply(node: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call the function or method of a node."""
    if node.op == "call_method":
        return getattr(args[0], str(node.target))(*args[1:], **kwargs)
    return node.target(*args, **kwargs)  # type: ignore[operator]


def thaw(value: Any) -> Any:
    """fx's immutable lists and dicts as plain ones; everything else unchanged."""
    if type(value) is tuple:
        return tuple(thaw(v) for v in value)
    if isinstance(value, list):
        return [thaw(v) for v in value]
    if isinstance(value, dict) and type(value).__module__.startswith("torch.fx"):
        return {k: thaw(v) for k, v in value.items()}
    return value


def last_uses(nodes: Sequence[fx.Node]) -> dict[fx.Node, list[fx.Node]]:
    """For each node the nodes whose value is needed for the last time there (its own, if nobody needs it)."""
    last: dict[fx.Node, fx.Node] = {}
    for node in nodes:
        last[node] = node
        for used in node.all_input_nodes:
            last[used] = node
    dying: dict[fx.Node, list[fx.Node]] = {}
    for node, user in last.items():
        dying.setdefault(user, []).append(node)
    return dying


def run(
    nodes: Iterable[fx.Node],
    module: nn.Module,
    env: dict[str, Any],
    dying: dict[fx.Node, list[fx.Node]],
    on_node: OnNode | None = None,
) -> Any:
    """Run `nodes` in order, updating `env`; returns the value of the output node if it is among them."""
    for node in nodes:
        value = env[node.name] if node.op == "placeholder" else evaluate(node, module, env)
        if on_node is not None:
            replaced = on_node(node, value)
            value = value if replaced is None else replaced
        if node.op == "output":
            return value
        env[node.name] = value
        for dead in dying.get(node, ()):
            env.pop(dead.name, None)
    return None


def bind_arguments(graph: fx.Graph, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Values of the graph's placeholders for a call, by node name. Raises TraceError FYC-G05 when they do not fit."""
    env: dict[str, Any] = {}
    rest = dict(kwargs)
    given = list(args)
    for node in graph.nodes:
        if node.op != "placeholder":
            continue
        target = str(node.target)
        if target.startswith("**"):
            env[node.name] = rest
            rest = {}
        elif given:
            env[node.name] = given.pop(0)
            if target in rest:
                raise _misfit(f"argument {target} is given twice")
        elif target in rest:
            env[node.name] = rest.pop(target)
        elif node.args:
            env[node.name] = node.args[0]
        else:
            raise _misfit(f"argument {target} is missing")
    if given or rest:
        raise _misfit(f"unexpected arguments: {len(given)} positional, {sorted(rest)}")
    return env


def _misfit(why: str) -> TraceError:
    return TraceError("FYC-G05", "the arguments do not fit the block's graph", why=why)

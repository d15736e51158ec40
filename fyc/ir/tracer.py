"""The tracer: runs a module's forward on value-carrying proxies and records a torch.fx graph."""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from inspect import Parameter
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.fx.proxy import Scope

from fyc.errors import FycError, TraceError
from fyc.ir import ops, refusals
from fyc.ir.block_graph import Read
from fyc.ir.caches import CacheView, cache_attribute
from fyc.ir.effects import changes, remove_dead, versions
from fyc.ir.layer_index import LayerIndex
from fyc.ir.marker import Marker, MarkerRefusedError
from fyc.ir.new_graph import new_graph
from fyc.ir.patches import FACTORIES, tracing
from fyc.ir.proxy import ValueProxy

_ADDITIONS = {operator.add, operator.iadd, torch.add, "add"}
LeafRule = Callable[[nn.Module], bool | None]

_PLAIN = (str, int, float, bool, complex, torch.dtype, torch.device, torch.layout, torch.memory_format, type(None))


def default_leaf(module: nn.Module) -> bool:
    """Whether a module is recorded as one node: no children, a torch.nn module, or a holder of 3-D expert weights."""
    if isinstance(module, nn.Sequential | nn.ModuleList | nn.ModuleDict):
        return False
    if next(module.children(), None) is None or type(module).__module__.startswith("torch.nn"):
        return True
    return _holds_experts(module)


def _holds_experts(module: nn.Module) -> bool:
    return any(p.dim() >= 3 for p in module.parameters(recurse=False))


class ValueTracer(fx.Tracer):
    """Records what `module.forward` does. Not re-usable: one tracer, one graph.

    Args:
        root: the module to trace; its parameters must be on the meta device.
        is_leaf: rule asked before `default_leaf`; None means "no opinion". A module that the rule makes a leaf and
            whose output shape depends on data is taken to return a tensor like the first one it is given.
    """

    def __init__(self, root: nn.Module, is_leaf: LeafRule | None = None) -> None:
        super().__init__()
        self.root = root
        self.graph = new_graph()
        self.scope = Scope("", None)
        self.node_name_to_scope = {}
        self.is_leaf_rule = is_leaf
        self.active = False
        self.stack: list[tuple[str, nn.Module]] = [("", root)]
        self.paths: dict[int, str] = {id(m): name for name, m in root.named_modules()}
        self.reads: list[Read] = []
        self.uses_layer_index = False
        self.optional_used = False
        self.guarded: set[str] = set()
        self._attributes: dict[str, ValueProxy] = {}

    # -- running ------------------------------------------------------------------------------------------------

    def placeholder(self, name: str, value: Any, default: Any = Parameter.empty) -> ValueProxy:
        """Add a placeholder that stands for `value`."""
        args = () if default is Parameter.empty else (default,)
        node = self.graph.create_node("placeholder", name, args, {}, name=name.lstrip("*"))
        node.meta["val"] = value
        return ValueProxy(node, self)

    def record(self, function: Callable[[], Any]) -> Any:
        """Call `function` with all patches in place and finish the graph with what it returns."""
        with tracing(self), torch.inference_mode(False), torch.no_grad():
            self.active = True
            try:
                result = function()
                node = self.graph.output(self.create_arg(result))
                node.meta["val"] = self.values(result)
            except (FycError, MarkerRefusedError):
                raise
            except Exception as error:
                raise refusals.foreign(self.path, error) from error
            finally:
                self.active = False
        remove_dead(self.graph)
        return node.meta["val"]

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Nothing is recorded inside."""
        before, self.active = self.active, False
        try:
            yield
        finally:
            self.active = before

    # -- modules ------------------------------------------------------------------------------------------------

    def call(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What `module(*args, **kwargs)` does while tracing."""
        path = self.paths.get(id(module))
        if path is not None and self.leaf(module):
            return self.create_proxy("call_module", path, args, kwargs)
        self.stack.append((self.path if path is None else path, module))
        try:
            return self.plain_forward(module)(*args, **kwargs)
        finally:
            self.stack.pop()

    def leaf(self, module: nn.Module) -> bool:
        """Whether the module becomes one node."""
        opinion = self.is_leaf_rule(module) if self.is_leaf_rule is not None else None
        return default_leaf(module) if opinion is None else opinion

    @staticmethod
    def plain_forward(module: nn.Module) -> Callable[..., Any]:
        """The module's forward without transformers' gradient-checkpointing wrapper."""
        forward = type(module).forward
        if "forward" in vars(module):
            return module.forward
        while getattr(forward, "__name__", "") and forward.__code__.co_name == "forward_with_checkpointing":
            forward = forward.__wrapped__  # type: ignore[attr-defined]
        return forward.__get__(module)  # type: ignore[no-any-return]

    @property
    def path(self) -> str:
        """Path of the module whose forward is running."""
        return self.stack[-1][0]

    @property
    def module(self) -> nn.Module:
        """The module whose forward is running."""
        return self.stack[-1][1]

    def attribute(self, path: str, value: Any) -> ValueProxy:
        """The `get_attr` node of a parameter, buffer or module of the root."""
        if path not in self._attributes:
            node = self.graph.create_node("get_attr", path or ops.SELF, (), {})
            node.meta["val"] = value
            self._attributes[path] = ValueProxy(node, self)
        return self._attributes[path]

    def parameter(self, module: nn.Module, name: str, value: Tensor) -> Any:
        """What reading a parameter or buffer gives while tracing."""
        path = self.paths.get(id(module))
        if path is None:
            return value
        return self.attribute(f"{path}.{name}" if path else name, value)

    # -- nodes --------------------------------------------------------------------------------------------------

    def create_proxy(
        self, kind: str, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any], *unused: Any, **unused_too: Any
    ) -> Any:
        """Record one node. Returns a proxy, or None when the value is None."""
        if target is F.dropout:
            target, args, kwargs = self._dropout(*args, **kwargs)
        elif target in _ADDITIONS and len(args) == 2 and not kwargs:
            if self._is_optional(args[1]):
                kind, target = "call_function", ops.add_optional
            elif self._is_optional(args[0]):
                kind, target, args = "call_function", ops.add_optional, args[::-1]
        elif target in ("masked_fill", torch.masked_fill) and len(args) == 3 and self._is_optional(args[1]):
            kind, target = "call_function", ops.masked_fill_optional
        value = self.evaluate(kind, target, args, kwargs)
        return self.add(kind, target, args, kwargs, value)

    def add(self, kind: str, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any], value: Any) -> Any:
        """Record one node whose value is already known."""
        node = self.graph.create_node(kind, target, self.create_arg(args), self.create_arg(kwargs))
        node.meta.update(val=value, path=self.path, src=self.source())
        return None if value is None else ValueProxy(node, self)

    def _dropout(self, x: Any, p: float = 0.5, training: bool = True, inplace: bool = False) -> Any:
        del training  # read from the module at run time
        options = {"inplace": True} if inplace else {}
        return ops.dropout, (self.module, x, p), options

    def _is_optional(self, value: Any) -> bool:
        """Whether a value is a mask that may be None at run time, when model code skips what it does with it."""
        optional = type(value) is ValueProxy and bool(value.node.meta.get("optional"))
        self.optional_used = self.optional_used or optional
        return optional

    def evaluate(self, kind: str, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The value of a node, computed on meta tensors."""
        values, options = self.values(args), self.values(kwargs)
        before = versions(values, options)
        value = self._compute(kind, target, values, options)
        if versions(values, options) != before and not changes(kind, target, args, kwargs):
            raise self.unsupported(f"`{target}` changes its input in place, and a graph does not show it")
        return value

    def _compute(self, kind: str, target: Any, values: Any, options: Any) -> Any:
        with self.paused():
            try:
                if kind == "call_module":
                    return self._leaf_value(self.root.get_submodule(target), values, options)
                if kind == "call_method":
                    return getattr(values[0], target)(*values[1:], **options)
                if target in FACTORIES:
                    options["device"] = "meta"
                return target(*values, **options)
            except FycError:
                raise
            except Exception as error:
                raise refusals.shape(self.where(), target, error) from error

    def _leaf_value(self, module: nn.Module, args: Any, kwargs: Any) -> Any:
        try:
            return self.plain_forward(module)(*args, **kwargs)
        except Exception:
            hidden = next((a for a in (*args, *kwargs.values()) if isinstance(a, Tensor)), None)
            if hidden is None or not (self._asked_to_be_leaf(module) or _holds_experts(module)):
                raise
            # Routing tokens to experts needs data; what comes back has the shape of what went in.
            return torch.empty_like(hidden)

    def _asked_to_be_leaf(self, module: nn.Module) -> bool:
        return self.is_leaf_rule is not None and self.is_leaf_rule(module) is True

    def values(self, item: Any) -> Any:
        """`item` with every proxy replaced by its value."""
        if type(item) is ValueProxy:
            return item.node.meta["val"]
        if isinstance(item, CacheView):
            return item.as_argument().fyc_value
        if isinstance(item, Marker):
            raise MarkerRefusedError
        return _rebuild(item, self.values)

    def create_arg(self, a: Any) -> Any:
        """Turn an argument into what a node may hold."""
        if type(a) is ValueProxy:
            return a.node
        if isinstance(a, LayerIndex):
            self.uses_layer_index = True
            return int.__int__(a)
        if isinstance(a, _PLAIN) or a is ...:
            return a
        if isinstance(a, tuple | list | dict | slice | range):
            return _rebuild(tuple(a) if isinstance(a, tuple | range) else a, self.create_arg)
        if isinstance(a, CacheView):
            return a.as_argument().node
        return self._object_argument(a)

    def _object_argument(self, a: Any) -> Any:
        if isinstance(a, nn.Module) and id(a) in self.paths:
            return self.attribute(self.paths[id(a)], a).node
        if isinstance(a, Tensor):
            return self._tensor_argument(a)
        if isinstance(a, Marker):
            raise MarkerRefusedError
        return self.foreign_argument(a)

    def foreign_argument(self, a: Any) -> Any:
        """An argument that is no value a graph can hold."""
        raise self.unsupported(f"an argument of type {type(a).__name__}")

    def _tensor_argument(self, tensor: Tensor) -> fx.Node:
        for path, module in self.root.named_modules():
            for name, value in vars(module).items():
                if value is tensor:
                    return self.attribute(f"{path}.{name}" if path else name, tensor).node
        raise self.unsupported("a tensor that is neither computed from its inputs nor an attribute of a module")

    # -- caches and layer indices ---------------------------------------------------------------------------------

    def cache_attribute(self, cache: ValueProxy, name: str) -> Any:
        """An attribute of the key/value cache."""
        return cache_attribute(self, cache, name)

    def index_of(self, index: Any) -> tuple[nn.Module, str | int]:
        """Which module's attribute a layer index is: the module and the attribute, or the index itself."""
        for _, module in reversed(self.stack):
            for name in sorted(ops.INDEX_ATTRIBUTES & vars(module).keys()):
                own = vars(module)[name]
                if isinstance(own, int) and isinstance(index, int) and int.__eq__(own, index):
                    return module, name
        return self.module, index

    # -- what the model's code asked ------------------------------------------------------------------------------

    def specialise(self, what: str, value: Any, node: fx.Node | None = None) -> Any:
        """Note that model code turned a symbolic value into a plain one; returns the value."""
        self.reads.append(Read(self.where(), what, value))
        if node is not None and "guard" in node.meta:
            self.guard(node)
        return value

    def guard(self, node: fx.Node) -> None:
        """Make the graph refuse another value of an argument it was specialised to."""
        name, value = node.meta.pop("guard"), node.meta["val"]
        self.guarded.add(name)
        self.add("call_function", ops.require, (ValueProxy(node, self), value, name), {}, None)

    def data_error(self, construct: str) -> TraceError:
        """The error for control flow on tensor data."""
        return refusals.data(self.where(), construct)

    def unsupported(self, construct: str) -> TraceError:
        """The error for a construct that fyc does not know."""
        return refusals.construct(self.where(), construct)

    def source(self) -> str:
        """file:line of the model code that is running."""
        return refusals.running_line(sys._getframe(1))

    def where(self) -> str:
        """Module path and source line of the model code that is running."""
        return f"{self.path or '(root)'} at {self.source()}"


def _rebuild(item: Any, change: Callable[[Any], Any]) -> Any:
    """A copy of a nested container with `change` applied to its items; anything else unchanged."""
    if isinstance(item, tuple):
        parts = [change(x) for x in item]
        return type(item)(*parts) if hasattr(item, "_fields") else tuple(parts)
    if isinstance(item, list):
        return [change(x) for x in item]
    if isinstance(item, dict):
        return {key: change(x) for key, x in item.items()}
    if isinstance(item, slice):
        return slice(change(item.start), change(item.stop), change(item.step))
    return item

"""The tracer: runs a module's forward on value-carrying proxies and records a torch.fx graph."""

from __future__ import annotations

import operator
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import Parameter
from pathlib import Path
from typing import Any, NoReturn

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.fx.proxy import Scope

from fyc.errors import FycError, TraceError
from fyc.ir import ops
from fyc.ir.effects import remove_dead
from fyc.ir.layer_index import LayerIndex
from fyc.ir.patches import FACTORIES, tracing
from fyc.ir.caches import CacheValue, CacheView, cache_attribute
from fyc.ir.proxy import ValueProxy

_ADDITIONS = {operator.add, operator.iadd, torch.add, "add"}
LeafRule = Callable[[nn.Module], bool | None]

_OWN = (str(Path(__file__).parent), str(Path(torch.__file__).parent))
_PLAIN = (str, int, float, bool, complex, torch.dtype, torch.device, torch.layout, torch.memory_format, type(None))


class MarkerRefusedError(Exception):
    """The `**kwargs` marker reached something other than the attention op."""


class Marker:
    """Stands for the unnamed keyword arguments of a block while it is traced."""

    def __init__(self, proxy: ValueProxy) -> None:
        self.proxy = proxy


@dataclass(frozen=True)
class Read:
    """A place where model code turned a size or flag into a plain python value."""

    where: str
    what: str
    value: Any


def new_graph() -> fx.Graph:
    """An empty graph in which no node can be called `self`, which generated code needs."""
    graph = fx.Graph(tracer_cls=ValueTracer)
    graph._graph_namespace.create_name("self", None)
    return graph


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
        is_leaf: rule asked before `default_leaf`; None means "no opinion". A module that the rule makes a leaf and whose
            output shape depends on data is taken to return a tensor like the first one it is given.
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
        with tracing(self), torch.no_grad():
            self.active = True
            try:
                result = function()
                node = self.graph.output(self.create_arg(result))
                node.meta["val"] = self.values(result)
            except (FycError, MarkerRefusedError):
                raise
            except Exception as error:
                self.foreign_error(error)
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
        return forward.__get__(module)  # type: ignore[no-any-return,attr-defined]

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

    def create_proxy(  # type: ignore[override]
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
                name = target if isinstance(target, str) else getattr(target, "__name__", str(target))
                raise TraceError(
                    "FYC-G03",
                    f"the shape of `{name}` cannot be computed without data",
                    where=self.where(),
                    why=f"{type(error).__name__}: {error}",
                    next="make a module around this code a leaf with the hook fyc_trace_leaf",
                ) from error

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
        if isinstance(item, Marker):
            raise MarkerRefusedError
        if isinstance(item, CacheView):
            return item.as_argument().fyc_value
        if isinstance(item, tuple):
            parts = [self.values(x) for x in item]
            return type(item)(*parts) if hasattr(item, "_fields") else tuple(parts)
        if isinstance(item, list):
            return [self.values(x) for x in item]
        if isinstance(item, dict):
            return {key: self.values(x) for key, x in item.items()}
        if isinstance(item, slice):
            return slice(self.values(item.start), self.values(item.stop), self.values(item.step))
        return item

    def create_arg(self, a: Any) -> Any:
        """Turn an argument into what a node may hold."""
        if type(a) is ValueProxy:
            return a.node
        if isinstance(a, LayerIndex):
            self.uses_layer_index = True
            return int.__int__(a)
        if isinstance(a, _PLAIN) or a is ...:
            return a
        if isinstance(a, tuple | range | list):
            parts = [self.create_arg(x) for x in a]
            return parts if isinstance(a, list) else tuple(parts)
        if isinstance(a, dict):
            return {key: self.create_arg(x) for key, x in a.items()}
        if isinstance(a, slice):
            return slice(self.create_arg(a.start), self.create_arg(a.stop), self.create_arg(a.step))
        if isinstance(a, nn.Module) and id(a) in self.paths:
            return self.attribute(self.paths[id(a)], a).node
        if isinstance(a, Tensor):
            return self._tensor_argument(a)
        if isinstance(a, CacheView):
            return a.as_argument().node
        if isinstance(a, Marker):
            raise MarkerRefusedError
        return self.foreign_argument(a)

    def foreign_argument(self, a: Any) -> Any:
        """An argument that is no value a graph can hold."""
        raise TraceError(
            "FYC-G02",
            f"a graph cannot hold an argument of type {type(a).__name__}",
            where=self.where(),
            next="make the module a leaf with the hook fyc_trace_leaf",
        )

    def _tensor_argument(self, tensor: Tensor) -> fx.Node:
        for path, module in self.root.named_modules():
            for name, value in vars(module).items():
                if value is tensor:
                    return self.attribute(f"{path}.{name}" if path else name, tensor).node
        raise TraceError(
            "FYC-G02",
            "the model uses a tensor that is neither computed from its inputs nor an attribute of a module",
            where=self.where(),
            next="register the tensor as a buffer, or make the module a leaf with the hook fyc_trace_leaf",
        )

    # -- what needs more than one node ----------------------------------------------------------------------------

    def attention(self, default: Callable[..., Any], module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Record a call of the attention kernel that the attention interface returned."""
        names = ("query", "key", "value", "mask")
        kwargs = {("mask" if name == "attention_mask" else name): v for name, v in kwargs.items()}
        tensors = [args[i] if i < len(args) else kwargs.pop(name, None) for i, name in enumerate(names)]
        if len(args) > len(names):
            raise self.unsupported("an attention kernel called with more than four positional arguments")
        if ops.eager_attention(type(module)) is not default:
            raise self.unsupported("an attention interface whose fallback is not its modeling file's eager_attention_forward")
        markers = [key for key, value in kwargs.items() if isinstance(value, Marker)]
        for key in markers:
            kwargs["extra"] = kwargs.pop(key).proxy
        query, key_, value_ = (self.values(t) for t in tensors[:3])
        batch, heads, length = query.shape[:3]
        with self.paused():
            output = query.new_empty(batch, length, heads, value_.shape[-1])
            weights = query.new_empty(batch, heads, length, key_.shape[2])
        return self.add("call_function", ops.attention, (module, *tensors), kwargs, (output, weights))

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

    def keep_state(self, name: str) -> NoReturn:
        """Refuse an assignment to an attribute of a module: state between calls is not part of a graph."""
        raise self.unsupported(f"a module keeps state between calls in its attribute `{name}`")

    def mask(self, builder: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Record a call of one of transformers' mask builders."""
        names = ("config", "inputs_embeds", "attention_mask", "past_key_values", "position_ids")
        kwargs = {**dict(zip(names, args, strict=False)), **kwargs}
        config = kwargs.pop("config")
        owner = next((m for _, m in reversed(self.stack) if getattr(m, "config", None) is config), None)
        if owner is None:
            raise self.unsupported(f"{builder} with a config that no module on the way holds")
        embeds = self.values(kwargs["inputs_embeds"])
        cache = self.values(kwargs.get("past_key_values"))
        past = cache.past if isinstance(cache, CacheValue) else 0
        keys = past + embeds.shape[1]
        if kwargs.get("encoder_hidden_states") is not None:
            keys = self.values(kwargs["encoder_hidden_states"]).shape[1]
        dtype = embeds.dtype if config._attn_implementation == "eager" else torch.bool
        shape = (embeds.shape[0], 1, embeds.shape[1], keys)
        if builder == "create_recurrent_attention_mask":
            shape, dtype = (embeds.shape[0], embeds.shape[1]), torch.bool
        with self.paused():
            value = embeds.new_empty(shape, dtype=dtype)
        return self.add("call_function", ops.mask, (builder, owner), kwargs, value)

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
        return TraceError(
            "FYC-G01",
            f"the model's code depends on tensor data: {construct}",
            where=self.where(),
            why="a graph has one path; which one to take is only known when data flows",
            next="make the module a leaf with the hook fyc_trace_leaf, or convert with `opaque: keep`",
        )

    def unsupported(self, construct: str) -> TraceError:
        """The error for a construct that fyc does not know."""
        return TraceError(
            "FYC-G02",
            f"the model's code does something a graph cannot hold: {construct}",
            where=self.where(),
            next="make the module a leaf with the hook fyc_trace_leaf, or convert with `opaque: keep`",
        )

    def foreign_error(self, error: Exception) -> NoReturn:
        """Re-raise what model code raised on proxies, with the place in the model's code."""
        place, frame = "", error.__traceback__
        while frame is not None:
            name = frame.tb_frame.f_code.co_filename
            if not name.startswith(_OWN):
                place = f"{name}:{frame.tb_lineno}"
            frame = frame.tb_next
        raise TraceError(
            "FYC-G02",
            "the model's code does something a graph cannot hold",
            where=f"{self.path or '(root)'} at {place}",
            why=f"{type(error).__name__}: {error}",
            next="make the module a leaf with the hook fyc_trace_leaf, or convert with `opaque: keep`",
        ) from error

    def source(self) -> str:
        """file:line of the model code that is running."""
        frame = sys._getframe(1)
        while frame is not None:
            name = frame.f_code.co_filename
            if not name.startswith(_OWN):
                return f"{name}:{frame.f_lineno}"
            frame = frame.f_back  # type: ignore[assignment]
        return ""

    def where(self) -> str:
        """Module path and source line of the model code that is running."""
        return f"{self.path or '(root)'} at {self.source()}"

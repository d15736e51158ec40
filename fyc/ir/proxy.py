"""Stand-ins for values while tracing: every operation on them is recorded, every question is answered from a value."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx

from fyc.ir.caches import CacheValue

if TYPE_CHECKING:
    from fyc.ir.tracer import ValueTracer

#: Attributes of a tensor that become `getattr` nodes; `allowlist.ATTRIBUTES` has these and those of other values.
NODE_ATTRIBUTES = frozenset({"shape", "dtype", "device", "T", "mT", "H", "mH", "real", "imag"})
#: Tensor facts that do not depend on batch or length: answered as plain python values.
STATIC_METHODS = frozenset({"dim", "ndimension", "is_floating_point", "is_complex", "element_size"})
STATIC_ATTRIBUTES = frozenset(
    {"ndim", "is_cuda", "is_meta", "is_sparse", "is_mps", "is_xpu", "layout", "is_nested", "is_quantized"}
)
#: Methods that turn tensor data into python values.
DATA_METHODS = frozenset({"item", "tolist", "numpy", "cpu", "cuda", "equal", "is_nonzero", "__array__"})


class ValueProxy(fx.Proxy):
    """A proxy whose node carries the value (a meta tensor or a python value) that it stands for."""

    tracer: ValueTracer

    @property
    def fyc_value(self) -> Any:
        """The value this proxy stands for."""
        return self.node.meta["val"]

    @property
    def fyc_type(self) -> type:
        """The type of the value, for model code that asks `isinstance`."""
        value = self.node.meta["val"]
        return value.stands_for if isinstance(value, CacheValue) else type(value)

    def __repr__(self) -> str:
        return f"ValueProxy({self.node.name}: {type(self.fyc_value).__name__})"

    def __getattr__(self, name: str) -> Any:
        value = self.node.meta["val"]
        if isinstance(value, CacheValue):
            return self.tracer.cache_attribute(self, name)
        if isinstance(value, Tensor):
            return self._tensor_attribute(value, name)
        found = getattr(value, name)
        if callable(found):
            return _Method(self, name)
        if isinstance(value, torch.device):
            self.tracer.specialise("device", found)
            return found
        return self.tracer.create_proxy("call_function", getattr, (self, name), {})

    def _tensor_attribute(self, value: Tensor, name: str) -> Any:
        if name in STATIC_ATTRIBUTES:
            return getattr(value, name)
        if name == "requires_grad":
            return False
        if name in NODE_ATTRIBUTES:
            return self.tracer.create_proxy("call_function", getattr, (self, name), {})
        if name in STATIC_METHODS:
            return getattr(value, name)
        if name in DATA_METHODS:
            raise self.tracer.data_error(f"Tensor.{name}()")
        if callable(getattr(value, name)):
            return _Method(self, name)
        return self.tracer.create_proxy("call_function", getattr, (self, name), {})

    def __iter__(self) -> Iterator[Any]:
        value = self.node.meta["val"]
        if isinstance(value, Tensor):
            self.tracer.specialise("iteration over a tensor", value.shape[0])
        elif isinstance(value, dict):
            return iter(list(value))
        return iter([self[i] for i in range(len(value))])  # type: ignore[index]

    def __len__(self) -> int:
        value = self.node.meta["val"]
        if isinstance(value, Tensor):
            self.tracer.specialise("len of a tensor", value.shape[0])
        return len(value)

    def keys(self) -> Any:
        """Keys of a dict value (python's `**` calls this)."""
        return list(self.node.meta["val"].keys())

    def __bool__(self) -> bool:
        return bool(self._scalar("bool"))

    def __index__(self) -> int:
        return self._scalar("index").__index__()  # type: ignore[no-any-return]

    def __int__(self) -> int:
        return int(self._scalar("int"))

    def __float__(self) -> float:
        return float(self._scalar("float"))

    def __setitem__(self, index: Any, value: Any) -> None:
        self.tracer.create_proxy("call_function", operator.setitem, (self, index, value), {})

    def __contains__(self, item: Any) -> bool:
        return any(bool(element == item) for element in self)

    def _scalar(self, what: str) -> Any:
        value = self.node.meta["val"]
        if isinstance(value, Tensor):
            raise self.tracer.data_error(f"{what}() of a tensor")
        return self.tracer.specialise(what, value, self.node)


class _Method:
    """A method of a value that has been looked up but not called yet."""

    __slots__ = ("name", "owner")

    def __init__(self, owner: ValueProxy, name: str) -> None:
        self.owner, self.name = owner, name

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.owner.tracer.create_proxy("call_method", self.name, (self.owner, *args), kwargs)

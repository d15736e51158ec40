"""What is replaced in torch and transformers while a tracer runs, and put back afterwards."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, get_args

import torch
from torch import Tensor, nn
from transformers.modeling_utils import AttentionInterface

from fyc.ir import allowlist, recorded
from fyc.ir.proxy import ValueProxy

if TYPE_CHECKING:
    from fyc.ir.tracer import ValueTracer

_FACTORY_NAMES = ("arange", "empty", "eye", "full", "linspace", "ones", "rand", "randn", "randint", "tensor", "zeros")
#: Functions that create a tensor from no tensor: recorded always, evaluated on the meta device.
FACTORIES: frozenset[Callable[..., Any]] = frozenset(getattr(torch, name) for name in _FACTORY_NAMES)
_TORCH = str(Path(torch.__file__).parent)
_MASK_MODULE = "transformers.masking_utils"

# One trace at a time: the patches are global. Other threads that call modules meanwhile are let through.
_LOCK = threading.RLock()
_MISSING = object()


@contextmanager
def tracing(tracer: ValueTracer) -> Iterator[None]:
    """Patch torch and transformers so that `tracer` sees module calls, attention, masks, rotary and factories."""
    saved: list[tuple[Any, str, Any]] = []
    owner = threading.get_ident()

    def live() -> bool:
        return tracer.active and threading.get_ident() == owner

    def patch(holder: Any, name: str, make: Callable[[Any], Any]) -> None:
        saved.append((holder, name, vars(holder).get(name, _MISSING)))
        setattr(holder, name, make(vars(holder).get(name, isinstance)))

    with _LOCK:
        try:
            patch(nn.Module, "__call__", lambda f: _module_call(f, tracer, live))
            patch(nn.Module, "__getattr__", lambda f: _module_getattr(f, tracer, live))
            patch(nn.Module, "__setattr__", lambda f: _module_setattr(f, tracer, live))
            patch(AttentionInterface, "get_interface", lambda f: _get_interface(f, tracer, live))
            for name in _FACTORY_NAMES:
                patch(torch, name, lambda f: _recorded(f, tracer, live, always=True))
            patch(torch, "finfo", lambda f: _finfo(f, tracer, live))
            patch(torch, "is_tensor", lambda f: lambda x: _isinstance(x, Tensor))
            for file in _model_files(tracer.root):
                patch(file, "isinstance", lambda f: _isinstance)
                for name, function in _model_functions(file):
                    if function.__module__ == _MASK_MODULE:
                        patch(file, name, lambda f: _mask(f, tracer, live))
                    else:
                        patch(file, name, lambda f: _recorded(f, tracer, live, always=False))
            yield
        finally:
            for holder, name, original in reversed(saved):
                if original is _MISSING:
                    delattr(holder, name)
                else:
                    setattr(holder, name, original)


def _model_files(root: nn.Module) -> list[ModuleType]:
    """The python modules that define the classes of the root's modules and their bases, except torch's."""
    names = {base.__module__ for m in root.modules() for base in type(m).__mro__}
    return [sys.modules[n] for n in sorted(names) if not n.startswith(("torch", "builtins")) and n in sys.modules]


def _model_functions(file: ModuleType) -> list[tuple[str, Any]]:
    """Mask builders and rotary functions among the globals of a modeling file."""
    found = []
    for name, value in vars(file).items():
        if callable(value) and not isinstance(value, type):
            is_mask = getattr(value, "__module__", "") == _MASK_MODULE and name.startswith("create_")
            if is_mask or _is_rotary(value):
                found.append((name, value))
    return found


def _isinstance(item: Any, kind: Any) -> bool:
    """`isinstance` as modeling files see it: a proxy is what it stands for.

    A proxy whose `__class__` said so would do without this, but C++ code believes `__class__`, too, and crashes.
    """
    if type(item) is ValueProxy:
        kinds = kind if isinstance(kind, tuple) else get_args(kind) or (kind,)
        return any(isinstance(k, type) and issubclass(item.fyc_type, k) for k in kinds) or isinstance(item, kind)
    return isinstance(item, kind)


def _is_rotary(function: Any) -> bool:
    name = allowlist.function_name(getattr(function, "fyc_original", function))
    return name is not None and allowlist.ROTARY.fullmatch(name) is not None


def _module_call(original: Any, tracer: ValueTracer, live: Callable[[], bool]) -> Any:
    def __call__(self: nn.Module, *args: Any, **kwargs: Any) -> Any:  # noqa: N807
        return tracer.call(self, args, kwargs) if live() else original(self, *args, **kwargs)

    return __call__


def _module_getattr(original: Any, tracer: ValueTracer, live: Callable[[], bool]) -> Any:
    def __getattr__(self: nn.Module, name: str) -> Any:  # noqa: N807
        value = original(self, name)
        return tracer.parameter(self, name, value) if isinstance(value, Tensor) and live() else value

    return __getattr__


def _module_setattr(original: Any, tracer: ValueTracer, live: Callable[[], bool]) -> Any:
    def __setattr__(self: nn.Module, name: str, value: Any) -> None:  # noqa: N807
        if live() and id(self) in tracer.paths:
            raise tracer.unsupported(f"a module keeps state between calls in its attribute `{name}`")
        original(self, name, value)

    return __setattr__


def _get_interface(original: Any, tracer: ValueTracer, live: Callable[[], bool]) -> Any:
    def get_interface(self: Any, implementation: str, default: Callable[..., Any]) -> Any:
        if not live():
            return original(self, implementation, default)
        return lambda module, *args, **kwargs: recorded.attention(tracer, default, module, args, kwargs)

    return get_interface


def _has_proxy(item: Any) -> bool:
    if type(item) is ValueProxy:
        return True
    if isinstance(item, tuple | list):
        return any(_has_proxy(x) for x in item)
    return isinstance(item, dict) and any(_has_proxy(x) for x in item.values())


def _called_by_torch() -> bool:
    # torch's own meta kernels are python code that calls factories: a proxy would crash them.
    return sys._getframe(2).f_code.co_filename.startswith(_TORCH)


def _recorded(function: Any, tracer: ValueTracer, live: Callable[[], bool], *, always: bool) -> Any:
    @wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if live() and (_has_proxy(args) or _has_proxy(kwargs) or (always and not _called_by_torch())):
            return tracer.create_proxy("call_function", target, args, kwargs)
        return function(*args, **kwargs)

    # A block is traced while the model is: the inner tracer must record the function, not the outer wrapper.
    target = wrapper.fyc_original = getattr(function, "fyc_original", function)  # type: ignore[attr-defined]
    return wrapper


def _finfo(function: Any, tracer: ValueTracer, live: Callable[[], bool]) -> Any:
    def finfo(dtype: Any = None) -> Any:
        if live() and type(dtype) is ValueProxy:
            return tracer.create_proxy("call_function", target, (dtype,), {})
        return function(dtype) if dtype is not None else function()

    target = finfo.fyc_original = getattr(function, "fyc_original", function)  # type: ignore[attr-defined]
    return finfo


def _mask(function: Any, tracer: ValueTracer, live: Callable[[], bool]) -> Any:
    @wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return recorded.mask(tracer, function.__name__, args, kwargs) if live() else function(*args, **kwargs)

    return wrapper

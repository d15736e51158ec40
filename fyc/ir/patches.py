"""What is replaced in torch and transformers while a tracer runs, and put back afterwards."""

from __future__ import annotations

import re
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

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
ROTARY = re.compile(r"^apply_(\w+_)?rotary_pos_emb\w*$")
_TORCH = str(Path(torch.__file__).parent)
_MASK_MODULE = "transformers.masking_utils"

# One trace at a time: the patches are global. Other threads that call modules meanwhile are let through.
_LOCK = threading.RLock()


@contextmanager
def tracing(tracer: ValueTracer) -> Iterator[None]:
    """Patch torch and transformers so that `tracer` sees module calls, attention, masks, rotary and factories."""
    saved: list[tuple[Any, str, Any]] = []
    owner = threading.get_ident()

    def live() -> bool:
        return tracer.active and threading.get_ident() == owner

    def patch(holder: Any, name: str, make: Callable[[Any], Any]) -> None:
        original = vars(holder)[name]
        saved.append((holder, name, original))
        setattr(holder, name, make(original))

    with _LOCK:
        try:
            patch(nn.Module, "__call__", lambda f: _module_call(f, tracer, live))
            patch(nn.Module, "__getattr__", lambda f: _module_getattr(f, tracer, live))
            patch(nn.Module, "__setattr__", lambda f: _module_setattr(f, tracer, live))
            patch(AttentionInterface, "get_interface", lambda f: _get_interface(f, tracer, live))
            for name in _FACTORY_NAMES:
                patch(torch, name, lambda f: _recorded(f, tracer, live, always=True))
            patch(torch, "finfo", lambda f: _finfo(f, tracer, live))
            for module, name in _model_functions(tracer.root):
                function = vars(module)[name]
                if function.__module__ == _MASK_MODULE:
                    patch(module, name, lambda f: _mask(f, tracer, live))
                else:
                    patch(module, name, lambda f: _recorded(f, tracer, live, always=False))
            yield
        finally:
            for holder, name, original in reversed(saved):
                setattr(holder, name, original)


def _model_functions(root: nn.Module) -> list[tuple[ModuleType, str]]:
    """Mask builders and rotary functions in the modeling files of the root's modules."""
    files = {base.__module__ for m in root.modules() for base in type(m).__mro__}
    found = []
    for file in sorted(f for f in files if not f.startswith(("torch", "builtins"))):
        module = sys.modules.get(file)
        for name, value in vars(module).items() if module is not None else ():
            if not callable(value) or isinstance(value, type):
                continue
            is_mask = getattr(value, "__module__", "") == _MASK_MODULE and name.startswith("create_")
            if is_mask or (ROTARY.match(name) and _is_allowed(value)):
                found.append((module, name))
    return found  # type: ignore[return-value]


def _is_allowed(function: Any) -> bool:
    return allowlist.function_name(getattr(function, "fyc_original", function)) is not None


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

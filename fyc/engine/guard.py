"""Runs a pass's own code: whatever it raises becomes a PassError that names the pass and the place."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from fyc.errors import FycError, PassError, is_disk_full, is_out_of_memory
from fyc.passes import Pass

_T = TypeVar("_T")
_DEBUG = "--debug shows the traceback"
RESUME = f"{_DEBUG}; finished blocks are kept: --resume continues after a repair"
#: What to do about a pass that left something it may not leave.
REPAIR = "if this is your pass, repair it and repeat the command with --resume; if not, report this to its author"


def guarded(
    pass_: Pass[Any],
    action: Callable[[], _T],
    kind: type[_T],
    where: str,
    *,
    advice: str = _DEBUG,
    on_error: Callable[[Exception], object] | None = None,
) -> _T:
    """What `action` returns.

    Args:
        pass_: the pass whose code it is.
        action: the call.
        kind: what it must return.
        where: block, or what of the pass was asked.
        advice: what the reader can do.
        on_error: told of whatever went wrong before it is raised.

    Raises:
        PassError: FYC-X01 for anything the pass raises, or for a wrong result.
        FycError: as it is; so is what the machine does to a pass, no memory or a full disk.
    """
    try:
        result = action()
        if not isinstance(result, kind):
            raise TypeError(f"it returned {type(result).__name__} instead of {kind.__name__}")
    except Exception as error:
        if on_error is not None:
            on_error(error)
        if isinstance(error, FycError) or is_out_of_memory(error) or is_disk_full(error):
            raise
        raise PassError(
            "FYC-X01",
            f"the pass {pass_.name!r} failed",
            where=where,
            why=f"{type(error).__name__}: {error}",
            next=advice,
        ) from error
    return result


def require_json(value: object, name: str) -> None:
    """Walk through what a pass returned, so that the error names the entry and not only its kind.

    Args:
        value: nested mappings, lists, texts and numbers.
        name: what the errors call it.

    Raises:
        TypeError: something in it is not JSON.
        ValueError: a number in it is NaN or infinite.
    """
    if isinstance(value, Mapping):
        for key, entry in value.items():
            if not isinstance(key, str | int | float | None):
                raise TypeError(f"{name} has the key {key!r:.80}, which is not JSON")
            require_json(entry, f"{name}.{key}")
    elif isinstance(value, list | tuple):
        for index, entry in enumerate(value):
            require_json(entry, f"{name}[{index}]")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{name} is {float(value)}, and only finite numbers can be stored")
    elif not isinstance(value, str | int | float | None):
        raise TypeError(f"{name} is a {type(value).__name__}, which is not JSON")

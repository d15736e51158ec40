"""Runs a pass's own code: whatever it raises becomes a PassError that names the pass and the place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from fyc.errors import FycError, PassError, is_disk_full, is_out_of_memory
from fyc.passes import Pass

_T = TypeVar("_T")
_DEBUG = "--debug shows the traceback"
RESUME = f"{_DEBUG}; finished blocks are kept: --resume continues after a repair"


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

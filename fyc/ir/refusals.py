"""The errors of the tracer: what the model's code did, and in which file and line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from fyc.errors import TraceError

_OWN = (str(Path(__file__).parent), str(Path(torch.__file__).parent))
LEAF_OR_OPAQUE = "make the module a leaf with the hook fyc_trace_leaf, or convert with `opaque: keep`"


def running_line(frame: FrameType | None) -> str:
    """file:line of the innermost frame that belongs neither to torch nor to the tracer."""
    while frame is not None:
        name = frame.f_code.co_filename
        if not name.startswith(_OWN):
            return f"{name}:{frame.f_lineno}"
        frame = frame.f_back
    return ""


def data(where: str, what: str) -> TraceError:
    """Control flow on tensor data."""
    return TraceError(
        "FYC-G01",
        f"the model's code depends on tensor data: {what}",
        where=where,
        why="a graph has one path; which one to take is only known when data flows",
        next=LEAF_OR_OPAQUE,
    )


def construct(where: str, what: str) -> TraceError:
    """Something that a graph cannot hold."""
    return TraceError(
        "FYC-G02", f"the model's code does something a graph cannot hold: {what}", where=where, next=LEAF_OR_OPAQUE
    )


def foreign(path: str, error: Exception) -> TraceError:
    """An exception that the model's code raised when it met a proxy."""
    place, trace = "", error.__traceback__
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        if not name.startswith(_OWN):
            place = f"{name}:{trace.tb_lineno}"
        trace = trace.tb_next
    return TraceError(
        "FYC-G02",
        "the model's code does something a graph cannot hold",
        where=f"{path or '(root)'} at {place}",
        why=f"{type(error).__name__}: {error}",
        next=LEAF_OR_OPAQUE,
    )


def shape(where: str, target: str | Callable[..., Any], error: Exception) -> TraceError:
    """A value whose shape depends on data."""
    name = target if isinstance(target, str) else getattr(target, "__name__", str(target))
    return TraceError(
        "FYC-G03",
        f"the shape of `{name}` cannot be computed without data",
        where=where,
        why=f"{type(error).__name__}: {error}",
        next=LEAF_OR_OPAQUE,
    )


def sizes(what: str, why: str = "", where: str = "") -> TraceError:
    """A graph that would be another one for other sizes, or for another mode."""
    return TraceError("FYC-G05", what, where=where, why=why, next=LEAF_OR_OPAQUE)

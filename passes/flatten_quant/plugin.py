"""Registers flatten-quant."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fyc_passes.flatten_quant.pass_ import FlattenQuant

from fyc import Pass, hookimpl


@hookimpl
def fyc_register_passes(register: Callable[[type[Pass[Any]]], None]) -> None:
    """Register the pass."""
    register(FlattenQuant)

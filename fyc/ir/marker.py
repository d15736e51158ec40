"""The unnamed keyword arguments of a block, while it is traced."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fyc.ir.proxy import ValueProxy


class Marker:
    """Stands for what the block's `**kwargs` would hold."""

    def __init__(self, proxy: ValueProxy) -> None:
        self.proxy = proxy


class MarkerRefusedError(Exception):
    """The marker reached something other than the attention op."""

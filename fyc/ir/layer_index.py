"""A layer index that notices when a graph comes to depend on it."""

from __future__ import annotations

from typing import Any

_WATCHED = (
    "__add__", "__radd__", "__sub__", "__rsub__", "__mul__", "__rmul__", "__floordiv__", "__rfloordiv__", "__truediv__",
    "__rtruediv__", "__mod__", "__pow__", "__neg__", "__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__",
    "__index__", "__int__", "__float__", "__bool__", "__hash__", "__str__", "__repr__", "__format__",
)  # fmt: skip


class LayerIndex(int):
    """An integer that sets `used` when anything is computed with it; handing it to a cache does not count."""

    used = False


def _watched(name: str) -> Any:
    original = getattr(int, name)

    def method(self: LayerIndex, *args: Any) -> Any:
        self.used = True
        return original(self, *args)

    return method


for _name in _WATCHED:
    setattr(LayerIndex, _name, _watched(_name))

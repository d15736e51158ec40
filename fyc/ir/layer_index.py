"""A layer index that notices when a graph comes to depend on it."""

from __future__ import annotations

from typing import Any


class LayerIndex(int):
    """A layer index that notices when a graph comes to depend on it, other than by handing it to the cache."""

    used: bool

    def __new__(cls, value: int) -> LayerIndex:
        index = super().__new__(cls, value)
        index.used = False
        return index

    def __hash__(self) -> int:
        self.used = True
        return int.__hash__(self)


def _watched(name: str) -> Any:
    original = getattr(int, name)

    def method(self: LayerIndex, *args: Any) -> Any:
        self.used = True
        return original(self, *args)

    return method


for _name in (
    "__add__ __radd__ __sub__ __rsub__ __mul__ __rmul__ __floordiv__ __truediv__ __rtruediv__ __mod__ __pow__ __neg__ "
    "__eq__ __ne__ __lt__ __le__ __gt__ __ge__ __index__ __int__ __float__ __bool__"
).split():
    setattr(LayerIndex, _name, _watched(_name))

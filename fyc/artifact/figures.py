"""What to show of the modules that a pass changed: the fields it filled in, and its own small figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fyc.artifact.manifest import ModuleEntry

#: Longer texts (paths, for example) would make a table unreadable.
_LONGEST = 16
_MOST = 8


@dataclass(frozen=True)
class Figures:
    """The figures of one pass's modules.

    Attributes:
        fields: those of `bits`, `expansion` and `error` that any module has.
        details: keys of `details` whose values are small and not the same in every module.
        common: key and value of those that are.
    """

    fields: tuple[str, ...]
    details: tuple[str, ...]
    common: dict[str, Any]


def figures(modules: Sequence[ModuleEntry]) -> Figures:
    """Choose what to show of the modules of one pass."""
    fields = tuple(key for key in ("bits", "expansion", "error") if any(getattr(m, key) is not None for m in modules))
    values: dict[str, list[Any]] = {}
    for module in modules:
        for key in module.details:
            values.setdefault(key, [other.details.get(key) for other in modules])
    small = {key: column for key, column in values.items() if all(map(_is_small, column)) and set(column) != {None}}
    common = {key: column[0] for key, column in small.items() if len(column) > 1 and column == column[:1] * len(column)}
    details = [key for key in small if key not in common]
    return Figures(fields, tuple(details[:_MOST]), dict(list(common.items())[:_MOST]))


def _is_small(value: Any) -> bool:
    return value is None or isinstance(value, int | float) or (isinstance(value, str) and len(value) <= _LONGEST)

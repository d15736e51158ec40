"""Globs on module paths: which modules a pass of a recipe applies to."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Sequence


class ModulePatterns:
    """The `include` and `exclude` patterns of one pass.

    `*` stands for any characters, dots included, `?` for one character, `[ab]` for one of those. A pattern
    selects the modules whose path it matches and every module inside them: `model.layers.1` selects
    `model.layers.1.mlp.up_proj` but nothing of `model.layers.10`.

    Args:
        include: patterns that choose modules; none choose all.
        exclude: patterns that take modules out again.
    """

    def __init__(self, include: Sequence[str] = (), exclude: Sequence[str] = ()) -> None:
        self._include = {pattern: _compile(pattern) for pattern in include}
        self._exclude = {pattern: _compile(pattern) for pattern in exclude}

    def selects(self, path: str) -> bool:
        """Whether the patterns choose this module path."""
        included = not self._include or any(regex.match(path) for regex in self._include.values())
        return included and not any(regex.match(path) for regex in self._exclude.values())

    def unmatched(self, paths: Iterable[str]) -> list[str]:
        """The patterns, in the order given, that match none of the module paths."""
        known = list(paths)
        patterns = [*self._include.items(), *self._exclude.items()]
        return [text for text, regex in patterns if not any(regex.match(path) for path in known)]


def _compile(pattern: str) -> re.Pattern[str]:
    whole = re.compile(fnmatch.translate(pattern)).pattern.removesuffix(r"\Z").removesuffix(r"\z")
    return re.compile(rf"{whole}(\..*)?\Z", re.DOTALL)

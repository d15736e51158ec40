"""What a kind of failure is, and how the kind of a line is found."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum

from fyc.plan.diagnosis.explain import Explainer
from fyc.plan.diagnosis.report import Category, Edit


class Level(IntEnum):
    """How much a message says about the cause; a higher one always wins over a lower one, whichever came first."""

    ENDED = 0  # a process is gone, and this is all that is said
    WAITED = 1  # a rank noticed that another is gone or late
    KILLED = 2  # a process was ended from outside
    RAISED = 3  # an exception that no kind knows
    CAUSE = 4  # the message names the cause


@dataclass(frozen=True, kw_only=True)
class FailureKind:
    """One sort of failure.

    Attributes:
        name: stable name.
        category: the coarse sort that the planner's rules know.
        level: how much it says about the cause.
        words: one of them stands in each of its lines; see `WordFinder` for how they should begin.
        patterns: regular expressions, one of which the line without its prefixes matches; groups go to `explain`.
        cause, next: what happened and what to do, in words that hold for all its messages.
        edits: what may be changed, in the order to try it.
        source: where the message comes from.
        explain: takes the numbers out of the message.
    """

    name: str
    category: Category
    level: Level
    words: tuple[str, ...]
    patterns: tuple[str, ...]
    cause: str
    next: str
    source: str
    edits: tuple[Edit, ...] = ()
    explain: Explainer | None = None


def like(message: str) -> str:
    """The pattern of a message in which `{name}` stands for a number and `...` for anything."""
    pattern = re.escape(message).replace(re.escape("..."), ".*?")
    return re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>\\d{1,12})", pattern)


class FailureTable:
    """Finds the kind of a line; of several that match, the first in the table counts.

    Attributes:
        words: what the reader has to look for.
    """

    def __init__(self, kinds: Iterable[FailureKind]) -> None:
        self._kinds = [(kind, tuple(map(re.compile, kind.patterns))) for kind in kinds]
        self.words = frozenset(word.encode() for kind, _ in self._kinds for word in kind.words)

    def kind_of(self, text: str) -> tuple[FailureKind, Mapping[str, str]] | None:
        """The kind of a line without its prefixes, and what its pattern captured.

        Returns:
            None for a line that reports nothing, such as the source code that a traceback quotes.
        """
        if _QUOTED_SOURCE.match(text):
            return None
        for kind, patterns in self._kinds:
            if not any(word in text for word in kind.words):
                continue
            for pattern in patterns:
                if match := pattern.search(text):
                    return kind, {name: value for name, value in match.groupdict().items() if value is not None}
        return None


#: A traceback prints the line of code that raised, with the message in it, before the message itself.
_QUOTED_SOURCE = re.compile(r"\s{3,}(?:.*\b(?:raise|assert)\b|f?[\"'])")

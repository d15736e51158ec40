"""Figures with intervals: what is drawn again are heads or clips, not frames, which are alike within one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Flags = NDArray[np.bool_]

_DRAWS = 2000


@dataclass(frozen=True)
class Interval:
    """A figure and its 95 % interval by bootstrap.

    Attributes:
        value: of all heads or clips; NaN where nothing could be measured.
        low, high: of the interval; NaN with fewer than two heads or clips.
    """

    value: float
    low: float
    high: float

    def document(self) -> list[float | None]:
        """Value, low, high for JSON; None where there is none."""
        return [float(part) if np.isfinite(part) else None for part in (self.value, self.low, self.high)]

    def text(self, factor: float = 1.0, digits: int = 2) -> str:
        """The figure times a factor, with its interval."""
        if not np.isfinite(self.value):
            return "-"
        text = f"{factor * self.value:.{digits}f}"
        known = np.isfinite(self.low) and np.isfinite(self.high)
        return f"{text} ({factor * self.low:.{digits}f} to {factor * self.high:.{digits}f})" if known else text


def mean_interval(values: Sequence[float]) -> Interval:
    """The mean of one value for each head; heads whose value is NaN are left out."""
    known = np.array([value for value in values if np.isfinite(value)], np.float64)
    return interval_of(len(known), lambda chosen: known[chosen].mean(axis=1))


def interval_of(groups: int, figure: Callable[[NDArray[np.intp]], Array]) -> Interval:
    """A figure of all groups, and its interval.

    Args:
        groups: how many heads or clips there are.
        figure: (n,) figures of n selections (n, groups) of groups, which may hold one several times.
    """
    if groups == 0:
        return Interval(np.nan, np.nan, np.nan)
    value = float(figure(np.arange(groups)[None])[0])
    if groups == 1:
        return Interval(value, np.nan, np.nan)
    drawn = figure(np.random.default_rng(0).integers(0, groups, (_DRAWS, groups)))
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn):
        return Interval(value, np.nan, np.nan)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Interval(value, float(low), float(high))


def auc(high: Array, low: Array) -> float:
    """How probable it is that one of `high` is above one of `low`; ties count half. NaN if one of them is empty."""
    if not len(high) or not len(low):
        return float("nan")
    return float((high[:, None] > low[None]).mean() + 0.5 * (high[:, None] == low[None]).mean())


def correlation(left: Array, right: Array) -> float:
    """Pearson's r; NaN with fewer than three pairs, or where one side does not vary."""
    if len(left) < 3 or np.ptp(left) == 0 or np.ptp(right) == 0:
        return float("nan")
    return float(np.corrcoef(left, right)[0, 1])

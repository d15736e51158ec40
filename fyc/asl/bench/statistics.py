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


def mean_interval(values: Sequence[float], groups: Sequence[int] | None = None) -> Interval:
    """The mean of some values, of which those that are NaN are left out.

    Args:
        values: one for each head or clip.
        groups: numbers of what is drawn again as a whole, such as the signers of clips; None: every value by itself.
    """
    owners = np.arange(len(values)) if groups is None else np.asarray(groups, np.intp)
    known = np.isfinite(np.asarray(values, np.float64))
    names, place = np.unique(owners[known], return_inverse=True)
    sums, sizes = np.bincount(place, np.asarray(values, np.float64)[known]), np.bincount(place)
    return interval_of(len(names), lambda chosen: sums[chosen].sum(axis=1) / sizes[chosen].sum(axis=1))


def auc_interval(scores: Array, high: Flags, groups: Sequence[int]) -> Interval:
    """The AUC (`auc`) of N scores, when whole groups of them are drawn again.

    Args:
        scores: (N,).
        high: (N,), those that should be above the others.
        groups: N numbers of groups, such as signers.
    """
    names, place = np.unique(np.asarray(groups, np.intp), return_inverse=True)
    count = len(names)
    above, below = scores[high][:, None], scores[~high][None]
    pairs = (count * place[high][:, None] + place[~high][None]).ravel()
    won = np.bincount(pairs, ((above > below) + 0.5 * (above == below)).ravel(), count**2).reshape(count, count)
    of = np.bincount(pairs, minlength=count**2).reshape(count, count)

    def figure(chosen: NDArray[np.intp]) -> Array:
        times = times_drawn(chosen, count)
        wins, all_pairs = (np.einsum("ng,gh,nh->n", times, part, times, optimize=True) for part in (won, of))
        known: Array = np.divide(wins, all_pairs, out=np.full(len(times), np.nan), where=all_pairs > 0)
        return known

    return interval_of(count, figure)


def times_drawn(chosen: NDArray[np.intp], groups: int) -> Array:
    """(n, groups), how often each group is in selections (n, any) of them."""
    flat = (chosen + groups * np.arange(len(chosen))[:, None]).ravel()
    times: Array = np.bincount(flat, minlength=len(chosen) * groups).reshape(len(chosen), groups).astype(np.float64)
    return times


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

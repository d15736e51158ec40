"""Global decisions: which groups become INT4, and who gets the extra columns."""

from __future__ import annotations

import heapq
from collections.abc import Mapping


def allocate_columns(curves: Mapping[str, Mapping[int, float]], budget: int) -> dict[str, int]:
    """Share a budget of extra columns so that the summed loss is small.

    Columns go step by step where they lower the loss most per column (greedy on the lower convex hull of each curve).

    Args:
        curves: for each group, number of extra columns (0 among them) to loss.
        budget: most extra columns in all.

    Returns:
        Extra columns of each group, each one of its curve's keys; their sum is at most `budget`.
    """
    chosen = dict.fromkeys(curves, 0)
    left = budget
    waiting: list[tuple[float, str, int]] = []

    def offer(name: str) -> None:
        curve, now = curves[name], chosen[name]
        steps = [((curve[to] - curve[now]) / (to - now), name, to) for to in curve if now < to <= now + left]
        if steps:
            heapq.heappush(waiting, min(steps))

    for name in curves:
        offer(name)
    while waiting:
        slope, name, to = heapq.heappop(waiting)
        if slope >= 0:
            break
        if to - chosen[name] <= left:
            left -= to - chosen[name]
            chosen[name] = to
        offer(name)
    return chosen


def choose_int4(costs: Mapping[str, float], macs: Mapping[str, int], share: float) -> set[str]:
    """The groups that become INT4: the cheapest per multiply-accumulate until the share is reached.

    Args:
        costs: for each group, what INT4 costs.
        macs: multiply-accumulates of each group for one token.
        share: of all multiply-accumulates, at least this part.
    """
    total = sum(macs.values())
    ranked = sorted(costs, key=lambda name: (costs[name] / macs[name], name))
    return take_share(ranked, macs, share * total, drop=sorted(costs, key=lambda name: (-costs[name], name)))


def take_share(ranked: list[str], macs: Mapping[str, int], target: float, drop: list[str]) -> set[str]:
    """The first names of `ranked` that reach `target`, without those in `drop` order that are not needed for it."""
    chosen: set[str] = set()
    reached = 0
    for name in ranked:
        if reached >= target:
            break
        chosen.add(name)
        reached += macs[name]
    for name in drop:
        if name in chosen and reached - macs[name] >= target:
            chosen.remove(name)
            reached -= macs[name]
    return chosen

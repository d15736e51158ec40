"""Time of collectives over ranks that lie in one NVLink domain or across several.

Ring formulas: an all-gather or reduce-scatter moves (n - 1) / n of the whole, an all-reduce twice that.
`size` is bytes of the whole tensor on one rank; `ranks` the size of the group; `inside` how many of its ranks share a
domain. Arrays broadcast; seconds come back, 0 for groups of one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from fyc.plan.cost.rates import Rates
from fyc.plan.layout import Floats


def all_reduce(size: ArrayLike, ranks: ArrayLike, inside: ArrayLike, rates: Rates) -> Floats:
    """Sum over the group, on every rank."""
    return 2 * all_gather(size, ranks, inside, rates)


def all_gather(size: ArrayLike, ranks: ArrayLike, inside: ArrayLike, rates: Rates) -> Floats:
    """The whole tensor from its shards; a reduce-scatter takes as long."""
    size, ranks, inside = (np.asarray(value, dtype=np.float64) for value in (size, ranks, inside))
    bandwidth, latency = _path(ranks, inside, rates)
    steps = np.minimum(ranks - 1, 2 * np.log2(np.maximum(ranks, 2)))
    return np.where(ranks > 1, (ranks - 1) / ranks * size / bandwidth + steps * latency, 0.0)


def send(size: ArrayLike, within: ArrayLike, rates: Rates) -> Floats:
    """One message to a neighbour, within the domain or outside."""
    size = np.asarray(size, dtype=np.float64)
    return np.where(within, size / rates.link + rates.link_latency, size / rates.net + rates.net_latency)


def _path(ranks: Floats, inside: Floats, rates: Rates) -> tuple[Floats, Floats]:
    """Bandwidth of the ring and latency of a step: across domains all NICs of the group's GPUs in a domain work."""
    across = np.minimum(rates.net * np.maximum(inside, 1), rates.link)
    far = ranks > inside
    return np.where(far, across, rates.link), np.where(far, rates.net_latency, rates.link_latency)

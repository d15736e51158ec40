"""The threshold search: for a budget of extra columns, the step and the flatten map with the smallest output error."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from fyc_kernels.flatten_quantize import Split, wide_range
from fyc_passes.flatten_quant.split import most_extra
from torch import Tensor

#: Steps tried lie this factor apart, from the one that clips nothing downwards.
_RATIO = 2**0.25
_MOST_STEPS = 64
#: The search ends when no budget came closer than this factor to its best error with a smaller step.
_HOPELESS = 4.0


@dataclass(frozen=True)
class ActivationGrid:
    """How a group's activations are quantized.

    Attributes:
        scale: step of the integer codes.
        extra: int64 `[K]`, extra columns of each channel.
        error: mean squared error of the outputs that comes from the activations, estimated with independent channels.
    """

    scale: float
    extra: Tensor
    error: float


def search_grids(
    sample: Tensor,
    rows: Tensor,
    importance: Tensor,
    budgets: Sequence[int],
    *,
    bits: int,
    split: Split,
    headroom: float = 1.0,
) -> dict[int, ActivationGrid]:
    """The best grid for each budget of extra columns.

    For every step, each extra column goes where it removes the most error: to the channel whose clipped part does the
    most harm to the outputs. The threshold T of the paper is `scale * 2^(bits-1)`.

    Args:
        sample: float32 `[rows, K]`, inputs after shift and smoothing.
        rows: float32 `[rows]`, weight of each row, mean about 1.
        importance: float32 `[K]`, sum of squares of the weights that read each channel.
        budgets: numbers of extra columns, ascending.
        bits: bits of the activations.
        split: how digits count.
        headroom: values are clipped as if the range were this factor smaller.

    Returns:
        Budget to grid.
    """
    largest = sample.abs().amax(0)
    best: dict[int, ActivationGrid] = {}
    weights = rows / rows.sum()
    for scale in _steps(float(largest.amax()), bits, headroom):
        base, gains, channels = _gains(sample, weights, largest, scale, max(budgets), bits, split, headroom)
        # In float64: what is left is the small difference of large sums.
        base, gains = (base * importance).double(), (gains * importance[channels]).double()
        total = float(base.sum())
        # A digit can only be added after the ones before it, so it never ranks before them.
        values, order = gains.cummin(0).values.flatten().sort(descending=True, stable=True)
        useful = int((values > 0).sum())
        saved = torch.cat([values.new_zeros(1), values.cumsum(0)])
        hopeless = True
        for budget in budgets:
            count = min(budget, useful)
            error = max(total - float(saved[count]), 0.0)
            if budget not in best or error < best[budget].error:
                extra = torch.bincount(channels[order[:count] % max(len(channels), 1)], minlength=sample.shape[1])
                best[budget] = ActivationGrid(scale, extra, error)
                hopeless = False
            elif error < _HOPELESS * best[budget].error:
                hopeless = False
        if hopeless:
            break
    return best


def covering_grid(largest: Tensor, budget: int, *, bits: int, split: Split, headroom: float = 1.0) -> ActivationGrid:
    """The smallest step that clips nothing with a budget of extra columns.

    Args:
        largest: float32 `[K]`, largest absolute input of each channel, after shift and smoothing.
        budget: number of extra columns.
        bits: bits of the activations.
        split: how digits count.
        headroom: factor on `largest`.

    Returns:
        The grid; its `error` is that of rounding with unit weights.
    """
    reach = largest * headroom
    best: tuple[float, Tensor] | None = None
    for scale in _steps(float(largest.amax()), bits, headroom):
        extra = _needed(reach, scale, bits, split)
        if int(extra.amax()) > most_extra(bits, split) or int(extra.sum()) > budget:
            break
        best = scale, extra
    if best is None:
        best = max(float(reach.amax()), _TINY) / ((1 << (bits - 1)) - 1), torch.zeros_like(largest, dtype=torch.int64)
    return ActivationGrid(best[0], best[1], best[0] ** 2 / 12 * len(largest))


_TINY = 1e-30


def _steps(largest: float, bits: int, headroom: float) -> Iterator[float]:
    first = max(largest, _TINY) * headroom / ((1 << (bits - 1)) - 1)
    for k in range(_MOST_STEPS):
        yield first * _RATIO**-k


def _needed(reach: Tensor, scale: float, bits: int, split: Split) -> Tensor:
    """Extra columns that each channel needs to hold `reach`."""
    extra = torch.zeros_like(reach, dtype=torch.int64)
    for _ in range(most_extra(bits, split) + 1):
        high = wide_range(bits, split, extra)[1]
        extra += ((reach / scale).round() > high).to(torch.int64)
    return extra


def _gains(
    sample: Tensor,
    weights: Tensor,
    largest: Tensor,
    scale: float,
    most: int,
    bits: int,
    split: Split,
    headroom: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Error of each channel without extra columns `[K]`, what each further column removes `[levels, C]`, and which
    channels `[C]` those are."""
    exact = sample / scale
    codes = exact.round()
    base = _error(codes, exact, weights, scale, bits, split, 0, headroom)
    channels = (largest * headroom > scale * ((1 << (bits - 1)) - 1)).nonzero()[:, 0]
    codes, exact, previous = codes[:, channels], exact[:, channels], base[channels]
    gains = []
    for level in range(1, min(most_extra(bits, split), most) + 1):
        error = _error(codes, exact, weights, scale, bits, split, level, headroom)
        gain = previous - error
        if not bool((gain > 0).any()):
            break
        gains.append(gain)
        previous = error
    return base, torch.stack(gains) if gains else base.new_zeros(1, len(channels)), channels


def _error(
    codes: Tensor, exact: Tensor, weights: Tensor, scale: float, bits: int, split: Split, extra: int, headroom: float
) -> Tensor:
    low, high = (float(limit) / headroom for limit in wide_range(bits, split, torch.tensor(extra)))
    return weights @ (codes.clamp(low, high) - exact).square_() * scale**2

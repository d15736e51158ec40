"""The threshold search: for a budget of extra columns, the step and the flatten map with the smallest output error."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from fyc_kernels.flatten_quantize import Split, wide_range
from fyc_passes.flatten_quant.magnitudes import Magnitudes
from fyc_passes.flatten_quant.split import most_extra
from torch import Tensor

#: Steps tried lie this factor apart, from the one that clips nothing downwards.
_RATIO = 2**0.125
_MOST_STEPS = 128
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
    magnitudes: Magnitudes,
    factors: Tensor,
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
        magnitudes: of the inputs before smoothing.
        factors: float32 `[K]`, what smoothing multiplies them with.
        importance: float32 `[K]`, sum of squares of the weights that read each channel, before smoothing.
        budgets: numbers of extra columns, ascending.
        bits: bits of the activations.
        split: how digits count.
        headroom: see `Magnitudes.clipped`.

    Returns:
        Budget to grid.
    """
    factors, importance = factors.double(), importance.double()
    reach = magnitudes.largest * factors * headroom
    best: dict[int, ActivationGrid] = {}
    for scale in _steps(float(reach.amax()), bits):
        steps = scale / factors
        base, gains = _gains(magnitudes, steps, reach > scale * ((1 << (bits - 1)) - 1), bits, split, headroom)
        base, gains = base * importance, gains * importance
        total = float(base.sum())
        # A digit can only be added after the ones before it, so it never ranks before them.
        ranked, order = gains.cummin(0).values.flatten().sort(descending=True, stable=True)
        useful = int((ranked > 0).sum())
        saved = torch.cat([ranked.new_zeros(1), ranked.cumsum(0)])
        hopeless = True
        for budget in budgets:
            count = min(budget, useful)
            error = max(total - float(saved[count]), 0.0)
            if budget not in best or error < best[budget].error:
                extra = torch.bincount(order[:count] % len(factors), minlength=len(factors))
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
    for scale in _steps(float(reach.amax()), bits):
        extra = _needed(reach, scale, bits, split)
        if int(extra.amax()) > most_extra(bits, split) or int(extra.sum()) > budget:
            break
        best = scale, extra
    if best is None:
        best = max(float(reach.amax()), _TINY) / ((1 << (bits - 1)) - 1), torch.zeros_like(largest, dtype=torch.int64)
    return ActivationGrid(best[0], best[1], best[0] ** 2 / 12 * len(largest))


_TINY = 1e-30


def _steps(reach: float, bits: int) -> Iterator[float]:
    first = max(reach, _TINY) / ((1 << (bits - 1)) - 1)
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
    magnitudes: Magnitudes, steps: Tensor, large: Tensor, bits: int, split: Split, headroom: float
) -> tuple[Tensor, Tensor]:
    """Error of each channel without extra columns, float64 `[K]`, and what each further one removes, `[levels, K]`.

    Only channels that are `large` can gain from extra columns.
    """
    most = most_extra(bits, split)
    high = wide_range(bits, split, torch.arange(most + 1))[1].double()
    error = magnitudes.rounded(steps) + magnitudes.clipped(steps[:, None] * high[0], headroom)[:, 0]
    gains = torch.zeros(most, len(steps), dtype=torch.float64)
    if bool(large.any()):
        clipped = magnitudes.clipped(steps[:, None] * high, headroom)
        gains = torch.where(large, (clipped[:, :-1] - clipped[:, 1:]).T, 0.0)
    return error, gains

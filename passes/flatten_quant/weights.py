"""Weights as int4 or int8 codes by rounding to nearest, with a clipping range searched by output error."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

Granularity = Literal["tensor", "channel"]

#: Clipping ranges tried, as fractions of the largest weight.
_FRACTIONS = (1.0, 0.97, 0.94, 0.91, 0.88, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6)
#: Rows handled at once, so that working copies of a large weight stay small.
_ROWS = 512


def weight_scale(weight: Tensor, bits: int, granularity: Granularity, importance: Tensor | None = None) -> Tensor:
    """Scales of a symmetric integer grid.

    Args:
        weight: float32 `[N, K]`.
        bits: 4 or 8.
        granularity: one scale for the `tensor` or one for each output `channel`.
        importance: float32 `[K]`, mean square of each input channel. With it the clipping range is searched that gives
            the smallest error weighted by it; without it the range is the largest weight.

    Returns:
        float32 `[1]` or `[N]`.
    """
    half = 1 << (bits - 1)
    largest = weight.abs().amax(1, keepdim=True).clamp_min(torch.finfo(torch.float32).tiny)
    if granularity == "tensor":
        largest = largest.amax(0, keepdim=True)
    if importance is None:
        return (largest / (half - 1))[:, 0]
    best = torch.full(largest.shape, torch.inf)
    chosen = torch.empty_like(largest)
    for fraction in _FRACTIONS:
        scale = largest * (fraction / (half - 1))
        error = _weighted_error(weight, scale, bits, importance)
        if granularity == "tensor":
            error = error.sum(0, keepdim=True)
        chosen = torch.where(error < best, scale, chosen)
        best = torch.minimum(best, error)
    return chosen[:, 0]


def round_to_grid(weight: Tensor, scale: Tensor, bits: int) -> Tensor:
    """Nearest codes of a weight on a grid.

    Args:
        weight: float32 `[N, K]`.
        scale: float32 `[1]` or `[N]`.
        bits: 4 or 8.

    Returns:
        int8 `[N, K]` in [-2^(bits-1), 2^(bits-1) - 1].
    """
    half = 1 << (bits - 1)
    return (weight / scale[:, None]).round_().clamp_(-half, half - 1).to(torch.int8)


def _weighted_error(weight: Tensor, scale: Tensor, bits: int, importance: Tensor) -> Tensor:
    """Squared rounding error of each row, float32 `[N, 1]`."""
    half = 1 << (bits - 1)
    scales = scale.expand(weight.shape[0], 1)
    errors = []
    for start in range(0, weight.shape[0], _ROWS):
        rows, step = weight[start : start + _ROWS], scales[start : start + _ROWS]
        codes = (rows / step).round_().clamp_(-half, half - 1)
        errors.append(codes.mul_(step).sub_(rows).square_() @ importance)
    return torch.cat(errors)[:, None]

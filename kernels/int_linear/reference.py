"""The specification of `int_linear`: exact integer sums over the flattened columns, then one float epilogue."""

from __future__ import annotations

import torch
from torch import Tensor

#: Float32 adds integers exactly below 2^24; this many products of two int8 codes stay below it in any order.
_EXACT_COLUMNS = 2**24 // (128 * 128) - 1
#: Rows converted to float64 at once, so that a large weight is never held in eight times its size.
_EXACT_ROWS = 256


def accumulate(codes: Tensor, weight: Tensor, source: Tensor, counts: Tensor) -> Tensor:
    """Integer product of flattened activations with a weight whose extra columns are repeated.

    Column `K + e` of `codes` is multiplied with column `source[e]` of `weight` and counts `counts[e]` times.

    Args:
        codes: int8 `[M, K + E + padding]`, from `flatten_quantize`.
        weight: int8 `[N, K]`.
        source: int `[E]`.
        counts: int `[E]`, powers of two (`digit_weight`).

    Returns:
        int32 `[M, N]`, exact if no sum leaves int32 (see `accumulator_bound`).
    """
    columns = weight.shape[1]
    total = _exact_product(codes[:, :columns], weight)
    for count in torch.unique(counts).tolist():
        chosen = (counts == count).nonzero()[:, 0]
        repeated = weight[:, source.long()[chosen]]
        total += _exact_product(codes[:, columns + chosen], repeated) * int(count)
    return total


def epilogue(sums: Tensor, scale: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Turn integer sums into the layer's output: `sums * scale + bias` in float32, rounded to `dtype` once.

    Args:
        sums: int32 `[M, N]`.
        scale: float32 `[]` or `[N]`: activation scale times weight scale.
        bias: float `[N]` or None.
        dtype: dtype of the output.
    """
    output = sums.to(torch.float32) * scale
    if bias is not None:
        output = output + bias.to(torch.float32)
    return output.to(dtype)


def accumulator_bound(weight: Tensor, low: Tensor, high: Tensor) -> int:
    """Largest absolute value that any partial sum of `accumulate` can take.

    Args:
        weight: int8 `[N, K]`.
        low: integer `[K]`, smallest wide code of each channel.
        high: integer `[K]`, largest wide code of each channel.
    """
    # All digits of a code can be at their extremes, so the sum over digits never exceeds the code's own extreme.
    reach = torch.maximum(low.abs(), high.abs()).to(torch.float64)
    rows = weight.split(_EXACT_ROWS)
    return int(max((part.to(torch.float64).abs_() @ reach).max() for part in rows))


def _exact_product(codes: Tensor, weight: Tensor) -> Tensor:
    """int8 `[M, K]` times int8 `[N, K]` as int32 `[M, N]`, through float products that are exact."""
    if codes.device.type != "cpu":
        # Float64 is exact up to 2^53, and no setting makes a GPU round it, as TF32 does with float32.
        return (codes.to(torch.float64) @ weight.to(torch.float64).T).to(torch.int32)
    total = torch.zeros(codes.shape[0], weight.shape[0], dtype=torch.int32)
    for start in range(0, codes.shape[1], _EXACT_COLUMNS):
        part = slice(start, start + _EXACT_COLUMNS)
        total += (codes[:, part].to(torch.float32) @ weight[:, part].to(torch.float32).T).to(torch.int32)
    return total

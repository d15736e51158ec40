"""GPTQ (Frantar et al. 2022, arXiv 2210.17323): round column by column, let the later columns make up for the error."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

#: Columns whose updates are applied to the rest of the weight at once.
_BLOCK = 64


@dataclass(frozen=True)
class InverseFactor:
    """The part of GPTQ that depends on the inputs only.

    Attributes:
        factor: float32 `[K, K]`, upper Cholesky factor of the inverse of the damped Hessian, columns in `order`.
        order: int64 `[K]`, columns by falling second moment (activation order).
    """

    factor: Tensor
    order: Tensor


def inverse_factor(hessian: Tensor, damping: float) -> InverseFactor:
    """Factor a Hessian for `gptq`.

    Args:
        hessian: float32 `[K, K]`, second moment of the inputs.
        damping: fraction of the mean diagonal that is added to the diagonal; more if the matrix is too singular.
    """
    order = hessian.diagonal().argsort(descending=True, stable=True)
    damped = hessian[order][:, order]
    mean = float(damped.diagonal().mean().clamp_min(torch.finfo(torch.float32).tiny))
    added = damping
    while True:
        damped.diagonal().add_(added * mean)
        lower, failed = torch.linalg.cholesky_ex(damped)
        if not int(failed):
            inverse = torch.cholesky_inverse(lower)
            del lower
            factor, failed = torch.linalg.cholesky_ex(inverse, upper=True)
            if not int(failed):
                return InverseFactor(factor, order)
        added *= 10


def gptq(weight: Tensor, inverse: InverseFactor, scale: Tensor, bits: int) -> Tensor:
    """Codes that keep `weight @ x` close for inputs with the factored second moment.

    Args:
        weight: float32 `[N, K]`.
        inverse: from `inverse_factor`.
        scale: float32 `[1]` or `[N]`, the grid.
        bits: 4 or 8.

    Returns:
        int8 `[N, K]` in [-2^(bits-1), 2^(bits-1) - 1].
    """
    half = 1 << (bits - 1)
    factor, order = inverse.factor, inverse.order
    weight = weight[:, order]
    codes = torch.empty(weight.shape, dtype=torch.int8, device=weight.device)
    columns = weight.shape[1]
    for start in range(0, columns, _BLOCK):
        stop = min(start + _BLOCK, columns)
        part = weight[:, start:stop]
        errors = torch.empty_like(part)
        for j in range(stop - start):
            row = factor[start + j, start + j : stop]
            code = torch.clamp(torch.round(part[:, j] / scale), -half, half - 1)
            errors[:, j] = (part[:, j] - code * scale) / row[0]
            part[:, j + 1 :] -= torch.outer(errors[:, j], row[1:])
            codes[:, start + j] = code.to(torch.int8)
        weight[:, stop:] -= errors @ factor[start:stop, stop:]
    result = torch.empty_like(codes)
    result[:, order] = codes
    return result

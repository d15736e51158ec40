"""Smoothing: a factor for each channel that moves range from the activations into the weights.

After SmoothQuant (Xiao et al. 2022, arXiv 2211.10438, equation 4). The factors are applied in the quantize node, in
the multiplication it does anyway, so that nothing has to be folded into a norm or another layer.
"""

from __future__ import annotations

import torch
from torch import Tensor

#: Strengths tried for each group. 0 leaves the activations alone, 1 gives every channel the same largest value.
STRENGTHS = (0.0, 0.5, 0.75, 1.0)


def smoothing_factors(largest: Tensor, weights: Tensor, strength: float) -> Tensor:
    """Factors that activations are multiplied with; the weight's columns are divided by them.

    Args:
        largest: float32 `[K]`, largest absolute activation of each channel.
        weights: float32 `[K]`, largest absolute weight that reads each channel.
        strength: 0 (factors of 1) to 1 (all channels reach the same maximum).

    Returns:
        float32 `[K]`, positive, geometric mean 1.
    """
    if strength == 0:
        return torch.ones_like(largest)
    log = (1 - strength) * _log(weights) - strength * _log(largest)
    return (log - log.mean()).exp()


def _log(values: Tensor) -> Tensor:
    """Logarithm; channels that are (nearly) always 0 count as a millionth of the largest."""
    return values.clamp_min(float(values.amax()) * 1e-6 + 1e-30).log()

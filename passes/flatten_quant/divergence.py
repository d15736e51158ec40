"""Our reading of the paper's criterion for INT4: how far quantization moves the distribution of a group's outputs.

The paper (arXiv 2402.17985) names a KL divergence; its formula was not available to us.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from fyc_passes.flatten_quant.candidates import GroupInputs
from fyc_passes.flatten_quant.convert import Converted
from fyc_passes.flatten_quant.groups import layer_weight
from fyc_passes.flatten_quant.modules import FlattenQuantize
from torch import Tensor, nn

_BINS = 256


def output_divergence(
    layers: Sequence[nn.Module], inputs: GroupInputs, quantize: FlattenQuantize, converted: Converted
) -> float:
    """KL divergence (nats) from the histogram of a group's float outputs to that of its quantized outputs.

    Args:
        layers: the float layers.
        inputs: their inputs.
        quantize: the group's quantize node.
        converted: the integer layers.
    """
    _, low, high = quantize.ranges()
    seen = (inputs.sample / quantize.scale).round().clamp(low, high) * quantize.scale
    total = 0.0
    for layer, integer in zip(layers, converted.layers, strict=True):
        weight = layer_weight(layer)
        weight = weight if inputs.factors is None else weight / inputs.factors
        stored = integer.codes().float() * integer.weight_scale[:, None]
        total += histogram_divergence(inputs.sample @ weight.T, seen @ stored.T)
    return total / len(layers)


def histogram_divergence(expected: Tensor, found: Tensor) -> float:
    """KL divergence (nats) between histograms of two tensors over their common range."""
    low = float(torch.minimum(expected.min(), found.min()))
    high = float(torch.maximum(expected.max(), found.max()))
    if high <= low:
        return 0.0
    # One added to every bin: an empty bin would make the divergence infinite.
    p = torch.histc(expected, _BINS, low, high).double() + 1
    q = torch.histc(found, _BINS, low, high).double() + 1
    p, q = p / p.sum(), q / q.sum()
    return float((p * (p / q).log()).sum())

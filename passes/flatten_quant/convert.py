"""Quantize one group of linear layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from fyc_kernels.flatten_quantize import wide_codes
from fyc_passes.flatten_quant.candidates import GroupInputs, find_grids
from fyc_passes.flatten_quant.gptq import gptq, inverse_factor
from fyc_passes.flatten_quant.groups import Group, layer_bias, layer_weight
from fyc_passes.flatten_quant.modules import FlattenQuantize, IntLinear
from fyc_passes.flatten_quant.options import FlattenQuantOptions
from fyc_passes.flatten_quant.split import check_accumulator, extra_columns, flatten_map
from fyc_passes.flatten_quant.weights import round_to_grid, weight_scale
from torch import Tensor, nn


@dataclass(frozen=True)
class GroupPlan:
    """What was decided for a group.

    Attributes:
        weight_bits: 4 or 8.
        activation_bits: 4 or 8.
        extra: number of extra columns.
        strength: smoothing strength.
    """

    weight_bits: int
    activation_bits: int
    extra: int
    strength: float


@dataclass(frozen=True)
class Converted:
    """A quantized group.

    Attributes:
        layers: the integer layers, in the order of the group's paths.
        error: relative error of the group's output on the sample, in which every token counts the same.
        weighted_error: the same with the weights of the rows: what the search makes small.
        saturation: share of the sample's values that were clipped, tokens again counting the same.
    """

    layers: Sequence[IntLinear]
    error: float
    weighted_error: float
    saturation: float


def make_quantize(
    group: Group, layers: Sequence[nn.Module], inputs: GroupInputs, plan: GroupPlan, options: FlattenQuantOptions
) -> FlattenQuantize:
    """The quantize node of a group: finds step and flatten map for the planned number of extra columns."""
    grid = find_grids(inputs, layers, [plan.extra], plan.activation_bits, options)[plan.extra]
    found = flatten_map(grid.extra)
    quantize = FlattenQuantize(
        group.channels, len(found), plan.activation_bits, options.split,
        smooth=inputs.factors is not None, shift=inputs.shift is not None,
    )  # fmt: skip
    quantize.scale = torch.tensor(grid.scale, dtype=torch.float32)
    quantize.flatten_src, quantize.flatten_digit = found.source, found.digit
    quantize.smooth, quantize.shift = inputs.factors, inputs.shift
    return quantize


def dequantized(quantize: FlattenQuantize, x: Tensor) -> Tensor:
    """What the integer layers see of raw inputs `[rows, K]`, in the shifted and smoothed space, float32 `[rows, K]`."""
    multiplier, low, high = quantize.ranges()
    return wide_codes(x, multiplier, quantize.shift, low, high).to(torch.float32) * quantize.scale


def quantize_layers(
    layers: Sequence[nn.Module], inputs: GroupInputs, quantize: FlattenQuantize, plan: GroupPlan,
    options: FlattenQuantOptions, *, hessian: Tensor | None, where: str,
) -> Converted:  # fmt: skip
    """Quantize the layers of a group for inputs that `quantize` produces.

    Args:
        layers: Linear or Conv1D modules with weights.
        inputs: their inputs.
        quantize: the group's quantize node.
        plan: bits.
        options: granularity and rounding.
        hessian: second moment of the dequantized inputs, float32 `[K, K]`; with it weights are rounded by GPTQ.
        where: module path, for errors.

    Raises:
        PassError: FYC-X01 when an integer sum could overflow.
    """
    _, low, high = quantize.ranges()
    wide = inputs.sample / quantize.scale
    clipped = ((wide < low - 0.5) | (wide > high + 0.5)).float().mean(1)
    seen = wide.round_().clamp_(low, high) * quantize.scale
    importance = None
    if options.search == "error":
        importance = inputs.rows @ seen.square() if hessian is None else hessian.diagonal().clone()
    inverse = None if hessian is None else inverse_factor(hessian, options.damping)
    extra = extra_columns(quantize.flatten_src, quantize.channels)
    counted = torch.stack([inputs.tokens, inputs.rows])
    made, lost, energy = [], torch.zeros(2), torch.zeros(2)
    for layer in layers:
        weight, bias = layer_weight(layer), layer_bias(layer)
        constant = torch.zeros(len(weight)) if inputs.shift is None else weight @ inputs.shift
        weight = weight if inputs.factors is None else weight / inputs.factors
        scale = weight_scale(weight, plan.weight_bits, options.granularity, importance)
        if inverse is None:
            stored = round_to_grid(weight, scale, plan.weight_bits)
        else:
            stored = gptq(weight, inverse, scale, plan.weight_bits)
        check_accumulator(stored, extra, plan.activation_bits, options.split, where)
        made.append(_int_layer(stored, scale, bias, constant, inputs.shift is not None, plan, options))
        expected = inputs.sample @ weight.T
        difference = (seen @ stored.float().T).mul_(scale).sub_(expected)
        lost += counted @ difference.square().sum(1)
        energy += counted @ (expected + constant).square().sum(1)
    error, weighted_error = (lost / energy.clamp_min(torch.finfo(torch.float32).tiny)).tolist()
    return Converted(made, error, weighted_error, float(inputs.tokens @ clipped))


def _int_layer(
    stored: Tensor, scale: Tensor, bias: Tensor | None, constant: Tensor, shifted: bool, plan: GroupPlan,
    options: FlattenQuantOptions,
) -> IntLinear:  # fmt: skip
    made = IntLinear(
        stored.shape[1], stored.shape[0], plan.weight_bits, options.granularity,
        bias=bias is not None or shifted, activation_bits=plan.activation_bits, split=options.split,
    )  # fmt: skip
    made.set_codes(stored)
    made.weight_scale = scale
    if bias is not None or shifted:
        made.bias = constant if bias is None else constant + bias
    return made

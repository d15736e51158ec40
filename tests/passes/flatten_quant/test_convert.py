from __future__ import annotations

import pytest
import torch
from fyc_passes.flatten_quant.candidates import GroupInputs, curves, group_factors, inputs_of
from fyc_passes.flatten_quant.convert import Converted, GroupPlan, dequantized, make_quantize, quantize_layers
from fyc_passes.flatten_quant.groups import Group
from fyc_passes.flatten_quant.modules import FlattenQuantize
from fyc_passes.flatten_quant.options import FlattenQuantOptions
from fyc_passes.flatten_quant.statistics import InputStatistics
from fyc_passes.flatten_quant.weights import Granularity
from torch import Tensor, nn


def inputs(channels: int, seed: int = 0) -> Tensor:
    """Correlated channels of very different size and mean."""
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(channels, channels, generator=torch.Generator().manual_seed(99)) / channels**0.5
    size = torch.logspace(-1, 1, channels)
    return (torch.randn(1200, channels, generator=generator) @ mix + torch.linspace(-3, 3, channels)) * size


def layers(channels: int, *, bias: bool = True) -> list[nn.Module]:
    torch.manual_seed(3)
    return [nn.Linear(channels, 20, bias=bias), nn.Linear(channels, 12, bias=bias)]


def calibrated(options: FlattenQuantOptions, weights: Tensor | None = None) -> GroupInputs:
    statistics = InputStatistics(24, torch.Generator().manual_seed(0), "mean" if options.shift else None)
    counts = torch.ones(1200) if weights is None else weights
    for rows, weight in zip(inputs(24).split(200), counts.split(200), strict=True):
        statistics.add(rows, weight)
    return inputs_of(statistics)


def quantized(
    options: FlattenQuantOptions, plan: GroupPlan, *, hessian: bool = False, weights: Tensor | None = None
) -> tuple[FlattenQuantize, Converted, GroupInputs, list[nn.Module]]:
    linears = layers(24)
    group = Group("q", None, (), ("a", "b"), residual=False, channels=24, macs=0)  # type: ignore[arg-type]
    found = calibrated(options, weights)
    found = found.smoothed(group_factors(linears, found.magnitudes.largest, plan.strength))
    quantize = make_quantize(group, linears, found, plan, options)
    seen = dequantized(quantize, inputs(24))
    moment = seen.T @ seen / len(seen) if hessian else None
    made = quantize_layers(linears, found, quantize, plan, options, hessian=moment, where="here")
    return quantize, made, found, linears


def lost(quantize: FlattenQuantize, made: Converted, linears: list[nn.Module], x: Tensor) -> float:
    """Relative error of the integer layers on rows that calibration did not see."""
    parts = (quantize.scale, quantize.flatten_src, quantize.flatten_digit, torch.float32)
    error = energy = 0.0
    with torch.no_grad():
        for linear, integer in zip(linears, made.layers, strict=True):
            expected, output = linear(x), integer(quantize(x), *parts)
            error += float((output - expected).square().sum())
            energy += float((expected - linear.bias).square().sum())
    return error / energy


@pytest.mark.parametrize("hessian", [False, True])
@pytest.mark.parametrize("shift", [False, True])
@pytest.mark.parametrize("strength", [0.0, 0.5])
@pytest.mark.parametrize("bits", [4, 8])
def test_the_reported_error_is_the_error_on_other_rows(bits: int, strength: float, shift: bool, hessian: bool) -> None:
    options = FlattenQuantOptions(shift=shift)
    quantize, made, _, linears = quantized(options, GroupPlan(bits, bits, 2, strength), hessian=hessian)
    measured = lost(quantize, made, linears, inputs(24, seed=7))
    # Rows beyond anything calibration saw are clipped, which shows most in 8 bits.
    assert 0.65 * made.error < measured < (1.35 if bits == 4 else 3) * made.error
    assert measured < (0.05 if bits == 4 else 5e-4)


def test_shift_and_smoothing_help_where_means_and_sizes_differ() -> None:
    plain = quantized(FlattenQuantOptions(shift=False), GroupPlan(4, 4, 2, 0.0))[1].error
    shifted = quantized(FlattenQuantOptions(), GroupPlan(4, 4, 2, 0.0))[1].error
    both = quantized(FlattenQuantOptions(), GroupPlan(4, 4, 2, 0.5))[1].error
    assert both < shifted < plain


@pytest.mark.parametrize("granularity", ["channel", "tensor"])
def test_curves_predict_what_conversion_gives(granularity: Granularity) -> None:
    options = FlattenQuantOptions(
        weights="int4", activations="int4", rounding="nearest", max_group_expansion=0.3, granularity=granularity
    )
    linears = layers(24)
    group = Group("q", None, (), ("a", "b"), residual=False, channels=24, macs=0)  # type: ignore[arg-type]
    curve = curves(group, linears, calibrated(options), options)[4, 4]
    assert [candidate.extra for candidate in curve] == sorted({candidate.extra for candidate in curve})
    for candidate in curve:
        made = quantized(options, GroupPlan(4, 4, candidate.extra, candidate.strength))[1]
        assert made.weighted_error == pytest.approx(candidate.error, rel=0.6)
    assert curve[-1].error < curve[0].error


def test_biases_take_in_the_shift() -> None:
    quantize, made, found, linears = quantized(FlattenQuantOptions(), GroupPlan(8, 8, 0, 0.0))
    assert found.shift is not None
    for linear, integer in zip(linears, made.layers, strict=True):
        assert torch.allclose(integer.bias, linear.bias + linear.weight @ found.shift, atol=1e-5)
    x = found.shift.expand(1, -1)
    assert not quantize(x).any()


def test_the_report_counts_tokens_alike_whatever_they_weigh() -> None:
    weights = torch.ones(1200)
    weights[0] = 1000.0  # one token that decides the plan
    options, plan = FlattenQuantOptions(headroom=1.0), GroupPlan(4, 4, 0, 0.0)
    quantize, made, found, linears = quantized(options, plan, weights=weights)
    x = inputs(24)
    assert made.error == pytest.approx(lost(quantize, made, linears, x), rel=0.1)
    assert made.weighted_error < 0.9 * made.error
    high = 7.5 * quantize.scale
    clipped = ((x - found.shift > high) | (x - found.shift < -high - quantize.scale)).float().mean()
    assert made.saturation == pytest.approx(float(clipped), rel=0.1)
    assert clipped > 0.001


def test_without_search_nothing_is_clipped() -> None:
    options = FlattenQuantOptions(search="none", shift=False, headroom=1.0)
    quantize, made, found, linears = quantized(options, GroupPlan(8, 8, 0, 0.0))
    assert float(quantize.scale) == pytest.approx(float(found.magnitudes.largest.max()) / 127)
    assert made.saturation == 0
    for linear, integer in zip(linears, made.layers, strict=True):
        assert torch.allclose(integer.weight_scale, linear.weight.abs().amax(1) / 127)

from __future__ import annotations

import pytest
import torch
from fyc_passes.flatten_quant.gptq import gptq, inverse_factor
from fyc_passes.flatten_quant.smooth import smoothing_factors
from fyc_passes.flatten_quant.weights import round_to_grid, weight_scale
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor


def inputs(rows: int, channels: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    mix = torch.randn(channels, channels, generator=generator) / channels**0.5
    return torch.randn(rows, channels, generator=generator) @ (mix + torch.eye(channels))


def plain_gptq(weight: Tensor, hessian: Tensor, scale: Tensor, bits: int, damping: float) -> Tensor:
    """Column by column, with the inverse Hessian of the columns that are left computed anew each time."""
    half, rest = 2 ** (bits - 1), weight.double().clone()
    hessian = hessian.double() + damping * hessian.diagonal().mean() * torch.eye(len(hessian), dtype=torch.float64)
    codes = torch.zeros(weight.shape, dtype=torch.int8)
    left = hessian.diagonal().argsort(descending=True, stable=True).tolist()
    while left:
        column, left = left[0], left[1:]
        code = (rest[:, column] / scale).round().clamp(-half, half - 1)
        codes[:, column] = code.to(torch.int8)
        if left:
            inverse = torch.linalg.inv(hessian[[column, *left]][:, [column, *left]])
            error = (rest[:, column] - code * scale) / inverse[0, 0]
            rest[:, left] -= torch.outer(error, inverse[0, 1:])
    return codes


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 100), channels=st.integers(2, 90), bits=st.sampled_from([4, 8]))
def test_gptq_equals_the_plain_algorithm(seed: int, channels: int, bits: int) -> None:
    x = inputs(200, channels, seed)
    weight = torch.randn(5, channels, generator=torch.Generator().manual_seed(seed))
    scale = weight_scale(weight, bits, "channel")
    hessian = x.T @ x / len(x)
    codes = gptq(weight, inverse_factor(hessian, 0.01), scale, bits)
    expected = plain_gptq(weight, hessian, scale, bits, 0.01)
    # Float32 may round a weight that lies between two codes the other way; what follows then differs as well.
    rows = (codes == expected).all(1)
    assert int(rows.sum()) >= (3 if bits == 8 else 4)
    lost = [(((c * scale[:, None] - weight) @ x.T) ** 2).sum() for c in (codes.float(), expected.float())]
    assert float(lost[0]) == pytest.approx(float(lost[1]), rel=0.05)


def test_gptq_loses_less_than_rounding() -> None:
    x, weight = inputs(500, 64, 1), torch.randn(32, 64, generator=torch.Generator().manual_seed(2))
    scale = weight_scale(weight, 4, "channel", x.square().mean(0))
    rounded = round_to_grid(weight, scale, 4)
    better = gptq(weight, inverse_factor(x.T @ x / 500, 0.01), scale, 4)
    lost = [float((((c.float() * scale[:, None] - weight) @ x.T) ** 2).sum()) for c in (rounded, better)]
    assert lost[1] < 0.6 * lost[0]


def test_gptq_does_not_change_its_arguments_and_survives_dead_channels() -> None:
    x = inputs(100, 16, 0)
    x[:, 3] = 0
    x[:, 5] = x[:, 4]
    weight = torch.randn(4, 16, generator=torch.Generator().manual_seed(0))
    hessian, before = x.T @ x / 100, weight.clone()
    kept = hessian.clone()
    codes = gptq(weight, inverse_factor(hessian, 1e-9), weight_scale(weight, 4, "channel"), 4)
    assert torch.equal(hessian, kept)
    assert torch.equal(weight, before)
    assert int(codes.min()) >= -8
    assert int(codes.max()) <= 7


@pytest.mark.parametrize("granularity", ["tensor", "channel"])
@pytest.mark.parametrize("bits", [4, 8])
def test_rounding_keeps_every_weight_within_half_a_step(bits: int, granularity: str) -> None:
    weight = torch.randn(6, 40, generator=torch.Generator().manual_seed(0))
    scale = weight_scale(weight, bits, granularity)
    assert scale.shape == ((1,) if granularity == "tensor" else (6,))
    codes = round_to_grid(weight, scale, bits)
    assert bool(((codes * scale[:, None] - weight).abs() <= scale[:, None] * 0.5001).all())


def test_the_clipping_search_lowers_the_weighted_error() -> None:
    generator = torch.Generator().manual_seed(0)
    weight, importance = torch.randn(1200, 64, generator=generator), torch.rand(64, generator=generator)
    weight[:, 0] *= 6
    importance[0] = 1e-4
    lost = []
    for given_importance in (None, importance):
        scale = weight_scale(weight, 4, "channel", given_importance)
        error = (round_to_grid(weight, scale, 4) * scale[:, None] - weight).square() @ importance
        lost.append(error)
    assert bool((lost[1] <= lost[0] * 1.0001).all())
    assert float(lost[1].sum()) < 0.8 * float(lost[0].sum())


def test_smoothing_at_full_strength_gives_all_channels_one_maximum() -> None:
    largest, weights = torch.tensor([1.0, 100.0, 0.01]), torch.tensor([1.0, 2.0, 0.5])
    full = smoothing_factors(largest, weights, 1.0) * largest
    assert torch.allclose(full, full[0].expand(3), rtol=1e-5)
    half = smoothing_factors(largest, weights, 0.5)
    assert torch.allclose(
        half * largest / (weights / half), torch.ones(3) * (half[0] * 1.0) / (1.0 / half[0]), rtol=1e-4
    )
    assert float(half.log().mean()) == pytest.approx(0, abs=1e-6)
    assert torch.equal(smoothing_factors(largest, weights, 0.0), torch.ones(3))


def test_smoothing_survives_dead_channels() -> None:
    factors = smoothing_factors(torch.tensor([0.0, 1.0]), torch.tensor([1.0, 0.0]), 0.5)
    assert bool(torch.isfinite(factors).all())
    assert bool((factors > 0).all())

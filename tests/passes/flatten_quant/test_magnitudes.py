from __future__ import annotations

import torch
from fyc_passes.flatten_quant.magnitudes import Magnitudes
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor


def heavy_tails(rows: int, channels: int, seed: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, channels, generator=generator) ** 3 * torch.logspace(-3, 3, channels)
    return x, torch.rand(rows, generator=generator) + 0.01


def magnitudes(x: Tensor, weights: Tensor) -> Magnitudes:
    found = Magnitudes(x.shape[1])
    for rows, part in zip(x.split(100), weights.split(100), strict=True):
        found.add(rows, part)
    return found


def mean(values: Tensor, weights: Tensor) -> Tensor:
    return (values.double() * weights.double()[:, None]).sum(0) / weights.double().sum()


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 1000), share=st.floats(0.02, 0.9))
def test_errors_of_clipping_and_rounding_are_those_of_the_values(seed: int, share: float) -> None:
    x, weights = heavy_tails(700, 5, seed)
    found, largest = magnitudes(x, weights), x.abs().amax(0)
    assert torch.equal(found.largest, largest)
    assert torch.allclose(found.mean_square().double(), mean(x.square(), weights), rtol=1e-5)
    limits = largest.double() * share
    clipped = mean((x.abs() - limits).clamp_min(0).square(), weights)
    # What is lost are the values in the bin that the limit cuts through: they lie at most an eighth above it.
    unseen = (limits / 8).square()
    once_more = weights[x.abs().argmax(0)] / weights.sum()
    measured = found.clipped(limits[:, None])[:, 0] - (largest - limits).square() * once_more
    assert bool((measured <= clipped * (1 + 1e-4)).all())
    assert bool((measured >= clipped * (1 - 1e-4) - unseen).all())
    steps = largest.double() * share / 20
    rounded = mean(((x / steps).round() * steps - x).square(), weights)
    assert bool((found.rounded(steps) < 1.5 * rounded).all())
    assert bool((found.rounded(steps) > 0.6 * rounded).all())


def test_headroom_counts_the_largest_value_once_more() -> None:
    found = magnitudes(torch.tensor([[1.0], [-3.0]]), torch.tensor([0.75, 0.25]))
    limit = torch.tensor([[4.0]], dtype=torch.float64)
    assert found.clipped(limit).tolist() == [[0.0]]
    assert found.clipped(limit, headroom=2.0).tolist() == [[(6 - 4) ** 2 * 0.25]]


def test_extreme_sizes() -> None:
    x = torch.tensor([[0.0, 1e-30, 1e30], [1.0, 2e-30, 2e30], [3.0, 0.0, -1e30], [-5.0, 0.0, 0.0]])
    found = magnitudes(x, torch.ones(4))
    assert bool(torch.isfinite(found.clipped(torch.ones(3, 1, dtype=torch.float64))[:2]).all())

from __future__ import annotations

import torch
from fyc_passes.flatten_quant.divergence import histogram_divergence
from fyc_passes.flatten_quant.statistics import HEAVY_ROWS, SAMPLE_ROWS, InputStatistics, Moments


def test_statistics_equal_those_of_all_rows_at_once() -> None:
    generator = torch.Generator().manual_seed(0)
    x, weights = torch.randn(900, 7, generator=generator) + 3, torch.rand(900, generator=generator)
    statistics = InputStatistics(7, generator)
    for rows, part in zip(x.split(250), weights.split(250), strict=True):
        statistics.add(rows, part)
    assert torch.equal(statistics.magnitudes.largest, x.abs().amax(0))
    moment = (weights[:, None] * x.square()).sum(0) / weights.sum()
    assert torch.allclose(statistics.magnitudes.mean_square(), moment, rtol=1e-5)
    # Few enough rows are all kept, each with its own weight: the heaviest last.
    heavy = (weights * x.square().sum(1)).argsort(descending=True)[:HEAVY_ROWS].sort().values
    drawn = torch.ones(len(x), dtype=torch.bool).index_fill(0, heavy, False)
    assert torch.equal(statistics.sample.sort(0).values, x.sort(0).values)
    assert torch.equal(statistics.sample[-HEAVY_ROWS:].sort(0).values, x[heavy].sort(0).values)
    assert torch.allclose(statistics.sample_weights[:-HEAVY_ROWS].sum(), weights[drawn].sum())


def test_the_sample_is_bounded_and_drawn_from_everywhere() -> None:
    statistics = InputStatistics(2, torch.Generator().manual_seed(0))
    for start in range(0, 8 * SAMPLE_ROWS, 512):
        rows = torch.arange(start, start + 512, dtype=torch.float32)
        statistics.add(rows[:, None].expand(-1, 2), rows)
    assert statistics.sample.shape == (SAMPLE_ROWS + HEAVY_ROWS, 2)
    stands_for = (8 * SAMPLE_ROWS - HEAVY_ROWS) / SAMPLE_ROWS
    drawn, heavy = statistics.sample[:SAMPLE_ROWS, 0], statistics.sample[SAMPLE_ROWS:, 0]
    assert torch.allclose(statistics.sample_weights, torch.cat([drawn * stands_for, heavy]))
    assert heavy.sort().values.tolist() == list(range(8 * SAMPLE_ROWS - HEAVY_ROWS, 8 * SAMPLE_ROWS))
    quarters = torch.histc(drawn, 4, 0, 8 * SAMPLE_ROWS)
    assert bool((quarters > SAMPLE_ROWS / 6).all())


def test_a_single_heavy_row_is_never_missed() -> None:
    statistics = InputStatistics(3, torch.Generator().manual_seed(0))
    for batch in range(20):
        rows = torch.ones(512, 3)
        if batch == 7:
            rows[0] = 1e4
        statistics.add(rows, torch.ones(512))
    assert float(statistics.sample.max()) == 1e4


def test_the_shift_comes_first_and_can_be_the_mean_of_the_first_batch() -> None:
    statistics = InputStatistics(2, torch.Generator().manual_seed(0), torch.tensor([1.0, 0.0]))
    statistics.add(torch.tensor([[3.0, 4.0]], dtype=torch.bfloat16), torch.ones(1))
    assert statistics.sample.tolist() == [[2.0, 4.0]]
    assert statistics.magnitudes.largest.tolist() == [2.0, 4.0]
    statistics = InputStatistics(1, torch.Generator().manual_seed(0), "mean")
    statistics.add(torch.tensor([[1.0], [5.0]]), torch.tensor([1.0, 3.0]))
    statistics.add(torch.tensor([[10.0]]), torch.ones(1))
    assert statistics.shift is not None
    assert statistics.shift.tolist() == [4.0]
    assert sorted(statistics.sample[:, 0].tolist()) == [-3.0, 1.0, 6.0]


def test_moments_are_those_of_the_quantized_rows() -> None:
    x = torch.randn(60, 5, generator=torch.Generator().manual_seed(0))
    weights = torch.rand(60, generator=torch.Generator().manual_seed(1))
    moments = Moments(5, torch.round)
    for rows, part in zip(x.split(25), weights.split(25), strict=True):
        moments.add(rows, part)
    expected = (x.round() * weights[:, None]).T @ x.round() / weights.sum()
    assert torch.allclose(moments.hessian, expected, rtol=1e-4, atol=1e-6)


def test_histogram_divergence_grows_with_the_difference() -> None:
    x = torch.randn(5000, generator=torch.Generator().manual_seed(0))
    assert histogram_divergence(x, x) == 0
    assert histogram_divergence(torch.ones(3), torch.ones(3)) == 0
    near, far = histogram_divergence(x, x * 1.02), histogram_divergence(x, x * 1.5)
    assert 0 < near < far

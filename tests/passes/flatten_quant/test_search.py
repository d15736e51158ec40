from __future__ import annotations

import pytest
import torch
from fyc_kernels.flatten_quantize import wide_range
from fyc_passes.flatten_quant.magnitudes import Magnitudes
from fyc_passes.flatten_quant.search import ActivationGrid, covering_grid, search_grids
from fyc_passes.flatten_quant.split import extra_columns, flatten_map, most_extra
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor


def outliers(rows: int, channels: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, channels, generator=generator)
    x[:, torch.randperm(channels, generator=generator)[: max(channels // 10, 1)]] *= 40
    return x


def search(
    x: Tensor, importance: Tensor, budgets: list[int], bits: int, split: str, *, rows: Tensor | None = None,
    factors: Tensor | None = None, headroom: float = 1.0,
) -> dict[int, ActivationGrid]:  # fmt: skip
    magnitudes = Magnitudes(x.shape[1])
    magnitudes.add(x, torch.ones(len(x)) if rows is None else rows)
    factors = torch.ones(x.shape[1]) if factors is None else factors
    return search_grids(magnitudes, factors, importance, budgets, bits=bits, split=split, headroom=headroom)  # type: ignore[arg-type]


def output_error(x: Tensor, scale: float, extra: Tensor, bits: int, split: str, importance: Tensor) -> float:
    low, high = wide_range(bits, split, extra)
    seen = (x / scale).round().clamp(low.float(), high.float()) * scale
    return float(((seen - x).square() * importance).sum(1).mean())


@pytest.mark.parametrize("split", ["radix", "unary"])
@pytest.mark.parametrize("bits", [4, 8])
def test_the_error_of_a_grid_is_what_its_map_gives(bits: int, split: str) -> None:
    x, importance = outliers(200, 40, 0), torch.rand(40, generator=torch.Generator().manual_seed(1)) + 0.1
    for budget, grid in search(x, importance, [0, 2, 6], bits, split).items():
        assert int(grid.extra.sum()) <= budget
        assert int(grid.extra.max()) <= most_extra(bits, split)
        measured = output_error(x, grid.scale, grid.extra, bits, split, importance)
        # A bin that a limit cuts through counts as not clipped.
        assert 0.5 * grid.error < measured < 1.3 * grid.error


def test_errors_fall_with_the_budget_and_radix_needs_fewer_columns() -> None:
    x, importance = outliers(300, 50, 3), torch.ones(50)
    errors = {}
    for split in ("radix", "unary"):
        grids = search(x, importance, [0, 5, 10, 20], 4, split)
        errors[split] = [grids[budget].error for budget in (0, 5, 10, 20)]
        assert errors[split] == sorted(errors[split], reverse=True)
    assert errors["radix"][1] < 0.5 * errors["unary"][1]
    assert errors["radix"][1] < 0.1 * errors["radix"][0]


def test_the_searched_step_is_near_the_best_of_a_fine_grid() -> None:
    x, importance = torch.randn(4000, 30, generator=torch.Generator().manual_seed(5)), torch.ones(30)
    grid = search(x, importance, [0], 4, "radix")[0]
    none = torch.zeros(30, dtype=torch.int64)
    fine = min(output_error(x, float(x.abs().max()) / 7 * 0.99**k, none, 4, "radix", importance) for k in range(200))
    assert output_error(x, grid.scale, none, 4, "radix", importance) <= fine * 1.1


def test_rows_count_by_their_weight() -> None:
    x = torch.cat([torch.ones(50, 4), torch.full((1, 4), 300.0)])
    heavy, light = (
        search(x, torch.ones(4), [0], 4, "radix", rows=torch.cat([torch.ones(50), torch.tensor([w])]))[0]
        for w in (1.0, 1e-9)
    )
    assert light.scale < heavy.scale / 10


def test_headroom_leaves_range_free() -> None:
    x = torch.randn(500, 20, generator=torch.Generator().manual_seed(0))
    tight, roomy = (search(x, torch.ones(20), [0], 8, "radix", headroom=h)[0].scale for h in (1.0, 2.0))
    assert roomy > 1.5 * tight


def test_smoothing_is_as_if_the_inputs_were_smoothed() -> None:
    x, importance = outliers(300, 30, 4), torch.rand(30, generator=torch.Generator().manual_seed(1)) + 0.1
    factors = 2.0 ** torch.randint(-3, 3, (30,), generator=torch.Generator().manual_seed(2))
    found = search(x, importance, [0, 3], 4, "radix", factors=factors)
    expected = search(x * factors, importance / factors.square(), [0, 3], 4, "radix")
    for budget in (0, 3):
        assert found[budget].scale == pytest.approx(expected[budget].scale)
        assert torch.equal(found[budget].extra, expected[budget].extra)
        assert found[budget].error == pytest.approx(expected[budget].error)


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 1000), budget=st.integers(0, 12), bits=st.sampled_from([4, 8]),
    split=st.sampled_from(["radix", "unary"]), headroom=st.sampled_from([1.0, 1.3]),
)  # fmt: skip
def test_a_covering_grid_clips_nothing(seed: int, budget: int, bits: int, split: str, headroom: float) -> None:
    x = outliers(30, 20, seed)
    largest = x.abs().amax(0)
    grid = covering_grid(largest, budget, bits=bits, split=split, headroom=headroom)
    assert int(grid.extra.sum()) <= budget
    high = wide_range(bits, split, grid.extra)[1]
    assert bool(((largest * headroom / grid.scale).round() <= high).all())


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=20))
def test_a_map_says_how_many_columns_each_channel_has(extra: list[int]) -> None:
    wanted = torch.tensor(extra)
    found = flatten_map(wanted)
    assert len(found) == int(wanted.sum())
    assert found.source.dtype == torch.int32
    assert found.digit.dtype == torch.int8
    assert torch.equal(extra_columns(found.source, len(extra)), wanted)
    for channel, count in enumerate(extra):
        assert found.digit[found.source == channel].tolist() == list(range(1, count + 1))

from __future__ import annotations

import pytest
import torch
from fyc_kernels.flatten_quantize import ALIGNMENT, digit_weight, flatten_quantize, split_codes, wide_codes, wide_range
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor


def columns(extra: Tensor) -> tuple[Tensor, Tensor]:
    """Source and digit of every extra column, first digits first."""
    pairs = [(c, d) for d in range(1, int(extra.max()) + 1) for c in range(len(extra)) if extra[c] >= d]
    source, digit = zip(*pairs, strict=True) if pairs else ((), ())
    return torch.tensor(source, dtype=torch.int32), torch.tensor(digit, dtype=torch.int8)


@st.composite
def flattened(draw: st.DrawFn) -> tuple[str, int, Tensor, Tensor, Tensor]:
    split = draw(st.sampled_from(["radix", "unary"]))
    bits = draw(st.sampled_from([4, 8]))
    most = 12 if split == "unary" else 24 // bits - 1
    extra = torch.tensor(draw(st.lists(st.integers(0, most), min_size=1, max_size=9)))
    low, high = wide_range(bits, split, extra)
    rows = draw(st.integers(1, 3))
    wide = torch.tensor(
        [[draw(st.integers(int(lo), int(hi))) for lo, hi in zip(low, high, strict=True)] for _ in range(rows)]
    )
    weight = torch.tensor([[draw(st.integers(-128, 127)) for _ in extra] for _ in range(2)])
    return split, bits, extra, wide.int(), weight


@settings(max_examples=200, deadline=None)
@given(flattened())
def test_flattened_product_equals_the_product_with_wide_codes_bit_for_bit(case: tuple) -> None:
    split, bits, extra, wide, weight = case
    source, digit = columns(extra)
    codes = split_codes(wide, source, digit, bits, split)
    half = 2 ** (bits - 1)
    assert codes.dtype == torch.int8
    assert int(codes.min()) >= -half
    assert int(codes.max()) < half
    counts = digit_weight(bits, split, digit)
    repeated = torch.cat([weight, weight[:, source.long()] * counts], 1)
    assert torch.equal(codes.long() @ repeated.T, wide.long() @ weight.T)


def test_unary_with_many_digits_does_not_overflow_the_stored_digit() -> None:
    extra = torch.tensor([100])
    low, high = wide_range(8, "unary", extra)
    source, digit = columns(extra)
    for value in (int(low), -5000, 0, 7000, int(high)):
        codes = split_codes(torch.tensor([[value]], dtype=torch.int32), source, digit, 8, "unary")
        assert int(codes.long().sum()) == value


@pytest.mark.parametrize(("bits", "split", "extra", "expected"), [
    (8, "radix", 0, (-128, 127)), (8, "radix", 1, (-128 - 128 * 256, 127 + 127 * 256)),
    (4, "radix", 1, (-136, 119)), (4, "radix", 2, (-2184, 1911)), (4, "unary", 3, (-32, 28)),
    (8, "unary", 1, (-256, 254)),
])  # fmt: skip
def test_range_of_wide_codes(bits: int, split: str, extra: int, expected: tuple[int, int]) -> None:
    low, high = wide_range(bits, split, torch.tensor([extra]))
    assert (int(low), int(high)) == expected


def test_rounds_half_to_even_after_shift_and_smoothing_and_saturates() -> None:
    x = torch.tensor([[0.5, 1.5, 2.5, -100.0, 3.0]])
    multiplier = torch.tensor([1.0, 1.0, 1.0, 2.0, 1.0])
    shift = torch.tensor([0.0, 0.0, 0.0, 0.0, 1.0])
    low, high = torch.full((5,), -8), torch.full((5,), 7)
    assert wide_codes(x, multiplier, shift, low, high).tolist() == [[0, 2, 2, -8, 2]]


def test_low_precision_inputs_are_scaled_in_float32() -> None:
    x = torch.tensor([[200.0, 201.0]], dtype=torch.bfloat16)
    low, high = torch.full((2,), -32896), torch.full((2,), 32639)
    wide = wide_codes(x, torch.tensor(100.0), None, low, high)
    assert wide.tolist() == [[20000, round(float(x[0, 1]) * 100)]]


def test_columns_are_padded_with_zeros_and_leading_shape_is_kept() -> None:
    x = torch.randn(2, 3, 20, generator=torch.Generator().manual_seed(0)) * 50
    extra = torch.zeros(20, dtype=torch.int64)
    extra[4] = 1
    low, high = wide_range(4, "radix", extra)
    source, digit = columns(extra)
    codes = flatten_quantize(
        x, torch.tensor(1.0), None, source, digit, low=low, high=high, bits=4, split="radix"
    )  # fmt: skip
    assert codes.shape == (2, 3, 32)
    assert codes.shape[-1] % ALIGNMENT == 0
    assert not codes[..., 21:].any()
    assert torch.equal(codes[..., 4] + codes[..., 20] * 16, x[..., 4].round().clamp(-136, 119).to(torch.int8))

from __future__ import annotations

import pytest
import torch
from fyc_kernels.flatten_quantize import digit_weight
from fyc_kernels.int_linear import (
    IntWeight,
    accumulate,
    accumulator_bound,
    epilogue,
    fast_paths,
    int_linear,
    pack_int4,
    unpack_int4,
)
from fyc_kernels.int_linear import dispatch as dispatch_module
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

PATHS = [path for path, works in fast_paths().items() if works]


def full_range(rows: int, columns: int, seed: int, bits: int = 8) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    half = 2 ** (bits - 1)
    return torch.randint(-half, half, (rows, columns), generator=generator).to(torch.int8)


@settings(max_examples=50, deadline=None)
@given(
    columns=st.integers(1, 2500), extra=st.integers(0, 5), rows=st.integers(1, 3), seed=st.integers(0, 1000),
    bits=st.sampled_from([4, 8]), split=st.sampled_from(["radix", "unary"]),
)  # fmt: skip
def test_accumulate_is_exact_for_any_number_of_columns(
    columns: int, extra: int, rows: int, seed: int, bits: int, split: str
) -> None:
    codes, weight = full_range(rows, columns + extra + 3, seed, bits), full_range(4, columns, seed + 1, bits)
    codes[:, :columns] = -(2 ** (bits - 1))
    weight[0] = -(2 ** (bits - 1))
    source = torch.arange(extra, dtype=torch.int32) % columns
    counts = digit_weight(bits, split, torch.arange(extra) % 2 + 1 if bits == 4 else torch.ones(extra))
    sums = accumulate(codes, weight, source, counts)
    flat = torch.cat([weight.long(), weight.long()[:, source.long()] * counts], 1)
    assert sums.dtype == torch.int32
    assert torch.equal(sums.long(), codes.long()[:, : columns + extra] @ flat.T)


@settings(max_examples=100, deadline=None)
@given(rows=st.integers(1, 5), columns=st.integers(1, 33), seed=st.integers(0, 1000))
def test_packed_int4_codes_come_back(rows: int, columns: int, seed: int) -> None:
    codes = full_range(rows, columns, seed, bits=4)
    packed = pack_int4(codes)
    assert packed.dtype == torch.uint8
    assert packed.shape == (rows, (columns + 1) // 2)
    assert torch.equal(unpack_int4(packed, columns), codes)


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 1000), columns=st.integers(1, 12))
def test_bound_holds_for_every_partial_sum(seed: int, columns: int) -> None:
    weight = full_range(3, columns, seed)
    high = torch.randint(1, 40000, (columns,), generator=torch.Generator().manual_seed(seed))
    low = -high - 1
    worst = torch.where(weight[:1] > 0, low, low.abs() - 1)[0]
    partial = (weight.long() * worst).cumsum(1).abs().max()
    assert int(partial) <= accumulator_bound(weight, low, high)
    assert accumulator_bound(weight, low, high) == int((weight.long().abs() * low.abs()).sum(1).max())


def test_epilogue_rounds_once_to_the_output_dtype() -> None:
    sums = torch.tensor([[1000, -3]], dtype=torch.int32)
    scale, bias = torch.tensor([0.001, 2.0]), torch.tensor([0.5, 0.25])
    assert epilogue(sums, scale, bias, torch.float32).tolist() == [[pytest.approx(1.5), -5.75]]
    assert epilogue(sums, scale, None, torch.bfloat16).dtype == torch.bfloat16


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("rows", [1, 7, 40])
@pytest.mark.parametrize(("bits", "count"), [(8, 1), (8, 256), (4, 16), (4, 256)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_fast_paths_equal_the_reference(path: str, rows: int, bits: int, count: int, dtype: torch.dtype) -> None:
    codes, weight = full_range(rows, 320, 1), full_range(24, 300, 2, bits)
    codes[:, 305:] = 0
    source, counts = torch.tensor([3, 3, 250, 299, 0]), torch.tensor([1, count, count, count, 1])
    scale = torch.rand(24, generator=torch.Generator().manual_seed(3)) / 1000
    bias = torch.randn(24, generator=torch.Generator().manual_seed(4))
    fast = int_linear(codes, IntWeight(lambda: weight, source, counts, path), scale, bias, dtype)
    exact = int_linear(codes, IntWeight(lambda: weight, source, counts, "reference"), scale, bias, dtype)
    assert fast.dtype == dtype
    if path == "int_mm":
        assert torch.equal(fast, exact)
    else:
        size = codes.float().abs().sum(1, keepdim=True) * 128 * count * scale
        ulp = torch.finfo(dtype).eps * exact.float().abs() + 1e-6 * size
        assert bool(((fast.float() - exact.float()).abs() <= ulp).all())


@pytest.mark.parametrize("path", PATHS)
def test_one_scale_for_all_outputs(path: str) -> None:
    codes, weight = full_range(3, 16, 1), full_range(5, 16, 2)
    none = torch.zeros(0, dtype=torch.int64)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        fast = int_linear(codes, IntWeight(lambda: weight, none, none, path), torch.tensor(2.0**-9), None, dtype)
        assert torch.equal(fast, ((codes.long() @ weight.long().T) * 2.0**-9).to(dtype))


def test_leading_shape_is_kept() -> None:
    none = torch.zeros(0, dtype=torch.int64)
    weight = IntWeight(lambda: full_range(5, 16, 2), none, none)
    codes = full_range(6, 16, 1).view(2, 3, 16)
    output = int_linear(codes, weight, torch.tensor(1.0), None, torch.float32)
    assert output.shape == (2, 3, 5)


@pytest.fixture
def _fresh_self_test() -> object:
    fast_paths.cache_clear()
    yield None
    fast_paths.cache_clear()


@pytest.mark.usefixtures("_fresh_self_test")
def test_a_product_that_saturates_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def saturating(codes: Tensor, weight: Tensor) -> Tensor:
        pairs = codes.int()[:, :, None] * weight.int()[None]
        return pairs.unflatten(1, (-1, 2)).sum(2).clamp(-(2**15), 2**15 - 1).sum(1, dtype=torch.int32)

    monkeypatch.setattr(torch, "_int_mm", saturating)
    monkeypatch.setattr(dispatch_module.OneDnn, "__init__", lambda self, parts: (_ for _ in ()).throw(AttributeError()))
    assert fast_paths() == {"onednn": False, "int_mm": False}
    none = torch.zeros(0, dtype=torch.int64)
    codes, weight = full_range(2, 32, 1), full_range(3, 32, 2)
    output = int_linear(codes, IntWeight(lambda: weight, none, none), torch.tensor(1.0), None, torch.float32)
    assert torch.equal(output, (codes.long() @ weight.long().T).float())

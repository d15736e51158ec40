"""Time of kernels: bounds that physics sets, and how time grows with shape."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fyc.plan.cost import kernels
from fyc.plan.cost.rates import Correction, Rates
from tests.plan.jobs import make_job

SIZE = st.integers(1, 20000)


def rates(gpu: str = "h100-sxm", precision: str = "bf16") -> Rates:
    job = make_job(gpu=gpu, precision=precision)
    return Rates.of(job.cluster, job.stack, job.precision)


@given(SIZE, SIZE, SIZE)
def test_a_product_is_never_faster_than_the_peak_or_the_memory(m: int, n: int, k: int) -> None:
    r = rates()
    seconds = float(kernels.product(m, n, k, r))
    assert seconds >= 2 * m * n * k / r.peak
    assert seconds >= 2 * (m * k + k * n + m * n) / (r.hbm / 0.74 * 1.01)


@given(SIZE, SIZE, SIZE)
def test_arrays_give_what_scalars_give(m: int, n: int, k: int) -> None:
    r = rates()
    both = kernels.product(np.array([m, 4096]), np.array([n, 4096]), np.array([k, 4096]), r)
    assert both[0] == pytest.approx(float(kernels.product(m, n, k, r)))
    assert both[1] == pytest.approx(float(kernels.product(4096, 4096, 4096, r)))


def test_large_products_sustain_the_share_of_the_hardware_file() -> None:
    r = rates()
    n = 32768
    rate = 2 * n**3 / float(kernels.product(n, n, n, r))
    assert rate / r.peak == pytest.approx(r.share, rel=0.02)


@pytest.mark.parametrize(("n", "slower"), [(4096 + 8, 1.2), (4096 + 1, 3.0)])
def test_dimensions_that_are_not_aligned_cost(n: int, slower: float) -> None:
    r = rates()
    assert float(kernels.product(4096, n, 4096, r)) > slower * float(kernels.product(4096, 4096, 4096, r))


def test_fp8_products_are_faster_but_not_twice() -> None:
    n = 16384
    low = float(kernels.product(n, n, n, rates(precision="fp8"), low=True))
    assert 1.3 < float(kernels.product(n, n, n, rates())) / low < 2.0


def test_attention_grows_with_the_square_of_the_length_and_backward_costs_more() -> None:
    r = rates()
    short = kernels.flash_attention(32, 4096, 4096, 256, r, work=0.5)
    long = kernels.flash_attention(32, 8192, 8192, 256, r, work=0.5)
    assert float(long[0]) / float(short[0]) == pytest.approx(4, rel=0.05)
    assert 2.0 < float(short[1]) / float(short[0]) < 4.0


def test_writing_the_scores_is_slower_than_flash_attention() -> None:
    job = make_job(gpu="a100-80gb")
    r = Rates.of(job.cluster, job.stack, "bf16")
    flash = kernels.flash_attention(32, 4096, 4096, 256, r, work=0.5)
    unfused = kernels.unfused_attention(32, 4096, 128, r, dropout=True)
    assert float(unfused[0]) > 2 * float(flash[0])


def test_a_correction_scales_the_part_it_names() -> None:
    r = rates()
    slower = r.corrected(Correction(product=1.5))
    n = 16384
    ratio = float(kernels.product(n, n, n, slower)) / float(kernels.product(n, n, n, r))
    assert ratio == pytest.approx(1.5, rel=0.01)
    assert float(kernels.streaming(1e9, slower)) == float(kernels.streaming(1e9, r))

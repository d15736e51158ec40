from __future__ import annotations

import copy
import gc
import weakref

import pytest
import torch
import torch.nn.functional as F
from fyc_passes.flatten_quant.modules import FlattenQuantize, Int8Embedding, Int8Head, IntLinear
from fyc_passes.flatten_quant.split import check_accumulator
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fyc.errors import PassError


def pair(channels: int, outputs: int, *, bits: int = 8, weight_bits: int = 8, extra: int = 2) -> nn.ModuleDict:
    generator = torch.Generator().manual_seed(channels)
    quantize = FlattenQuantize(channels, extra, bits, "radix", smooth=True, shift=True)
    quantize.scale = torch.tensor(0.05)
    quantize.smooth = torch.rand(channels, generator=generator) + 0.5
    quantize.shift = torch.randn(channels, generator=generator)
    quantize.flatten_src = torch.arange(extra, dtype=torch.int32)
    linear = IntLinear(
        channels, outputs, weight_bits, "channel", bias=True, activation_bits=bits, split="radix"
    )  # fmt: skip
    half = 2 ** (weight_bits - 1)
    linear.set_codes(torch.randint(-half, half, (outputs, channels), generator=generator).to(torch.int8))
    linear.weight_scale = torch.rand(outputs, generator=generator) / 100
    linear.bias = torch.randn(outputs, generator=generator)
    return nn.ModuleDict({"quantize": quantize, "linear": linear})


def run(modules: nn.ModuleDict, x: Tensor) -> Tensor:
    quantize, linear = modules["quantize"], modules["linear"]
    return linear(quantize(x), quantize.scale, quantize.flatten_src, quantize.flatten_digit, x.dtype)


@pytest.mark.parametrize(("bits", "weight_bits"), [(8, 8), (4, 4), (8, 4)])
def test_the_pair_computes_the_dequantized_product(bits: int, weight_bits: int) -> None:
    modules = pair(20, 6, bits=bits, weight_bits=weight_bits)
    quantize, linear = modules["quantize"], modules["linear"]
    x = torch.randn(2, 3, 20, generator=torch.Generator().manual_seed(0)) * 3
    x[..., 0] *= 10
    low = torch.full((20,), -(2.0 ** (bits - 1)))
    high = -low - 1
    low[:2], high[:2] = low[0] * (2**bits + 1), high[0] * (2**bits + 1)
    codes = ((x - quantize.shift) * (quantize.smooth / quantize.scale)).round().clamp(low, high)
    weight = linear.codes().double() * linear.weight_scale[:, None].double()
    expected = (codes.double() * quantize.scale.double()) @ weight.T + linear.bias
    assert torch.allclose(run(modules, x).double(), expected, rtol=1e-5, atol=1e-5)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), split=st.sampled_from(["radix", "unary"]))
def test_wide_enough_integers_change_nothing(seed: int, split: str) -> None:
    """Weights that are integers, and a step so fine that activations lose nothing: the float layer comes out."""
    generator = torch.Generator().manual_seed(seed)
    extra = 1 if split == "radix" else 120
    quantize = FlattenQuantize(6, 6 * extra, 8, split, smooth=False, shift=False)
    quantize.flatten_src = torch.arange(6, dtype=torch.int32).repeat(extra)
    quantize.flatten_digit = torch.arange(1, extra + 1).repeat_interleave(6).to(torch.int8)
    quantize.scale = torch.tensor(2.0**-10)
    weight = torch.randint(-127, 128, (4, 6), generator=generator).float() / 64
    linear = IntLinear(6, 4, 8, "channel", bias=False, activation_bits=8, split=split)
    linear.set_codes((weight * 64).to(torch.int8))
    linear.weight_scale = torch.full((4,), 1 / 64)
    x = (torch.randn(5, 6, generator=generator) * 1024).round() / 1024
    output = run(nn.ModuleDict({"quantize": quantize, "linear": linear}), x)
    assert torch.allclose(output, F.linear(x, weight), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_output_follows_the_input_dtype_and_scales_stay_float32(dtype: torch.dtype) -> None:
    modules = pair(16, 5)
    before = {name: tensor.clone() for name, tensor in modules.state_dict().items()}
    modules.to(dtype)
    assert all(torch.equal(tensor, before[name]) for name, tensor in modules.state_dict().items())
    assert run(modules, torch.randn(2, 16).to(dtype)).dtype == dtype


@pytest.mark.parametrize("made", [
    FlattenQuantize(12, 3, 4, "unary", smooth=True, shift=False),
    FlattenQuantize(12, 0, 8, "radix", smooth=False, shift=True),
    IntLinear(9, 4, 4, "tensor", bias=False, activation_bits=8, split="radix"),
    IntLinear(9, 4, 8, "channel", bias=True, activation_bits=4, split="unary"),
    Int8Embedding(10, 4, "bfloat16"), Int8Head(10, 4, bias=True),
])  # fmt: skip
def test_modules_can_be_built_again_from_their_config_on_meta(made: nn.Module) -> None:
    with torch.device("meta"):
        again = type(made)(**made.config())
    assert again.config() == made.config()
    shapes = {name: (tensor.shape, tensor.dtype) for name, tensor in made.state_dict().items()}
    assert {name: (tensor.shape, tensor.dtype) for name, tensor in again.state_dict().items()} == shapes


@pytest.mark.parametrize("arguments", [
    {"channels": 0}, {"channels": 2**40}, {"extra": -1}, {"bits": 5}, {"split": "ternary"},
])  # fmt: skip
def test_arguments_that_no_pass_writes_are_refused(arguments: dict) -> None:
    good = {"channels": 4, "extra": 1, "bits": 8, "split": "radix", "smooth": True, "shift": True}
    with torch.device("meta"), pytest.raises(ValueError, match="are"):
        FlattenQuantize(**good | arguments)


def test_int4_codes_take_half_a_byte() -> None:
    linear = pair(16, 6, weight_bits=4)["linear"]
    assert linear.state_dict()["weight_packed"].numel() == 6 * 8


def test_new_tensors_are_noticed_and_copies_are_independent() -> None:
    modules, x = pair(16, 5), torch.randn(3, 16, generator=torch.Generator().manual_seed(1))
    first = run(modules, x)
    other = copy.deepcopy(modules)
    assert torch.equal(run(other, x), first)
    other["linear"].weight_scale.mul_(2)
    other["linear"].bias.zero_()
    modules["linear"].bias.zero_()
    assert torch.allclose(run(other, x), 2 * run(modules, x))
    modules["quantize"].load_state_dict(pair(16, 5)["quantize"].state_dict() | {"scale": torch.tensor(0.1)})
    assert not torch.allclose(run(modules, x), run(other, x) / 2)
    assert "_ready" not in modules.state_dict()


def test_a_sum_that_could_overflow_is_refused() -> None:
    weight = torch.full((2, 600), 127, dtype=torch.int8)
    extra = torch.ones(600, dtype=torch.int64)
    with pytest.raises(PassError, match="overflow"):
        check_accumulator(weight, extra, 8, "radix", "model.layers.0")
    assert check_accumulator(weight, extra, 4, "radix", "") == 600 * 127 * 136


@pytest.mark.parametrize("bias", [False, True])
def test_the_head_loses_only_the_rounding_of_its_weights(bias: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    head = Int8Head(50, 24, bias)
    head.weight = torch.randint(-127, 128, (50, 24), generator=generator).to(torch.int8)
    head.weight_scale = torch.rand(50, generator=generator) / 100
    if bias:
        head.bias = torch.randn(50, generator=generator)
    x = torch.randn(2, 7, 24, generator=generator) * torch.logspace(-3, 3, 14).view(2, 7, 1)
    exact = F.linear(x, head.weight * head.weight_scale[:, None], head.bias)
    assert torch.allclose(head(x), exact, rtol=1e-3, atol=1e-4 * float(exact.abs().max()))
    assert bool(((head(x) - exact).norm(dim=-1) <= 1e-4 * (exact.norm(dim=-1) + 1e-6)).all())
    assert torch.isfinite(head(torch.zeros(1, 24))).all()


def test_the_embedding_gives_rows_of_codes_times_scale() -> None:
    embedding = Int8Embedding(6, 4, "bfloat16")
    embedding.weight = torch.arange(24, dtype=torch.int8).view(6, 4)
    embedding.weight_scale = torch.linspace(0.5, 1, 6)
    rows = embedding(torch.tensor([[0, 5], [3, 3]]))
    assert rows.dtype == torch.bfloat16
    assert rows.shape == (2, 2, 4)
    assert torch.equal(rows[0, 1], torch.tensor([20.0, 21, 22, 23]).bfloat16())


def test_a_model_made_or_run_in_inference_mode_works_outside_of_it() -> None:
    x = torch.randn(2, 20)
    expected = run(pair(20, 6), x)
    with torch.inference_mode():
        made = pair(20, 6)
        assert torch.equal(run(made, x), expected)
    assert torch.equal(run(made, x), expected)
    modules = pair(20, 6)
    with torch.inference_mode():
        run(modules, x)
    factor = torch.ones(20, requires_grad=True)
    assert torch.equal(run(modules, x * factor), expected)


def test_rows_of_an_int8_embedding_follow_the_dtype_of_the_model() -> None:
    embedding = Int8Embedding(5, 3, "float32")
    before = embedding.weight_scale
    assert embedding.to(torch.bfloat16)(torch.tensor([1])).dtype == torch.bfloat16
    assert embedding.config()["dtype"] == "bfloat16"
    assert torch.equal(embedding.weight_scale, before)
    assert embedding.to("cpu").double().weight_scale.dtype == torch.float32


@pytest.mark.parametrize("weight_bits", [8, 4])
def test_layers_that_ran_are_freed_without_the_collector(weight_bits: int) -> None:
    """A conversion drops block after block: what lies in a circle of references would pile up."""
    modules = pair(20, 6, weight_bits=weight_bits)
    modules["embedding"], modules["head"] = Int8Embedding(5, 20, "float32"), Int8Head(5, 20, bias=True)
    gc.disable()
    try:
        run(modules, torch.zeros(3, 20))
        modules["head"](modules["embedding"](torch.arange(3)))
        left = [weakref.ref(module) for module in modules.values()]
        del modules
        assert [ref() for ref in left] == [None] * 4
    finally:
        gc.enable()

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fyc_passes.flatten_quant.modules import FlattenQuantize, Int8Embedding, Int8Head, IntLinear
from fyc_passes.flatten_quant.options import FlattenQuantOptions
from pydantic import ValidationError

import fyc
from fyc.artifact import open_artifact

Convert = Callable[..., Path]


def recipe(folder: Path, model: Path, options: dict[str, Any]) -> Path:
    content = {
        "schema": 1,
        "model": {"source": str(model)},
        "calibration": {"text": str(model / "text.txt"), "samples": 6, "length": 32},
        "passes": [{"use": "flatten-quant", "options": options}],
    }
    path = folder / "recipe.yaml"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def outlier_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with a few large channels behind every norm; it computes the same."""
    from transformers import AutoModelForCausalLM

    folder = tmp_path_factory.mktemp("outliers") / "model"
    shutil.copytree(tiny_model, folder)
    model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    size = torch.ones(32)
    size[[3, 17]] = 40.0
    with torch.no_grad():
        for layer in model.model.layers:
            attention, mlp = layer.self_attn, layer.mlp
            readers = {
                layer.input_layernorm: (attention.q_proj, attention.k_proj, attention.v_proj),
                layer.post_attention_layernorm: (mlp.gate_proj, mlp.up_proj),
            }
            for norm, linears in readers.items():
                norm.weight *= size
                for linear in linears:
                    linear.weight /= size
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def convert(outlier_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Convert:
    """Convert the model with outliers with options of the pass; equal options convert once."""
    made: dict[str, Path] = {}

    def run(**options: Any) -> Path:
        key = repr(sorted(options.items()))
        if key not in made:
            folder = tmp_path_factory.mktemp("converted")
            made[key] = folder / "out"
            fyc.convert(recipe(folder, outlier_model, options), output=made[key])
        return made[key]

    return run


def logits(model: torch.nn.Module) -> torch.Tensor:
    ids = torch.randint(0, 63, (3, 20), generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        return model(input_ids=ids).logits


def error(path: Path, tiny_model: Path) -> float:
    from transformers import AutoModelForCausalLM

    expected = logits(AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32))
    return float((logits(fyc.load(path)) - expected).square().sum() / expected.square().sum())


def modules_of(path: Path, kind: type) -> dict[str, Any]:
    return {name: module for name, module in fyc.load(path).named_modules() if isinstance(module, kind)}


def test_all_linear_layers_become_integer_and_groups_share_one_quantize_node(
    convert: Convert, tiny_model: Path
) -> None:  # fmt: skip
    path = convert(expansion=0.05)
    layers, nodes = modules_of(path, IntLinear), modules_of(path, FlattenQuantize)
    assert len(layers) == 14
    assert len(nodes) == 8
    assert {name.rpartition(".")[2] for name in nodes} == {
        "qkv_quantize", "attn_out_quantize", "gate_up_quantize", "down_quantize",
    }  # fmt: skip
    assert error(path, tiny_model) < 1e-3


INT4 = {"weights": "int4", "activations": "int4"}
W4A8 = {"weights": "int4", "expansion": 0.1}
NAIVE = {
    "smoothing": "none", "shift": False, "search": "none", "headroom": 1.0, "expansion": 0.0, "granularity": "tensor",
}  # fmt: skip


@pytest.mark.parametrize(("worse", "better"), [
    (NAIVE, {"expansion": 0.1}),
    (INT4, W4A8),
    (W4A8, {"expansion": 0.1}),
    (W4A8 | {"granularity": "tensor"}, W4A8),
    (W4A8 | {"rounding": "nearest"}, W4A8),
    (W4A8 | {"damping": 1.0}, W4A8),
    (INT4 | {"smoothing": "none", "expansion": 0.0}, INT4 | {"smoothing": "none", "expansion": 0.1}),
    (INT4 | {"headroom": 4.0}, INT4),
    (INT4 | {"search": "none"}, INT4),
    (INT4 | {"smoothing": "none"}, INT4),
])  # fmt: skip
def test_what_should_help_helps(
    convert: Convert, tiny_model: Path, worse: dict[str, Any], better: dict[str, Any]
) -> None:  # fmt: skip
    assert error(convert(**better), tiny_model) < error(convert(**worse), tiny_model)


@pytest.mark.parametrize("split", ["radix", "unary"])
def test_budgets_hold(convert: Convert, split: str) -> None:
    path = convert(expansion=0.04, max_group_expansion=0.1, split=split, weights="int4", activations="int4")
    nodes = modules_of(path, FlattenQuantize).values()
    assert sum(node.flatten_src.numel() for node in nodes) <= 0.04 * sum(node.channels for node in nodes)
    assert all(node.flatten_src.numel() <= 0.1 * node.channels for node in nodes)
    assert any(node.flatten_src.numel() for node in nodes)


@pytest.mark.parametrize("select", ["divergence", "nll", "kl", "random", "order"])
def test_mixed_reaches_the_share_with_every_criterion(convert: Convert, select: str) -> None:
    path = convert(weights="mixed", activations="mixed", int4_share=0.4, select=select, expansion=0.05)
    layers = modules_of(path, IntLinear).values()
    assert all(layer.bits == layer.activation_bits for layer in layers)
    macs = {
        bits: sum(layer.in_features * layer.out_features for layer in layers if layer.bits == bits) for bits in (4, 8)
    }
    assert 0.4 <= macs[4] / (macs[4] + macs[8]) < 0.8
    if select == "order":
        assert min(i for i, layer in enumerate(layers) if layer.bits == 4) == 0


def test_embedding_and_head_become_int8(convert: Convert, tiny_model: Path) -> None:
    path = convert(head="int8")
    model = fyc.load(path)
    assert isinstance(model.get_input_embeddings(), Int8Embedding)
    assert isinstance(model.get_output_embeddings(), Int8Head)
    assert error(path, tiny_model) < error(convert(), tiny_model) + 2e-3


def test_a_tied_embedding_and_head_stay_tied(tiny_model: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    shutil.copytree(tiny_model, tmp_path / "model")
    tied = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    tied.config.tie_word_embeddings = True
    tied.tie_weights()
    tied.save_pretrained(tmp_path / "model")
    fyc.convert(recipe(tmp_path, tmp_path / "model", {"head": "int8"}), output=tmp_path / "out")
    model = fyc.load(tmp_path / "out")
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    assert isinstance(embedding, Int8Embedding)
    assert isinstance(head, Int8Head)
    assert embedding.weight is head.weight
    assert embedding.weight_scale is head.weight_scale
    aliases = open_artifact(tmp_path / "out").manifest.aliases
    assert {alias.rpartition(".")[2] for alias in aliases} == {"weight", "weight_scale"}
    assert float((logits(model) - logits(tied)).square().sum() / logits(tied).square().sum()) < 1e-2


@pytest.mark.parametrize("head", ["none", "int8"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_another_dtype_leaves_the_scales_alone(convert: Convert, head: str, dtype: torch.dtype) -> None:
    path = convert(head=head)
    full, other = fyc.load(path), fyc.load(path, dtype=dtype)
    found = logits(other)
    assert found.dtype == dtype
    assert float((found.float() - logits(full)).abs().max()) < 0.1
    for name, tensor in other.state_dict().items():
        if tensor.dtype != dtype:
            assert torch.equal(tensor, full.state_dict()[name])
    kept = {name.rpartition(".")[2] for name, tensor in other.state_dict().items() if tensor.dtype == torch.float32}
    assert kept >= {"scale", "shift", "weight_scale"}


def test_no_full_copy_of_int4_codes_stays_in_memory(convert: Convert) -> None:
    model = fyc.load(convert(**INT4))
    logits(model)
    before = torch.cat([layer.codes().flatten() for layer in model.modules() if isinstance(layer, IntLinear)])
    layer = next(layer for layer in model.modules() if isinstance(layer, IntLinear))
    weight, _ = layer._ready
    kept = [value for value in vars(weight).values() if isinstance(value, torch.Tensor)]
    assert sum(value.numel() for value in kept) < layer.in_features < before.numel()


def test_the_report_says_what_was_done(convert: Convert) -> None:
    manifest = open_artifact(convert(**INT4, expansion=0.1)).manifest
    metrics = manifest.passes[0].metrics
    assert 0 < metrics["expansion"] <= 0.1
    assert metrics["expansion"] <= metrics["largest_group_expansion"] <= 0.1
    assert 0 <= metrics["saturation"] < 0.05
    assert metrics["int4_share"] == 1
    assert len(manifest.modules) == 14
    assert all(module.bits == 4 and 0 < module.error < 0.2 for module in manifest.modules)


def test_weights_are_stored_once_and_small(convert: Convert) -> None:
    from safetensors import safe_open

    path = convert(expansion=0.05)
    stored: dict[str, tuple[int, ...]] = {}
    for file in path.glob("*.safetensors"):
        with safe_open(file, "pt") as shard:
            stored |= {name: tuple(shard.get_slice(name).get_shape()) for name in shard.keys()}  # noqa: SIM118
    assert stored["model.layers.0.mlp.down_proj.weight"] == (32, 48)


def test_same_recipe_same_bytes(convert: Convert, outlier_model: Path, tmp_path: Path) -> None:
    options = {"weights": "mixed", "activations": "mixed", "expansion": 0.05}
    first = convert(**options)
    fyc.convert(recipe(tmp_path, outlier_model, options), output=tmp_path / "out")
    for file in first.glob("*.safetensors"):
        assert file.read_bytes() == (tmp_path / "out" / file.name).read_bytes()


@pytest.mark.parametrize("options", [
    {"weights": "mixed"}, {"activations": "mixed"}, {"expansion": -0.1}, {"headroom": 0.5}, {"bits": 8},
    {"weights": "mixed", "activations": "mixed", "branch_windows": 0}, {"expansion": 0.2},
])  # fmt: skip
def test_options_that_make_no_sense_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        FlattenQuantOptions(**options)


def test_generation_with_a_cache_equals_generation_without(convert: Convert) -> None:
    model = fyc.load(convert(expansion=0.05))
    ids = torch.randint(0, 63, (2, 5), generator=torch.Generator().manual_seed(0))
    settings = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 0}
    with_cache = model.generate(input_ids=ids, use_cache=True, **settings)
    assert torch.equal(with_cache, model.generate(input_ids=ids, use_cache=False, **settings))

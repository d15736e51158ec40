"""Shapes read from configurations: the parameters are those of the real model, for many architectures."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM

from fyc.errors import PlanError
from fyc.plan.known_models import DEEPSEEK_V3, MIXTRAL_8X7B, QWEN3_30B, QWEN3_235B
from fyc.plan.read_model import read_model

EXAMPLES = Path(__file__).parents[2] / "examples" / "plan"
SMALL = {
    "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "vocab_size": 512, "intermediate_size": 160,
    "pad_token_id": 0,
}  # fmt: skip
GPT2 = {"n_embd": 64, "n_layer": 3, "n_head": 4, "vocab_size": 512, "n_positions": 128}
MOE = {"moe_intermediate_size": 48, "num_experts": 8, "num_experts_per_tok": 2}
DEEPSEEK = {
    "moe_intermediate_size": 32, "n_routed_experts": 8, "n_shared_experts": 1, "num_experts_per_tok": 2,
    "first_k_dense_replace": 1, "q_lora_rank": 24, "kv_lora_rank": 16, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8,
    "v_head_dim": 16, "n_group": 2, "topk_group": 1,
}  # fmt: skip
# The formulas are exact for these.
EXACT: dict[str, dict[str, Any]] = {
    "llama": SMALL | {"num_key_value_heads": 2},
    "mistral": SMALL | {"num_key_value_heads": 2},
    "qwen2": SMALL | {"num_key_value_heads": 2},
    "qwen3": SMALL | {"num_key_value_heads": 2, "head_dim": 32},
    "qwen3_moe": SMALL | MOE | {"num_key_value_heads": 2, "head_dim": 32},
    "mixtral": SMALL | {"num_key_value_heads": 2, "num_local_experts": 4},
    "deepseek_v3": SMALL | DEEPSEEK,
    "gpt2": GPT2,
    "gpt_neox": SMALL,
    "opt": SMALL | {"ffn_dim": 256, "max_position_embeddings": 128, "word_embed_proj_dim": 64},
    "gemma": SMALL | {"num_key_value_heads": 1, "head_dim": 16},
    "phi3": SMALL | {"num_key_value_heads": 2},
    "olmo2": SMALL | {"num_key_value_heads": 2},
    "granite": SMALL | {"num_key_value_heads": 2},
    "starcoder2": SMALL | {"num_key_value_heads": 2},
}
# For these the formulas miss a norm or a bias; the count is that of the real model all the same.
CLOSE: dict[str, dict[str, Any]] = {
    "gpt_oss": SMALL | {"num_key_value_heads": 2, "head_dim": 16, "num_local_experts": 4, "num_experts_per_tok": 2},
    "bloom": {"hidden_size": 64, "n_layer": 3, "n_head": 4, "vocab_size": 512},
    "falcon": SMALL,
    "gemma2": SMALL | {"num_key_value_heads": 2, "head_dim": 16},
    "phi": SMALL,
    "cohere": SMALL | {"num_key_value_heads": 2},
}


def _write(folder: Path, config: dict[str, Any]) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    return path


def _real(config: dict[str, Any]) -> int:
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config))
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("kind", [*EXACT, *CLOSE])
def test_the_parameters_are_those_of_the_real_model(kind: str, tmp_path: Path) -> None:
    config = {"model_type": kind} | (EXACT | CLOSE)[kind]
    shape = read_model(_write(tmp_path, config))
    assert shape.counted_parameters == _real(config)
    assert shape.formula_parameters == pytest.approx(shape.counted_parameters, rel=0 if kind in EXACT else 0.005)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    heads=st.sampled_from([2, 4, 8]), width=st.sampled_from([8, 16]), layers=st.integers(1, 4), tied=st.booleans(),
    ffn=st.integers(8, 300), vocab=st.integers(10, 999), kind=st.sampled_from(["llama", "qwen2", "mixtral"]),
)  # fmt: skip
def test_formulas_hold_for_any_dimensions(
    tmp_path: Path, heads: int, width: int, layers: int, tied: bool, ffn: int, vocab: int, kind: str
) -> None:
    config = {
        "model_type": kind, "hidden_size": heads * width, "num_hidden_layers": layers, "num_attention_heads": heads,
        "num_key_value_heads": 2, "intermediate_size": ffn, "vocab_size": vocab, "tie_word_embeddings": tied,
        "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
    }  # fmt: skip
    shape = read_model(_write(tmp_path, config))
    assert shape.formula_parameters == shape.counted_parameters == _real(config)
    assert shape.tied == tied


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("llama-3.1-8b", 8_030_261_248),
        ("llama-3.1-70b", 70_553_706_496),
        ("llama-3.1-405b", 405_853_388_800),
        ("qwen3-30b-a3b", 30_532_122_624),
    ],
)
def test_published_models_have_their_published_size(name: str, parameters: int) -> None:
    shape = read_model(EXAMPLES / name)
    assert shape.counted_parameters == shape.formula_parameters == parameters
    assert shape.name == name


def test_known_shapes_are_those_of_the_published_models() -> None:
    sizes = {QWEN3_30B: 30.5e9, QWEN3_235B: 235.1e9, MIXTRAL_8X7B: 46.7e9, DEEPSEEK_V3: 671.0e9}
    for shape, size in sizes.items():
        assert shape.formula_parameters == pytest.approx(size, rel=2e-3)


def test_the_right_structure_is_seen(tmp_path: Path) -> None:
    gpt2 = read_model(_write(tmp_path, {"model_type": "gpt2"} | GPT2))
    assert (gpt2.gated, gpt2.tied, gpt2.rms_norm, gpt2.bias, gpt2.positions) == (False, True, False, True, 128)
    qwen = read_model(_write(tmp_path, {"model_type": "qwen2"} | EXACT["qwen2"]))
    assert (qwen.gated, qwen.qkv_bias, qwen.bias, qwen.kv_heads) == (True, True, False, 2)
    deep = read_model(_write(tmp_path, {"model_type": "deepseek_v3"} | EXACT["deepseek_v3"]))
    assert deep.latent is not None
    assert deep.experts is not None
    assert (deep.experts.dense_layers, deep.experts.shared_ffn, deep.moe_layers) == (1, 32, 2)


@pytest.mark.parametrize(
    ("config", "word"),
    [
        ({k: v for k, v in SMALL.items() if k != "hidden_size"} | {"model_type": "llama"}, "it would be `hidden_size`"),
        ({k: v for k, v in SMALL.items() if k != "num_hidden_layers"} | {"model_type": "llama"}, "num_hidden_layers"),
        (SMALL | {"model_type": "lama"}, "did you mean `llama`"),
        (SMALL, "no model_type"),
        (SMALL | {"model_type": "t5", "d_model": 64, "num_layers": 2, "num_heads": 4}, "encoder and a decoder"),
        (SMALL | {"model_type": "vit"}, "no causal language model"),
        (SMALL | {"model_type": "llama", "hidden_size": "64"}, "whole number"),
        (SMALL | {"model_type": "llama", "vocab_size": -3}, "whole number"),
    ],
)
def test_what_cannot_be_read_is_said(config: dict[str, Any], word: str, tmp_path: Path) -> None:
    with pytest.raises(PlanError) as info:
        read_model(_write(tmp_path, config))
    assert info.value.code == "FYC-L06"
    assert word in str(info.value)


@pytest.mark.parametrize("content", ["", "[1]", "{", "\x00\x01"])
def test_a_file_that_is_no_configuration(content: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(PlanError, match="FYC-L06"):
        read_model(path)


def test_a_missing_file_and_an_unknown_hub_id(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="FYC-L06"):
        read_model(tmp_path / "config.json")
    with pytest.raises(PlanError, match="FYC-L06"):
        read_model("nobody/nothing", offline=True)

"""Shapes read from configurations: the parameters are those of the real model, for many architectures."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM

from fyc.errors import PlanError
from fyc.plan import known_models
from fyc.plan.model import ModelShape
from fyc.plan.read_model import MOST_LAYERS, read_model

EXAMPLES = Path(__file__).parents[2] / "examples" / "plan"
Config = dict[str, Any]
SMALL: Config = {
    "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 4, "vocab_size": 512,
    "intermediate_size": 160, "max_position_embeddings": 128, "pad_token_id": 0,
}  # fmt: skip
GROUPED = SMALL | {"num_key_value_heads": 2, "head_dim": 24}
GPT2: Config = {"n_embd": 64, "n_layer": 3, "n_head": 4, "vocab_size": 512, "n_positions": 128}
FALCON = {name: SMALL[name] for name in ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")}
TOP2: Config = {"num_local_experts": 8, "num_experts_per_tok": 2}
MOE: Config = {"moe_intermediate_size": 48, "num_experts": 8, "num_experts_per_tok": 2}
DEEPSEEK: Config = {
    "moe_intermediate_size": 32, "n_routed_experts": 8, "n_shared_experts": 2, "num_experts_per_tok": 2,
    "first_k_dense_replace": 1, "q_lora_rank": 24, "kv_lora_rank": 16, "qk_nope_head_dim": 12, "qk_rope_head_dim": 8,
    "v_head_dim": 20, "n_group": 2, "topk_group": 1,
}  # fmt: skip
FAMILIES: dict[str, Config] = {
    "llama": GROUPED,
    "llama biases": GROUPED | {"attention_bias": True},
    "llama all biases": GROUPED | {"attention_bias": True, "mlp_bias": True},
    "mistral": GROUPED,
    "qwen2": GROUPED,
    "qwen2_moe": GROUPED | MOE | {"shared_expert_intermediate_size": 40, "decoder_sparse_step": 2},
    "qwen3": GROUPED,
    "qwen3_moe": GROUPED | MOE | {"mlp_only_layers": [1]},
    "mixtral": GROUPED | TOP2,
    "deepseek_v2": SMALL | DEEPSEEK | {"q_lora_rank": None},
    "deepseek_v3": SMALL | DEEPSEEK,
    "glm4": GROUPED,
    "glm4_moe": GROUPED | DEEPSEEK,
    "gpt_oss": GROUPED | TOP2,
    "llama4_text": GROUPED | TOP2 | {"intermediate_size_mlp": 96, "interleave_moe_layer_step": 2},
    "gpt2": GPT2,
    "gptj": GPT2 | {"rotary_dim": 8},
    "gpt_neo": {
        "hidden_size": 64, "num_layers": 2, "num_heads": 4, "vocab_size": 512, "max_position_embeddings": 128,
        "attention_types": [[["global", "local"], 1]],
    },
    "gpt_neox": SMALL,
    "opt": SMALL | {"ffn_dim": 256, "word_embed_proj_dim": 64},
    "opt after": SMALL | {"ffn_dim": 256, "word_embed_proj_dim": 64, "do_layer_norm_before": False},
    "bloom": {"n_embed": 64, "n_layer": 3, "n_head": 4, "vocab_size": 512},
    "mpt": {"d_model": 64, "n_layers": 3, "n_heads": 4, "vocab_size": 512},
    "falcon": FALCON,
    "falcon 40b": FALCON | {"new_decoder_architecture": True, "num_kv_heads": 2},
    "falcon rw": FALCON | {"multi_query": False, "parallel_attn": False, "bias": True, "alibi": True},
    "gemma": GROUPED,
    "gemma2": GROUPED,
    "gemma3_text": GROUPED,
    "phi": SMALL,
    "phi3": GROUPED | {"head_dim": 16},
    "olmo": SMALL,
    "olmo2": GROUPED | {"head_dim": 16},
    "olmoe": SMALL | {"num_experts": 8, "num_experts_per_tok": 2},
    "smollm3": GROUPED,
    "starcoder2": SMALL,
    "stablelm": SMALL | {"qk_layernorm": True},
    "granite": SMALL,
    "cohere": SMALL | {"use_qk_norm": True},
    "nemotron": GROUPED,
}  # fmt: skip


def _write(folder: Path, config: Config) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    return path


def _family(name: str) -> Config:
    return {"model_type": name.split(maxsplit=1)[0]} | FAMILIES[name]


def _real(config: Config) -> int:
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config))
    return sum(p.numel() for p in {id(p): p for p in model.parameters()}.values())


@pytest.mark.parametrize("name", FAMILIES)
def test_count_and_formula_are_the_parameters_of_the_real_model(name: str, tmp_path: Path) -> None:
    shape = read_model(_write(tmp_path, _family(name)))
    assert shape.formula_parameters == shape.counted_parameters == _real(_family(name))


@st.composite
def _configs(draw: st.DrawFn) -> Config:
    kind = draw(st.sampled_from(["llama", "qwen3_moe", "gpt2", "deepseek_v3"]))
    heads, layers, vocab = draw(st.sampled_from([2, 4, 8])), draw(st.integers(1, 4)), draw(st.integers(10, 300))
    tokens = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "tie_word_embeddings": draw(st.booleans())}
    hidden = heads * draw(st.sampled_from([4, 8, 12]))
    if kind == "gpt2":
        sizes = {"n_embd": hidden, "n_layer": layers, "n_head": heads, "vocab_size": vocab}
        return tokens | sizes | {"model_type": kind, "n_positions": draw(st.integers(1, 99))}
    config = tokens | {
        "model_type": kind, "hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads,
        "num_key_value_heads": draw(st.sampled_from([n for n in (1, 2, 4, 8) if heads % n == 0])), "vocab_size": vocab,
        "intermediate_size": draw(st.integers(1, 99)),
    }  # fmt: skip
    if kind == "llama":
        return config | {"attention_bias": draw(st.booleans()), "mlp_bias": draw(st.booleans())}
    experts = {"moe_intermediate_size": draw(st.integers(1, 40)), "num_experts_per_tok": 2}
    if kind == "qwen3_moe":
        only = draw(st.lists(st.integers(0, layers - 1), unique=True))
        return config | experts | {"num_experts": 4, "head_dim": draw(st.sampled_from([4, 6])), "mlp_only_layers": only}
    return config | experts | {
        "n_routed_experts": 4, "n_group": 1, "topk_group": 1, "n_shared_experts": draw(st.integers(1, 2)),
        "first_k_dense_replace": draw(st.integers(0, layers)), "q_lora_rank": draw(st.none() | st.integers(1, 20)),
        "kv_lora_rank": draw(st.integers(1, 20)), "qk_nope_head_dim": draw(st.integers(1, 9)), "qk_rope_head_dim": 4,
        "v_head_dim": draw(st.integers(1, 9)), "num_key_value_heads": heads,
    }  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(config=_configs())
def test_formulas_hold_for_any_dimensions(config: Config, tmp_path_factory: pytest.TempPathFactory) -> None:
    shape = read_model(_write(tmp_path_factory.mktemp("model"), config))
    assert shape.formula_parameters == shape.counted_parameters == _real(config)
    assert shape.tied == config["tie_word_embeddings"]
    for name, value in (("hidden", "hidden_size"), ("kv_heads", "num_key_value_heads"), ("vocab", "vocab_size")):
        assert getattr(shape, name) == config.get(value, getattr(shape, name))


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


LLAMA_LIKE: Config = {"tie_word_embeddings": False, "head_dim": 128}
QWEN3: Config = LLAMA_LIKE | {"model_type": "qwen3_moe", "num_key_value_heads": 4, "vocab_size": 151936} | MOE
MIXTRAL: Config = TOP2 | {"model_type": "mixtral", "num_key_value_heads": 8, "vocab_size": 32000}
GPT_OSS: Config = {
    "model_type": "gpt_oss", "hidden_size": 2880, "num_attention_heads": 64, "num_key_value_heads": 8, "head_dim": 64,
    "intermediate_size": 2880, "vocab_size": 201088, "num_experts_per_tok": 4, "sliding_window": 128,
    "tie_word_embeddings": False,
}  # fmt: skip
KNOWN: dict[str, tuple[float, Config]] = {
    "DEEPSEEK_V3": (671.0, {
        "model_type": "deepseek_v3", "hidden_size": 7168, "num_hidden_layers": 61, "num_attention_heads": 128,
        "num_key_value_heads": 128, "intermediate_size": 18432, "vocab_size": 129280, "moe_intermediate_size": 2048,
        "n_routed_experts": 256, "n_shared_experts": 1, "num_experts_per_tok": 8, "first_k_dense_replace": 3,
        "q_lora_rank": 1536, "kv_lora_rank": 512, "qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128,
        "tie_word_embeddings": False,
    }),
    "QWEN3_30B": (30.5, QWEN3 | {
        "hidden_size": 2048, "num_hidden_layers": 48, "num_attention_heads": 32, "intermediate_size": 6144,
        "num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 768,
    }),
    "QWEN3_235B": (235.1, QWEN3 | {
        "hidden_size": 4096, "num_hidden_layers": 94, "num_attention_heads": 64, "intermediate_size": 12288,
        "num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 1536,
    }),
    "GPT_OSS_120B": (116.8, GPT_OSS | {"num_hidden_layers": 36, "num_local_experts": 128}),
    "GPT_OSS_20B": (20.9, GPT_OSS | {"num_hidden_layers": 24, "num_local_experts": 32}),
    "MIXTRAL_8X7B": (46.7, MIXTRAL | {
        "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32, "intermediate_size": 14336,
    }),
    "MIXTRAL_8X22B": (140.6, MIXTRAL | {
        "hidden_size": 6144, "num_hidden_layers": 56, "num_attention_heads": 48, "intermediate_size": 16384,
    }),
}  # fmt: skip


@pytest.mark.parametrize("name", KNOWN)
def test_known_shapes_are_those_of_the_real_models(name: str, tmp_path: Path) -> None:
    known: ModelShape = getattr(known_models, name)
    billions, config = KNOWN[name]
    shape = read_model(_write(tmp_path, config))
    assert shape.counted_parameters == known.formula_parameters
    assert round(known.formula_parameters / 1e9, 1) == billions
    assert shape.model_copy(update={"name": known.name, "counted_parameters": None}) == known


def test_the_right_structure_is_seen(tmp_path: Path) -> None:
    gpt2 = read_model(_write(tmp_path, _family("gpt2")))
    assert (gpt2.gated, gpt2.tied, gpt2.rms_norm, gpt2.bias, gpt2.positions) == (False, True, False, True, 128)
    qwen = read_model(_write(tmp_path, _family("qwen2")))
    assert (qwen.gated, qwen.qkv_bias, qwen.output_bias, qwen.bias, qwen.kv_heads) == (True, True, False, False, 2)
    deep = read_model(_write(tmp_path, _family("deepseek_v3")))
    assert deep.latent is not None
    assert deep.experts is not None
    assert (deep.experts.dense_layers, deep.experts.shared_ffn, deep.moe_layers, deep.ffn) == (1, 64, 2, 160)
    assert (deep.query_dim, deep.value_dim) == (20, 20)
    falcon = read_model(_write(tmp_path, _family("falcon")))
    assert (falcon.kv_heads, falcon.norms, falcon.rms_norm, falcon.bias) == (1, 1, False, False)
    four = read_model(_write(tmp_path, _family("llama4_text")))
    assert four.experts is not None
    assert (four.experts.ffn, four.experts.shared_ffn, four.ffn, four.moe_layers) == (160, 160, 96, 1)


@pytest.mark.parametrize(
    ("name", "changes", "expected"),
    [
        ("mistral", {"sliding_window": 16}, (16, 3)),
        ("mistral", {"sliding_window": None}, (0, 0)),
        ("qwen2", {"sliding_window": 16, "use_sliding_window": False}, (0, 0)),
        ("qwen2", {"sliding_window": 16, "use_sliding_window": True, "max_window_layers": 1}, (16, 2)),
        ("gemma2", {"sliding_window": 16}, (16, 2)),
        ("gpt_neo", {"window_size": 16}, (16, 1)),
    ],
)
def test_sliding_windows(name: str, changes: Config, expected: tuple[int, int], tmp_path: Path) -> None:
    shape = read_model(_write(tmp_path, _family(name) | changes))
    assert (shape.window, shape.windowed_layers) == expected


@pytest.mark.parametrize("kind", ["llama", "deepseek_v3", "opt", "gpt_oss", "gpt2"])
def test_every_dimension_must_be_stated(kind: str, tmp_path: Path) -> None:
    # What these leave out, transformers derives from the rest of the configuration.
    derived = {"num_key_value_heads", "head_dim", "pad_token_id", "n_group", "topk_group"}
    if kind == "opt":
        derived |= {"intermediate_size", "word_embed_proj_dim"}
    if kind in ("llama", "deepseek_v3", "gpt_oss"):
        derived |= {"max_position_embeddings"}
    for name in FAMILIES[kind].keys() - derived:
        config = _family(kind)
        del config[name]
        with pytest.raises(PlanError, match="does not say") as info:
            read_model(_write(tmp_path, config))
        assert info.value.where.endswith(f"config.json, key {name}")
        assert "default" in info.value.why


LLAMA = _family("llama")


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (SMALL | {"model_type": "lama"}, ["model_type `lama`", "did you mean `llama`"]),
        (SMALL | {"model_type": "zq7", "auto_map": {}}, ["its code comes with the model"]),
        (SMALL, ["no model_type", "key model_type"]),
        ({"model_type": "t5", "d_model": 64}, ["an encoder and a decoder", "decoder-only"]),
        (SMALL | {"model_type": "bart"}, ["an encoder and a decoder"]),
        (SMALL | {"model_type": "bert"}, ["no decoder-only text model for bert"]),
        (SMALL | {"model_type": "vit"}, ["no decoder-only text model for vit"]),
        ({"model_type": "gemma3", "text_config": GROUPED}, ["multimodal", "text_config"]),
        ({"model_type": "mamba", "vocab_size": 9, "hidden_size": 8, "num_hidden_layers": 2, "intermediate_size": 8},
         ["no transformer of attention", "no attention heads"]),
        (FALCON | {"model_type": "ctrl", "n_embd": 64, "n_layer": 2, "n_head": 4, "dff": 9}, ["no transformer"]),
        (LLAMA | {"hidden_size": "64"}, ["`hidden_size`", "whole number", '"64"']),
        (LLAMA | {"vocab_size": -3}, ["`vocab_size`", "whole number", "-3"]),
        (LLAMA | {"num_attention_heads": True}, ["`num_attention_heads`", "whole number"]),
        (LLAMA | {"num_hidden_layers": None}, ["`num_hidden_layers`", "whole number", "null"]),
        (LLAMA | {"num_hidden_layers": MOST_LAYERS + 1}, ["`num_hidden_layers`", "more than"]),
        (LLAMA | {"hidden_size": 10**18}, ["more than 15 digits", "key hidden_size"]),
        (LLAMA | {"hidden_act": "nope"}, ["cannot be built", "nope"]),
        (SMALL | {"model_type": "opt", "ffn_dim": 256, "word_embed_proj_dim": 16}, ["no transformer"]),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_said(config: Config, words: list[str], tmp_path: Path) -> None:
    with pytest.raises(PlanError) as info:
        read_model(_write(tmp_path, config))
    assert info.value.code == "FYC-L06"
    assert "config.json" in info.value.where
    for word in words:
        assert word in str(info.value)


@pytest.mark.parametrize("content", [b"", b"[1]", b"{", b"\x00\x01", b"\xff\xfe", b"[" * 100_000, b"model_type: llama"])
def test_a_file_that_is_no_configuration(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(PlanError, match="is not") as info:
        read_model(path)
    assert info.value.code == "FYC-L06"


def test_places_without_a_configuration(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    _write(tmp_path / "inner", LLAMA)
    with pytest.raises(PlanError, match=r"holds no config\.json") as info:
        read_model(tmp_path)
    assert "inner" in info.value.why
    with pytest.raises(PlanError, match="no such file"):
        read_model(tmp_path / "config.json")
    for source in ("config.json", "", "a/b/c", "x" * 5000):
        with pytest.raises(PlanError, match="FYC-L06"):
            read_model(source, offline=True)


@pytest.mark.parametrize("source", ["nobody/nothing", "nobody/nothing/config.json"])
def test_a_hub_id_without_network(source: str) -> None:
    with pytest.raises(PlanError) as info:
        read_model(source, offline=True)
    assert info.value.code == "FYC-L06"
    assert "network is switched off" in info.value.why


@pytest.mark.parametrize("source", ["some/model", "some/model/config.json"])
def test_a_hub_id_comes_from_the_cache(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    snapshot = tmp_path / "models--some--model" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (tmp_path / "models--some--model" / "refs").mkdir()
    (tmp_path / "models--some--model" / "refs" / "main").write_text("0" * 40)
    _write(snapshot, LLAMA)
    shape = read_model(source, offline=True)
    assert (shape.name, shape.hidden) == ("some/model", 64)


def test_names_of_files_and_folders(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    _write(folder, LLAMA)
    (folder / "other.json").write_text(json.dumps(LLAMA))
    assert [read_model(source).name for source in (folder, folder / "config.json", folder / "other.json")] == [
        "mine", "mine", "other",
    ]  # fmt: skip


def test_no_code_of_the_model_is_run_and_number_formats_do_not_matter(tmp_path: Path) -> None:
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    code = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}
    formats = {"quantization_config": {"quant_method": "fp8"}, "torch_dtype": "float8_e4m3fn"}
    kernels = {"attn_implementation": "nobody/kernels", "experts_implementation": "nobody/kernels"}
    shape = read_model(_write(tmp_path, LLAMA | formats | kernels | {"auto_map": code}))
    assert shape.counted_parameters == _real(LLAMA)
    assert not (tmp_path / "ran").exists()


def test_importing_the_reader_imports_no_framework() -> None:
    code = "import sys, fyc.plan.read_model; sys.exit(bool({'torch', 'transformers'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

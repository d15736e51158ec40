"""The shape of a model as arguments of one of torchtitan's model classes."""

from __future__ import annotations

from typing import Any

from fyc_plugins.launchers.hugging_face import Details

from fyc.plan.model import Experts, ModelShape


def model_class(model: ModelShape) -> str:
    """The package of torchtitan.models that can build the shape: llama3, qwen3 or deepseek_v3."""
    if model.latent is not None:
        return "deepseek_v3"
    square = model.heads * model.head_dim == model.hidden
    plain = model.experts is None and not model.qk_norm and not model.tied and square
    return "llama3" if plain else "qwen3"


def unsupported(model: ModelShape, found: Details) -> str | None:
    """What of a model torchtitan's classes cannot build, or None."""
    name = model_class(model)
    scaling = {"llama3": ("default", "llama3"), "qwen3": ("default",), "deepseek_v3": ("default", "yarn")}[name]
    experts = model.experts
    dense = experts.dense_layers if experts else 0
    biases = (model.bias, model.qkv_bias, model.output_bias, model.mlp_bias, model.head_bias)
    reasons = {
        "some of its projections have a bias": any(biases),
        "its norms are not RMS norms": not model.rms_norm,
        "its layers have norms behind attention and MLP, too": model.norms != 2,
        "its MLP is not SwiGLU": not model.gated or found.activation not in ("silu", "swish"),
        "it has learned positions": bool(model.positions),
        "its attention has sinks": model.sinks,
        "some of its layers attend within a window": bool(model.windowed_layers),
        "its norms of queries and keys span all heads": name == "qwen3"
        and model.qk_norm not in (0, 2 * model.head_dim),
        f"its rotary positions are scaled by `{found.scaling_type}`": found.scaling_type not in scaling,
        "its embedding is tied": model.tied and name != "qwen3",
        "some of its layers have a dense MLP": name == "qwen3" and dense > 0,
        "its dense layers are not the first ones": name == "deepseek_v3"
        and (experts is None or dense != found.values.get("first_k_dense_replace", 0)),
        "a gate weighs its shared experts": experts is not None and experts.shared_gate,
        "its shared experts are no multiple of an expert": experts is not None
        and experts.shared_ffn % experts.ffn != 0,
        "it has multi-token prediction layers": bool(model.prediction_layers),
    }
    reason = next((text for text, holds in reasons.items() if holds), None)
    return f"torchtitan 0.2.2 has no class for the model: {reason}; take --backend fsdp2" if reason else None


def model_values(model: ModelShape, found: Details, sequence: int) -> dict[str, Any]:
    """What the file model.json holds: the class, its arguments, those of its experts and of rotary scaling."""
    name = model_class(model)
    args: dict[str, Any] = {
        "dim": model.hidden, "n_layers": model.layers, "n_heads": model.heads, "vocab_size": model.vocab,
        "norm_eps": found.epsilon, "rope_theta": found.rope_theta, "max_seq_len": sequence,
    }  # fmt: skip
    values: dict[str, Any] = {"class": name, "args": args}
    if name == "llama3":
        args |= {"n_kv_heads": model.kv_heads, "multiple_of": 1}
        # The class takes the inner width as a factor on 8/3 of the hidden one, and drops the fraction.
        args["ffn_dim_multiplier"] = (model.ffn + 0.5) / int(8 * model.hidden / 3)
        scaling = found.rope_scaling if found.scaling_type == "llama3" else {"factor": 1.0}
        values["rope_scaling"] = {
            "scaling_factor": scaling["factor"],
            "low_freq_factor": scaling.get("low_freq_factor", 1.0),
            "high_freq_factor": scaling.get("high_freq_factor", 4.0),
            "original_max_position_embeddings": scaling.get("original_max_position_embeddings", 8192),
        }
        return values
    if name == "qwen3":
        args |= {"n_kv_heads": model.kv_heads, "head_dim": model.head_dim, "hidden_dim": model.ffn}
        args |= {"qk_norm": bool(model.qk_norm), "enable_weight_tying": model.tied}
        args |= {"moe_enabled": model.experts is not None}
    else:
        args |= _latent(model, found, sequence)
    if model.experts is not None:
        args["moe_inter_dim"] = model.experts.ffn
        values["experts"] = _experts(model.experts, found)
    return values


def _latent(model: ModelShape, found: Details, sequence: int) -> dict[str, Any]:
    latent, scaling = model.latent, found.rope_scaling
    assert latent is not None
    assert model.experts is not None
    values = {
        "inter_dim": model.ffn, "n_dense_layers": model.experts.dense_layers, "q_lora_rank": latent.q_rank,
        "kv_lora_rank": latent.kv_rank, "qk_nope_head_dim": latent.nope_dim, "qk_rope_head_dim": latent.rope_dim,
        "v_head_dim": latent.value_dim, "original_seq_len": sequence,  # no scaling up to this length
    }  # fmt: skip
    if found.scaling_type == "yarn":
        values |= {"original_seq_len": scaling["original_max_position_embeddings"], "rope_factor": scaling["factor"]}
        values |= {"mscale": scaling.get("mscale_all_dim", 1.0)}
        values |= {"beta_fast": scaling.get("beta_fast", 32), "beta_slow": scaling.get("beta_slow", 1)}
    return values


def _experts(experts: Experts, found: Details) -> dict[str, Any]:
    sigmoid = found.family == "deepseek_v3"
    values = {
        "num_experts": experts.count, "num_shared_experts": experts.shared_ffn // experts.ffn, "top_k": experts.top_k,
        "score_func": "sigmoid" if sigmoid else "softmax", "score_before_experts": False,
        "route_norm": found.values.get("norm_topk_prob") is not False,
        "route_scale": found.values.get("routed_scaling_factor", 1.0),
    }  # fmt: skip
    if (found.values.get("n_group") or 1) > 1:
        values |= {"num_expert_groups": found.values["n_group"], "num_limited_groups": found.values["topk_group"]}
    return values

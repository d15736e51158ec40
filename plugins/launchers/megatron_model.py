"""The shape of a model as arguments of Megatron-LM."""

from __future__ import annotations

from fyc_plugins.launchers.hugging_face import Details

from fyc.plan.model import Experts, LatentAttention, ModelShape

_GELU = ("gelu", "gelu_new", "gelu_pytorch_tanh", "gelu_fast")


def unsupported(model: ModelShape, found: Details) -> str | None:
    """What of a model pretrain_gpt.py cannot build, or None."""
    latent = model.latent is not None
    experts = model.experts
    scaling = ("default", "llama3", "yarn") if latent else ("default", "llama3")
    dense = found.values.get("first_k_dense_replace", 0)
    reasons = {
        "its layers have norms behind attention and MLP, too": model.norms != 2,
        "its attention has sinks": model.sinks,
        "some of its layers attend within a window": bool(model.windowed_layers),
        "some of its projections have a bias that Megatron-LM cannot switch by itself": _odd_bias(model),
        "its norms of queries and keys span all heads": bool(model.qk_norm)
        and not latent
        and model.qk_norm != 2 * model.head_dim,
        f"its activation is {found.activation}": found.activation
        not in (("silu", "swish") if model.gated else (*_GELU,)),
        f"its rotary positions are scaled by `{found.scaling_type}`": not model.positions
        and found.scaling_type not in scaling,
        "its rotary positions turn a part of each head": float(found.rope_scaling.get("partial_rotary_factor", 1)) != 1,
        "its dense layers are not the first ones": experts is not None and experts.dense_layers not in (0, dense),
        "it has multi-token prediction layers": bool(model.prediction_layers),
    }
    reason = next((text for text, holds in reasons.items() if holds), None)
    return f"{reason}; write its model provider for Megatron-LM yourself, or take --backend fsdp2" if reason else None


def _odd_bias(model: ModelShape) -> bool:
    router = model.experts is not None and model.experts.router_bias and model.latent is None
    some = (model.output_bias or model.mlp_bias) and not model.bias
    return some or model.head_bias or router


def model_words(model: ModelShape, found: Details, sequence: int) -> list[str | int]:
    """The arguments that build the model."""
    words: list[str | int] = ["--num-layers", model.layers, "--hidden-size", model.hidden]
    words += ["--ffn-hidden-size", model.ffn, "--num-attention-heads", model.heads]
    words += ["--seq-length", sequence, "--max-position-embeddings", model.positions or sequence]
    words += ["--normalization", "RMSNorm" if model.rms_norm else "LayerNorm", "--norm-epsilon", f"{found.epsilon:g}"]
    words += [] if model.bias else ["--disable-bias-linear"]
    words += ["--add-qkv-bias"] if model.qkv_bias and not model.bias else []
    words += ["--swiglu"] if model.gated else []
    words += [] if model.tied else ["--untie-embeddings-and-output-weights"]
    words += ["--qk-layernorm"] if model.qk_norm or model.latent else []
    words += ["--attention-dropout", "0.0", "--hidden-dropout", "0.0"]
    words += _positions(model, found)
    if model.latent is not None:
        words += _latent(model.latent)
    else:
        words += ["--kv-channels", model.head_dim]
        grouped = model.kv_heads != model.heads
        words += ["--group-query-attention", "--num-query-groups", model.kv_heads] if grouped else []
    return words + (_experts(model, model.experts, found) if model.experts else [])


def _positions(model: ModelShape, found: Details) -> list[str | int]:
    if model.positions:
        return ["--position-embedding-type", "learned_absolute"]
    words: list[str | int] = ["--position-embedding-type", "rope", "--rotary-base", int(found.rope_theta)]
    factor = found.rope_scaling.get("factor", 1.0)
    if found.scaling_type == "llama3":
        words += ["--use-rope-scaling", "--rope-scaling-factor", factor]
    if found.scaling_type == "yarn":
        scale, scale_all = (found.rope_scaling.get(name, 1.0) for name in ("mscale", "mscale_all_dim"))
        words += ["--rotary-scaling-factor", factor, "--mscale", scale, "--mscale-all-dim", scale_all]
    elif model.latent is not None:
        words += ["--rotary-scaling-factor", 1.0, "--mscale", 1.0, "--mscale-all-dim", 1.0]
    return words


def _latent(latent: LatentAttention) -> list[str | int]:
    words: list[str | int] = ["--multi-latent-attention", "--kv-lora-rank", latent.kv_rank]
    words += ["--q-lora-rank", latent.q_rank] if latent.q_rank else []
    words += ["--qk-head-dim", latent.nope_dim, "--qk-pos-emb-head-dim", latent.rope_dim]
    return [*words, "--v-head-dim", latent.value_dim]


def _experts(model: ModelShape, experts: Experts, found: Details) -> list[str | int]:
    values = found.values
    words: list[str | int] = ["--num-experts", experts.count, "--moe-router-topk", experts.top_k]
    words += ["--moe-ffn-hidden-size", experts.ffn, "--moe-grouped-gemm", "--moe-token-dispatcher-type", "alltoall"]
    if experts.dense_layers:
        words += ["--moe-layer-freq", f"([0]*{experts.dense_layers}+[1]*{model.moe_layers})"]
    if experts.shared_ffn:
        words += ["--moe-shared-expert-intermediate-size", experts.shared_ffn]
        words += ["--moe-shared-expert-gate"] if experts.shared_gate else []
    if found.family == "deepseek_v3":
        words += ["--moe-router-score-function", "sigmoid", "--moe-router-enable-expert-bias"]
        words += ["--moe-router-topk-scaling-factor", values["routed_scaling_factor"]]
        words += ["--moe-router-load-balancing-type", "seq_aux_loss", "--moe-aux-loss-coeff", "1e-4"]
        if values.get("n_group", 1) > 1:
            words += ["--moe-router-num-groups", values["n_group"], "--moe-router-group-topk", values["topk_group"]]
        return words
    words += ["--moe-router-load-balancing-type", "aux_loss"]
    words += ["--moe-aux-loss-coeff", f"{values.get('router_aux_loss_coef') or 1e-3:g}"]
    # Probabilities that are not normalized over the chosen experts come from a softmax over all of them.
    return words + (["--moe-router-pre-softmax"] if values.get("norm_topk_prob") is False else [])

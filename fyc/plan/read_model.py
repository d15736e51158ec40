"""The shape of a Hugging Face model: from its config.json, and from the real model built on the meta device."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fyc.errors import PlanError
from fyc.plan.model import Experts, LatentAttention, ModelShape
from fyc.ui.text import did_you_mean

if TYPE_CHECKING:
    from torch import nn

# What a dimension is called in one family or another. The first group is required: transformers would fill in the
# defaults of some other model without a word.
REQUIRED = {
    "hidden": ("hidden_size", "n_embd", "d_model"),
    "layers": ("num_hidden_layers", "n_layer", "num_layers", "n_layers"),
    "heads": ("num_attention_heads", "n_head", "n_heads"),
    "vocab": ("vocab_size",),
}
_KV = ("num_key_value_heads", "num_kv_heads", "n_head_kv")
_FFN = ("intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size")
_EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts")


def read_model(source: str | Path, *, offline: bool = False) -> ModelShape:
    """The shape of a decoder-only language model.

    The parameters are counted on the real model, built without memory on torch's meta device; dimensions come from
    the configuration, and what the configuration does not say (biases, gates, norms) from the model's modules.

    Args:
        source: a config.json, a folder that holds one, or a hub id.
        offline: use no network; a hub id is looked for in the local cache.

    Raises:
        PlanError: FYC-L06 with the field or the architecture that is missing.
    """
    raw, where = _read(str(source), offline)
    inner = raw.get("text_config")
    _require(inner if isinstance(inner, dict) else raw, where, nested=isinstance(inner, dict))
    config = _config(raw, where)
    model = _build(config, where)
    return _shape(config, model, _name(raw, where))


def _read(source: str, offline: bool) -> tuple[dict[str, Any], str]:
    """The configuration as JSON, and where it was."""
    path = Path(source)
    if path.is_dir():
        path = path / "config.json"
    if not path.exists() and not source.endswith(".json"):
        path = _from_hub(source, offline)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        advice = "give a config.json, a folder with one, or a hub id"
        raise _unreadable("the configuration cannot be read", str(path), str(error), advice) from error
    except ValueError as error:
        raise _unreadable("the configuration is not JSON", str(path), str(error)) from error
    if not isinstance(data, dict):
        raise _unreadable("the configuration is not a JSON object", str(path))
    return data, str(path)


def _from_hub(source: str, offline: bool) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(source, "config.json", local_files_only=offline))
    except (OSError, HFValidationError, HfHubHTTPError, LocalEntryNotFoundError) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        advice = "give the path of a config.json, or check the hub id" + (" and leave out --offline" if offline else "")
        raise _unreadable("the model cannot be found", source, why, advice) from error


def _require(data: Mapping[str, Any], where: str, *, nested: bool) -> None:
    for what, names in REQUIRED.items():
        found = next((name for name in names if name in data), None)
        if found is None:
            place = f"{where}, {'in text_config, ' if nested else ''}key {names[0]}"
            why = f"it would be `{names[0]}`" + (f", or {', '.join(names[1:])}" if names[1:] else "")
            raise _unreadable(f"the configuration does not say the model's {what}", place, why, "add the field")
        value = data[found]
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise _unreadable(f"`{found}` must be a whole number above zero, not {value!r}", where)


def _config(raw: dict[str, Any], where: str) -> Any:
    from transformers import AutoConfig
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    kind = raw.get("model_type")
    if kind not in CONFIG_MAPPING:
        known = list(CONFIG_MAPPING.keys())
        what = "the configuration has no model_type" if kind is None else f"transformers knows no model_type `{kind}`"
        advice = did_you_mean(str(kind), known) if kind else "add it; it names the architecture, such as llama"
        if advice.startswith("known:"):
            advice = "update transformers, or describe the model as an architecture that it knows"
        raise _unreadable(what, f"{where}, key model_type", next=advice)
    try:
        config = AutoConfig.for_model(**raw)
    except Exception as error:  # configurations check their values each in its own way
        raise _unreadable("transformers refuses the configuration", where, _short(error)) from error
    if getattr(config, "is_encoder_decoder", False):
        why = f"{kind} has an encoder and a decoder"
        raise _unreadable("this is no decoder-only language model", where, why, "plans are for decoder-only models")
    return config.get_text_config(decoder=True)


def _build(config: Any, where: str) -> nn.Module:
    """The model without its numbers."""
    import torch
    from transformers import AutoModelForCausalLM

    try:
        with torch.device("meta"):
            model: nn.Module = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except ValueError as error:
        why = f"transformers has no causal language model for {config.model_type}"
        raise _unreadable("this is no decoder-only language model", where, why) from error
    except Exception as error:
        raise _unreadable("the model cannot be built from its configuration", where, _short(error)) from error
    return model


def _shape(config: Any, model: nn.Module, name: str) -> ModelShape:
    layers = _layers(model)
    hidden, heads = _get(config, REQUIRED["hidden"]), _get(config, REQUIRED["heads"])
    plain = [layer for layer in layers if not _has_experts(layer)]
    linears = _linears(layers[0])
    mlp = {n: m for n, m in _linears((plain or layers)[0]).items() if not _in_attention(n) and "expert" not in n}
    attention = {n: m for n, m in linears.items() if _in_attention(n)}
    query = next(iter(attention.values()), None)
    dense = _dense_ffn(config, mlp, hidden)
    up = [m for m in mlp.values() if _wide(m)[0] == hidden]
    gated = sum(_wide(m)[1] for m in up) >= 2 * dense if plain else _gated_experts(layers[0])
    return ModelShape(
        name=name,
        hidden=hidden,
        layers=len(layers),
        heads=heads,
        kv_heads=_kv_heads(config, heads),
        head_dim=getattr(config, "head_dim", None) or hidden // heads,
        ffn=dense,
        vocab=_get(config, REQUIRED["vocab"]),
        gated=gated,
        tied=_is_tied(model),
        rms_norm=_is_rms(layers[0]),
        bias=any(_biased(m) for m in mlp.values()) and all(_biased(m) for m in attention.values()),
        qkv_bias=query is not None and _biased(query),
        qk_norm=_attention_norms(layers[0]),
        positions=_positions(model),
        experts=_experts(config, len(plain)) if len(plain) < len(layers) else None,
        latent=_latent(config),
        window=_window(config)[0],
        windowed_layers=_window(config)[1],
        counted_parameters=sum(p.numel() for p in {id(p): p for p in model.parameters()}.values()),
    )


def _layers(model: nn.Module) -> list[nn.Module]:
    """The repeated blocks: the longest list of modules that is not a list of experts."""
    import torch

    lists = [list(m) for n, m in model.named_modules() if isinstance(m, torch.nn.ModuleList) and "expert" not in n]
    return max(lists, key=len)


def _linears(layer: nn.Module) -> dict[str, nn.Module]:
    """Modules with a matrix, by their path in the layer; gpt2's Conv1D too."""
    return {n: m for n, m in layer.named_modules() if getattr(getattr(m, "weight", None), "ndim", 0) == 2}


def _in_attention(path: str) -> bool:
    return "attn" in path or "attention" in path


def _has_experts(layer: nn.Module) -> bool:
    return any("experts" in n.split(".")[-1] and "shared" not in n for n, _ in layer.named_modules())


def _wide(module: nn.Module) -> tuple[int, int]:
    """Inputs and outputs of a matrix."""
    shape: Any = module.weight.shape
    rows, columns = int(shape[0]), int(shape[1])
    return (rows, columns) if type(module).__name__ == "Conv1D" else (columns, rows)


def _biased(module: nn.Module) -> bool:
    return getattr(module, "bias", None) is not None


def _gated_experts(layer: nn.Module) -> bool:
    """Whether experts have a gate: a matrix called so, or one for gate and up together."""
    return any("gate_up" in name or "gate_proj" in name or ".w3" in name for name, _ in layer.named_parameters())


def _attention_norms(layer: nn.Module) -> int:
    """Parameters of norms of queries and keys."""
    norms = {n: p for n, p in layer.named_parameters() if _in_attention(n) and p.ndim == 1 and "norm" in n}
    own = [p for n, p in norms.items() if n.split(".")[-2] in ("q_norm", "k_norm", "q_layernorm", "k_layernorm")]
    return sum(p.numel() for p in own)


def _dense_ffn(config: Any, mlp: Mapping[str, nn.Module], hidden: int) -> int:
    """Inner width of a dense MLP: what its last matrix reads."""
    down = [m for m in mlp.values() if _wide(m)[1] == hidden and _wide(m)[0] != hidden]
    if down:
        return _wide(down[-1])[0]
    value = next((getattr(config, n) for n in _FFN if getattr(config, n, None)), 4 * hidden)
    return int(value)


def _experts(config: Any, dense_layers: int) -> Experts:
    width = getattr(config, "moe_intermediate_size", None) or _get(config, _FFN)
    shared = getattr(config, "shared_expert_intermediate_size", None)
    if shared is None:
        shared = (getattr(config, "n_shared_experts", None) or 0) * width
    return Experts(
        count=_get(config, _EXPERTS),
        top_k=config.num_experts_per_tok,
        ffn=width,
        shared_ffn=shared,
        dense_layers=dense_layers,
        router_bias=config.model_type == "gpt_oss",
    )


def _latent(config: Any) -> LatentAttention | None:
    if not getattr(config, "kv_lora_rank", None):
        return None
    return LatentAttention(
        q_rank=config.q_lora_rank or 0,
        kv_rank=config.kv_lora_rank,
        nope_dim=config.qk_nope_head_dim,
        rope_dim=config.qk_rope_head_dim,
        value_dim=config.v_head_dim,
    )


def _kv_heads(config: Any, heads: int) -> int:
    if getattr(config, "multi_query", False) and not getattr(config, "new_decoder_architecture", False):
        return 1
    return int(next((getattr(config, n) for n in _KV if getattr(config, n, None)), heads))


def _window(config: Any) -> tuple[int, int]:
    """Width of the sliding window and how many layers have it."""
    width = getattr(config, "sliding_window", None)
    if not width or getattr(config, "use_sliding_window", True) is False:
        return 0, 0
    kinds = getattr(config, "layer_types", None)
    count = sum("sliding" in kind for kind in kinds) if kinds else config.num_hidden_layers
    return (int(width), int(count)) if count else (0, 0)


def _is_rms(layer: nn.Module) -> bool:
    """Whether the layer's norms have a weight only."""
    norms = [m for m in layer.modules() if getattr(getattr(m, "weight", None), "ndim", 0) == 1]
    return bool(norms) and all(getattr(m, "bias", None) is None for m in norms)


def _is_tied(model: Any) -> bool:
    head, embedding = model.get_output_embeddings(), model.get_input_embeddings()
    return head is not None and head.weight is embedding.weight


def _positions(model: Any) -> int:
    """Learned positions: embeddings beside that of the tokens."""
    import torch

    tokens = model.get_input_embeddings()
    others = [m for m in model.modules() if isinstance(m, torch.nn.Embedding) and m is not tokens]
    return sum(int(m.num_embeddings) for m in others if m.embedding_dim == tokens.embedding_dim)


def _get(config: Any, names: tuple[str, ...]) -> int:
    return int(next(getattr(config, name) for name in names if getattr(config, name, None) is not None))


def _name(raw: Mapping[str, Any], where: str) -> str:
    stated = raw.get("_name_or_path")
    return stated if isinstance(stated, str) and stated else Path(where).resolve().parent.name


def _short(error: Exception) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0][:300] if text else ''}"


def _unreadable(what: str, where: str, why: str = "", next: str = "") -> PlanError:
    return PlanError("FYC-L06", what, where=where, why=why, next=next)

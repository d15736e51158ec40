"""The shape of a Hugging Face model: from its config.json, and from the real model built on the meta device."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fyc.errors import PlanError
from fyc.plan.model import Experts, ModelShape
from fyc.ui.text import did_you_mean

if TYPE_CHECKING:
    from fyc.plan.structure import Layer

# Fields that decide a model's size. Where a configuration leaves one out, transformers fills in that of some other
# model without a word; it must then be there.
DIMENSIONS = (
    "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim", "intermediate_size",
    "ffn_dim", "vocab_size", "word_embed_proj_dim", "num_experts", "num_local_experts", "n_routed_experts",
    "num_experts_per_tok",
    "moe_intermediate_size", "shared_expert_intermediate_size", "n_shared_experts", "first_k_dense_replace",
    "q_lora_rank", "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim", "intermediate_size_mlp",
)  # fmt: skip
_ALSO = {"hidden_size": ("n_embed",), "num_experts_per_tok": ("experts_per_token",)}
# A model without these parts says so.
_MAY_BE_NULL = ("q_lora_rank", "n_shared_experts", "num_key_value_heads")
_TOP_K = ("num_experts_per_tok", "num_experts_per_token", "moe_k", "top_k")
# Names of code or kernels that transformers would fetch, and of number formats, which do not change the shape.
_IGNORED = {
    "auto_map", "attn_implementation", "_attn_implementation", "_attn_implementation_internal",
    "experts_implementation", "_experts_implementation", "_experts_implementation_internal", "quantization_config",
    "dtype", "torch_dtype",
}  # fmt: skip
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
MOST_LAYERS = 10_000
MOST_SIZE = 100_000_000  # of any other dimension
MOST_BYTES = 2**25
# A count may differ from the formula by what the formula does not know, such as parameters of an activation.
TOLERANCE = 0.01
_DECODER_ONLY = "plans are for decoder-only text models, such as llama, qwen3_moe, deepseek_v3 or gpt2"


def read_model(source: str | Path, *, offline: bool = False) -> ModelShape:
    """The shape of a decoder-only language model.

    The parameters are counted on the real model, built by transformers on torch's meta device, where weights take no
    memory. Its structure (gates, biases, norms, experts, latent attention) is read from its modules. No code that
    comes with a model is run.

    Args:
        source: a config.json, a folder that holds one, a hub id, or a hub id with `/config.json` behind it.
        offline: use no network; a hub id is looked for in the local cache.

    Raises:
        PlanError: FYC-L06 with what is missing, wrong or not supported, and where.
    """
    path = _find(str(source), offline)
    raw = _read(path)
    where = str(path) if Path(source).exists() else f"{source}, config.json"
    with _quiet():
        config = _config(raw, where)
        shape = _shape(config, _name(str(source), path), where)
    if shape.positions:
        _check_positions(raw, config, where)
    return shape


def read_config(source: str | Path, *, offline: bool = False) -> dict[str, Any]:
    """The configuration of a model as it stands in its config.json; the arguments and errors of `read_model`."""
    return _read(_find(str(source), offline))


def _find(source: str, offline: bool) -> Path:
    """The configuration file, downloaded if the source is a hub id."""
    path = Path(source or "no name")
    try:
        if path.is_file():
            return path
    except OSError as error:  # a name that is too long
        raise _unreadable("the configuration cannot be read", f"{source[:80]}...", error.strerror or "") from error
    if path.is_dir():
        if (path / "config.json").is_file():
            return path / "config.json"
        below = sorted(found.parent.name for found in path.glob("*/config.json"))
        why = f"folders in it do: {', '.join(below[:5])}" if below else ""
        raise _unreadable("the folder holds no config.json", source, why, "give the folder of a Hugging Face model")
    name = source.removesuffix("/config.json")
    if not _HUB_ID.fullmatch(name) or name.endswith(".json"):
        raise _unreadable("there is no such file", source, next="give a config.json, a folder with one, or a hub id")
    return _from_hub(name, offline)


def _from_hub(name: str, offline: bool) -> Path:
    from huggingface_hub import hf_hub_download

    from fyc.cache import is_offline

    offline = is_offline(offline)
    try:
        return Path(hf_hub_download(name, "config.json", local_files_only=offline))
    except Exception as error:  # the hub's client lets through what its HTTP library raises
        reasons = {
            "RepositoryNotFoundError": "the hub has no such model, or it is private",
            "GatedRepoError": "the model is gated, and you have not been given access",
            "EntryNotFoundError": "the model has no config.json",
            "RemoteEntryNotFoundError": "the model has no config.json",
        }
        why = reasons.get(type(error).__name__, _short(error))
        advice = "check the name, log in with `hf auth login` for gated models, or give the path of its config.json"
        if offline:
            why = "the network is switched off (--offline or HF_HUB_OFFLINE) and the local cache does not hold it"
            advice = "run once with the network, or give the path of a config.json"
        what = f"there is no file or folder {name}, and the hub gives no configuration of that name"
        raise _unreadable(what, name, why, advice) from error


def _read(path: Path) -> dict[str, Any]:
    advice = "give the config.json of a Hugging Face model"
    try:
        if path.stat().st_size > MOST_BYTES:
            why = f"it has {path.stat().st_size} bytes; a configuration has a few thousand"
            raise _unreadable("the configuration cannot be read", str(path), why, advice)
        data = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise _unreadable("the configuration cannot be read", str(path), error.strerror or str(error)) from error
    except json.JSONDecodeError as error:
        where = f"{path}:{error.lineno}:{error.colno}"
        why = error.msg if path.stat().st_size else "the file is empty"
        raise _unreadable("the configuration is not JSON", where, why, advice) from error
    except RecursionError as error:
        raise _unreadable("the configuration is not JSON", str(path), "it is nested too deeply", advice) from error
    except ValueError as error:
        raise _unreadable("the configuration is not JSON", str(path), _short(error), advice) from error
    if not isinstance(data, dict):
        raise _unreadable(f"the configuration is not a JSON object but a {type(data).__name__}", str(path), "", advice)
    return data


def _config(raw: Mapping[str, Any], where: str) -> Any:
    """The configuration as transformers understands it, for a model that a plan can be made of."""
    cls = _config_class(raw, raw.get("model_type"), where)
    kind = str(raw["model_type"])
    if isinstance(raw.get("text_config"), dict):
        advice = "save what stands under its key `text_config` as a config.json of its own, and give that"
        raise _unreadable(f"{kind} is a multimodal model", f"{where}, key text_config", _DECODER_ONLY, advice)
    if raw.get("is_encoder_decoder", getattr(cls, "is_encoder_decoder", False)):
        raise _unreadable(f"{kind} has an encoder and a decoder", where, _DECODER_ONLY)
    if not _is_causal(kind, raw):
        raise _unreadable(f"transformers has no decoder-only text model for {kind}", where, _DECODER_ONLY)
    _check_dimensions(raw, cls, where)
    try:
        config = cls.from_dict({name: value for name, value in raw.items() if name not in _IGNORED})
    except Exception as error:  # configurations check their values each in its own way
        advice = "correct the values; config.json must be one that transformers accepts"
        raise _unreadable("transformers refuses the configuration", where, _short(error), advice) from error
    if config.is_encoder_decoder:
        raise _unreadable(f"{kind} has an encoder and a decoder", where, _DECODER_ONLY)
    return config


def _config_class(raw: Mapping[str, Any], kind: Any, where: str) -> Any:
    from transformers import __version__
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    place = f"{where}, key model_type"
    if not isinstance(kind, str):
        advice = 'add it; it names the architecture, such as "model_type": "llama"'
        raise _unreadable("the configuration has no model_type", place, next=advice)
    if kind in CONFIG_MAPPING:
        return CONFIG_MAPPING[kind]
    hint = did_you_mean(kind, MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    hint = hint if hint.startswith("did") else "if it is built like a known architecture, name that one; or update it"
    why = "its code comes with the model, and fyc never runs such code" if "auto_map" in raw else ""
    raise _unreadable(f"transformers {__version__} knows no model_type `{kind}`", place, why, hint)


def _is_causal(kind: str, raw: Mapping[str, Any]) -> bool:
    """Whether the architecture generates text. Encoders can be made to by `is_decoder`, without which they are none."""
    from transformers.models.auto import modeling_auto as auto

    encoder = kind in auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES and raw.get("is_decoder") is not True
    return kind in auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and not encoder


def _check_dimensions(raw: Mapping[str, Any], cls: Any, where: str) -> None:
    """Every dimension that the architecture has is stated, and a whole number above zero."""
    absent: dict[str, int] = {}
    for name in DIMENSIONS:
        spellings = _spellings(name, cls)
        defaults = [getattr(cls, spelling, None) for spelling in spellings]
        default = next((value for value in defaults if isinstance(value, int)), None)
        found = next((spelling for spelling in spellings if spelling in raw), None)
        if found is None:
            absent |= {} if default is None else {spellings[0]: default}
            continue
        value, least = raw[found], 0 if name in ("first_k_dense_replace", "n_shared_experts") else 1
        if value is None and (default is None or name in _MAY_BE_NULL):
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            place = f"{where}, key {found}"
            shown = json.dumps(value)[:60]
            what = f"`{found}` must be a whole number {'above zero' if least else 'of at least zero'}, not {shown}"
            raise _unreadable(what, place, next="correct the value in config.json")
        most = MOST_LAYERS if name == "num_hidden_layers" else MOST_SIZE
        if value > most:
            shown = str(value) if value < 10**15 else "a number of more than 15 digits"
            what, advice = f"`{found}` is {shown}, more than {most}", "correct the value in config.json"
            raise _unreadable(what, f"{where}, key {found}", next=advice)
    if absent:
        raise _missing(absent, cls.model_type, where)


def _check_positions(raw: Mapping[str, Any], config: Any, where: str) -> None:
    """Where positions are learned, their number is stated."""
    spellings = _spellings("max_position_embeddings", type(config))
    if not any(name in raw for name in spellings):
        raise _missing({spellings[0]: getattr(config, spellings[0], 0)}, config.model_type, where)


def _spellings(name: str, cls: Any) -> tuple[str, ...]:
    """Keys under which a configuration may state a field, the architecture's own first."""
    own = cls.attribute_map.get(name, name)
    aliases = [alias for alias, real in cls.attribute_map.items() if real == own]
    return (own, *aliases, *_ALSO.get(name, ()))


def _missing(absent: Mapping[str, int], kind: str, where: str) -> PlanError:
    names = list(absent)
    what = f"the configuration does not say {', '.join(f'`{name}`' for name in names)}"
    defaults = ", ".join(f"{name} {value}" for name, value in absent.items())
    why = f"transformers would silently take the default of {kind}: {defaults}"
    place = f"{where}, {'key' if len(names) == 1 else 'keys'} {', '.join(names)}"
    return _unreadable(what, place, why, "add what is missing at the top level of config.json")


def _shape(config: Any, name: str, where: str) -> ModelShape:
    from fyc.plan.structure import Mixture, UnknownStructureError, read_ends, read_layers, unique_parameters

    model = _build(config, where)
    try:
        heads = getattr(config, "num_attention_heads", None)
        if not isinstance(heads, int):
            raise UnknownStructureError("it has no attention heads")
        layers, ends = read_layers(model, heads), read_ends(model)
        attentions = {layer.attention for layer in layers}
        if len(attentions) > 1 or len({(layer.norms, layer.norm_bias) for layer in layers}) > 1:
            raise UnknownStructureError("its layers differ in their attention or norms")
        shape = ModelShape(
            name=name,
            hidden=model.get_input_embeddings().weight.shape[1],
            layers=sum(layers.values()),
            heads=heads,
            vocab=ends.vocab,
            tied=ends.tied,
            rms_norm=not (ends.norm_bias or next(iter(layers)).norm_bias),
            head_bias=ends.head_bias,
            positions=ends.positions,
            outer_norms=ends.norms,
            experts=_experts(config, layers, Mixture),
            counted_parameters=unique_parameters(model),
            **_layer_fields(config, layers, Mixture),
            **_window(config),
        )
        if shape.heads % shape.kv_heads:
            what = f"{shape.heads} attention heads cannot share {shape.kv_heads} key and value heads evenly"
            place = f"{where}, keys num_attention_heads, num_key_value_heads"
            raise _unreadable(what, place, next="correct the values in config.json")
        difference = abs(shape.formula_parameters - unique_parameters(model))
        if difference > TOLERANCE * unique_parameters(model):
            raise UnknownStructureError(f"{difference} of its {unique_parameters(model)} parameters are of other kinds")
    except UnknownStructureError as error:
        what = f"{config.model_type} is no transformer of attention and MLPs, the only kind that plans describe"
        raise _unreadable(what, where, str(error), "plan for a model such as llama or qwen3_moe") from error
    return shape


def _build(config: Any, where: str) -> Any:
    """The model without its numbers."""
    import torch
    from transformers import AutoModelForCausalLM

    try:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(config, trust_remote_code=False, attn_implementation="eager")
    except Exception as error:  # models fail each in its own way on values that do not fit together
        advice = "check that the dimensions fit together"
        raise _unreadable("the model cannot be built from its configuration", where, _short(error), advice) from error


def _layer_fields(config: Any, layers: Mapping[Layer, int], mixture: type) -> dict[str, Any]:
    """What layers have in common, as fields of a shape."""
    first = next(iter(layers))
    attention = first.attention
    dense = [layer.mlp for layer in layers if not isinstance(layer.mlp, mixture)]
    routed: list[Any] = [layer.mlp for layer in layers if isinstance(layer.mlp, mixture)]
    mlp: Any = dense[0] if dense else routed[0].expert
    ffn = mlp.ffn if dense else getattr(config, "intermediate_size", None) or mlp.ffn
    everywhere = attention.qkv_bias and attention.output_bias and mlp.bias
    return {
        "kv_heads": attention.kv_heads,
        "head_dim": attention.head_dim,
        "qk_norm": attention.qk_norm,
        "sinks": attention.sinks,
        "latent": attention.latent,
        "norms": first.norms,
        "ffn": ffn,
        "gated": mlp.gated,
        "bias": everywhere,
        "qkv_bias": attention.qkv_bias and not everywhere,
        "output_bias": attention.output_bias and not everywhere,
        "mlp_bias": mlp.bias and not everywhere,
    }


def _experts(config: Any, layers: Mapping[Layer, int], mixture: type) -> Experts | None:
    found: list[Any] = [layer.mlp for layer in layers if isinstance(layer.mlp, mixture)]
    if not found:
        return None
    top_k = next((getattr(config, name) for name in _TOP_K if isinstance(getattr(config, name, None), int)), 1)
    return Experts(
        count=found[0].count,
        top_k=top_k,
        ffn=found[0].expert.ffn,
        shared_ffn=found[0].shared_ffn,
        shared_gate=found[0].shared_gate,
        router_bias=found[0].router_bias,
        dense_layers=sum(count for layer, count in layers.items() if not isinstance(layer.mlp, mixture)),
    )


def _window(config: Any) -> dict[str, int]:
    """Width of the sliding window or chunk, and how many layers attend within it."""
    kinds = getattr(config, "layer_types", None) or getattr(config, "attention_layers", None)
    names = ("sliding_window", "attention_chunk_size", "window_size")
    width = next((getattr(config, name) for name in names if getattr(config, name, None)), None)
    if not width or getattr(config, "use_sliding_window", True) is False:
        return {}
    local = ("sliding_attention", "chunked_attention", "local")
    count = sum(kind in local for kind in kinds) if kinds else config.num_hidden_layers
    return {"window": int(width), "windowed_layers": count} if count else {}


@contextmanager
def _quiet() -> Iterator[None]:
    """Transformers warns about token ids and rotary factors, which do not matter here."""
    from transformers.utils import logging

    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _name(source: str, path: Path) -> str:
    """A hub id, or the name of the folder or file."""
    if not Path(source).exists():
        return source.removesuffix("/config.json")
    return path.resolve().parent.name if path.name == "config.json" else path.stem


def _short(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' '.join(lines[:2])[:300]}" if lines else type(error).__name__


def _unreadable(what: str, where: str, why: str = "", next: str = "") -> PlanError:
    return PlanError("FYC-L06", what, where=where, why=why, next=next)

"""Shapes of published models that measured rows name without giving all dimensions; each from its config.json."""

from __future__ import annotations

import re

from fyc.plan.model import Experts, LatentAttention, ModelShape

_LLAMA = {"gated": True, "tied": False, "rms_norm": True, "bias": False, "head_dim": 128}

DEEPSEEK_V3 = ModelShape(
    name="DeepSeek-V3", hidden=7168, layers=61, heads=128, kv_heads=128, head_dim=128, ffn=18432, vocab=129280,
    gated=True, tied=False, rms_norm=True, bias=False,
    experts=Experts(count=256, top_k=8, ffn=2048, shared_ffn=2048, dense_layers=3),
    latent=LatentAttention(q_rank=1536, kv_rank=512, nope_dim=128, rope_dim=64, value_dim=128),
)  # fmt: skip
QWEN3_30B = ModelShape(
    name="Qwen3-30B-A3B", hidden=2048, layers=48, heads=32, kv_heads=4, ffn=6144, vocab=151936,
    qk_norm=256, experts=Experts(count=128, top_k=8, ffn=768), **_LLAMA,
)  # fmt: skip
QWEN3_235B = ModelShape(
    name="Qwen3-235B-A22B", hidden=4096, layers=94, heads=64, kv_heads=4, ffn=12288, vocab=151936,
    qk_norm=256, experts=Experts(count=128, top_k=8, ffn=1536), **_LLAMA,
)  # fmt: skip
GPT_OSS_120B = ModelShape(
    name="gpt-oss-120b", hidden=2880, layers=36, heads=64, kv_heads=8, ffn=2880, vocab=201088, window=128,
    windowed_layers=18, sinks=True, experts=Experts(count=128, top_k=4, ffn=2880, router_bias=True),
    **{**_LLAMA, "head_dim": 64, "bias": True},
)  # fmt: skip
GPT_OSS_20B = GPT_OSS_120B.model_copy(
    update={"name": "gpt-oss-20b", "layers": 24, "windowed_layers": 12,
            "experts": Experts(count=32, top_k=4, ffn=2880, router_bias=True)}
)  # fmt: skip
MIXTRAL_8X7B = ModelShape(
    name="Mixtral-8x7B", hidden=4096, layers=32, heads=32, kv_heads=8, ffn=14336, vocab=32000,
    experts=Experts(count=8, top_k=2, ffn=14336), **_LLAMA,
)  # fmt: skip
MIXTRAL_8X22B = ModelShape(
    name="Mixtral-8x22B", hidden=6144, layers=56, heads=48, kv_heads=8, ffn=16384, vocab=32000,
    experts=Experts(count=8, top_k=2, ffn=16384), **_LLAMA,
)  # fmt: skip

_KNOWN = (
    (r"deepseek[ _-]?v3", DEEPSEEK_V3),
    (r"qwen3[ _-]?30b", QWEN3_30B),
    (r"qwen3[ _-]?235b", QWEN3_235B),
    (r"gpt[ _-]?oss[ _-]?120b", GPT_OSS_120B),
    (r"gpt[ _-]?oss[ _-]?20b", GPT_OSS_20B),
    (r"mixtral[ _-]?8x7b", MIXTRAL_8X7B),
    (r"mixtral[ _-]?8x22b", MIXTRAL_8X22B),
)


def known_model(name: str) -> ModelShape | None:
    """The shape of a published mixture-of-experts model by the name a benchmark page gives it."""
    return next((shape for pattern, shape in _KNOWN if re.search(pattern, name.lower())), None)


def is_gated(name: str) -> bool:
    """Whether a model of this name belongs to a family with a gated MLP, RMS norm and rotary positions."""
    families = r"llama|qwen|mistral|mixtral|deepseek|gemma|phi-?3|yi-|nemotron-?4-?0b"
    return re.search(families, name.lower()) is not None

"""The job of config.toml and model.json, which lie beside this file, in the words of torchtitan's main branch.

That branch reads no TOML: it is configured in Python. train_torchtitan.py takes this module where the torchtitan that
is installed is of that kind. `torchrun -m torchtitan.train --module torchtitan_main --config random` does the same,
with this folder on PYTHONPATH; instead of `random` there may be the name of one of torchtitan's datasets.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import nn
from torchtitan.components.data import ConcatThenSplitPackingConfig, GrainDataLoader
from torchtitan.components.data.loader import BaseDataLoader
from torchtitan.components.loss import CrossEntropyLoss
from torchtitan.components.optimizer import default_adamw
from torchtitan.components.tokenizer import BaseTokenizer
from torchtitan.distributed.activation_checkpoint import FullAC, SelectiveAC
from torchtitan.hf_datasets.text_datasets import DATASETS
from torchtitan.models.common import (
    ComplexRoPE,
    CosSinRoPE,
    Embedding,
    Linear,
    RMSNorm,
    RoPE,
    compute_ffn_hidden_dim,
)
from torchtitan.models.common.config_utils import (
    get_attention_config,
    make_ffn_config,
    make_gqa_config,
    make_moe_config,
    make_routed_experts_config,
    make_router_config,
)
from torchtitan.models.common.param_init import depth_scaled_std, skip_param_init
from torchtitan.protocols.model_spec import ModelSpec
from torchtitan.trainer import Trainer

HERE = Path(__file__).parent
NAMES = {"llama3": "Llama3", "qwen3": "Qwen3", "deepseek_v3": "DeepSeekV3"}
RECOMPUTE = {"none": lambda: None, "selective": SelectiveAC.Config, "full": FullAC.Config}
ONES = {"weight": nn.init.ones_}


class RandomTokens(BaseDataLoader):
    """Endless random sequences, different on every data parallel rank; a micro-batch is one row, as in torchtitan."""

    @dataclass(kw_only=True, slots=True)
    class Config(BaseDataLoader.Config):
        vocabulary: int

    def __init__(self, config: Config, *, dp_rank: int, max_context_length: int, num_tokens_per_batch: int, **_: Any):
        self.vocabulary, self.length = config.vocabulary, max_context_length
        self.rows = num_tokens_per_batch // max_context_length
        self.generator = torch.Generator().manual_seed(dp_rank)

    def __iter__(self) -> Iterator[tuple[dict[str, torch.Tensor], torch.Tensor]]:
        positions = torch.arange(self.length).repeat(self.rows)
        while True:
            tokens = torch.randint(self.vocabulary, (self.rows, self.length + 1), generator=self.generator)
            yield {"input": tokens[:, :-1].flatten(), "positions": positions}, tokens[:, 1:].flatten()

    def state_dict(self) -> dict[str, Any]:
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.generator.set_state(state_dict["generator"])


class NoTokenizer(BaseTokenizer):
    """Stands where random tokens need no tokenizer."""

    @dataclass(kw_only=True, slots=True)
    class Config(BaseTokenizer.Config):
        pass

    def __init__(self, config: Config, **_: Any) -> None:
        super().__init__()

    def encode(self, *_: Any, **__: Any) -> list[int]:
        raise NotImplementedError("random tokens have no text")

    def decode(self, *_: Any, **__: Any) -> str:
        raise NotImplementedError("random tokens have no text")

    def get_vocab_size(self) -> int:
        raise NotImplementedError("random tokens have no text")


def __getattr__(name: str) -> Callable[[], Trainer.Config]:
    """The function that `--config` names: `random`, or one of torchtitan's datasets."""
    if name == "random":
        return partial(configuration, None)
    if name in DATASETS:
        return partial(configuration, name)
    raise AttributeError(name)


def configuration(dataset: str | None) -> Trainer.Config:
    """The job on a dataset of torchtitan, or on random tokens."""
    values = json.loads((HERE / "model.json").read_text(encoding="utf-8"))
    tables = tomllib.loads((HERE / "config.toml").read_text(encoding="utf-8"))
    vocabulary = values["args"]["vocab_size"]
    # The whole logits at once, as in 0.2.2: the plan counts their memory.
    loss = CrossEntropyLoss.Config(global_vocab_size=vocabulary)
    config = Trainer.Config(model_spec=model_spec(values), loss=loss)
    if "quantize" in tables:
        refuse("[quantize.linear.float8], one scale a tensor and gathered in float8,")
    refuse_others("job", tables.pop("job", {}), {"description"})
    refuse_others("model", tables.pop("model", {}), {"name", "flavor"})
    config.optimizer = optimizer(tables.pop("optimizer", {}))
    config.activation_checkpoint = recomputation(tables.pop("activation_checkpoint", {}))
    translate_batches(tables["training"], tables["parallelism"])
    for name, table in tables.items():
        part = getattr(config, name, None)
        refuse_others(name, table, {field.name for field in fields(part)} if is_dataclass(part) else set())
        setattr(config, name, replace(part, **table))
    if dataset is None:
        config.tokenizer, config.dataloader = NoTokenizer.Config(), RandomTokens.Config(vocabulary=vocabulary)
    else:
        config.dataloader = GrainDataLoader.Config(dataset=ConcatThenSplitPackingConfig(dataset=DATASETS[dataset]))
    return config


def translate_batches(training: dict[str, Any], parallelism: dict[str, Any]) -> None:
    """Give two tables the main branch's names and units: it counts tokens instead of sequences."""
    if parallelism.pop("expert_tensor_parallel_degree", 1) != 1:
        refuse("[parallelism] expert_tensor_parallel_degree other than 1")
    sequence, local = training.pop("seq_len"), training.pop("local_batch_size")
    micro = parallelism.pop("pipeline_parallel_microbatch_size", local)
    training["max_context_length"] = sequence
    training["num_tokens_per_microbatch_per_dp_rank"] = micro * sequence
    training["num_tokens_per_train_step"] = training.pop("global_batch_size") * sequence
    training["disable_cuda_graphs"] = True  # the plan's times are without; pipelines and all-to-all cannot have them
    parallelism["num_pp_microbatches"] = local // micro
    if "module_fqns_per_model_part" in parallelism:
        parts = parallelism["module_fqns_per_model_part"]
        names = [["lm_head" if name == "output" else name for name in part] for part in parts]
        parallelism["module_fqns_per_model_part"] = names


def optimizer(table: dict[str, Any]) -> Any:
    """AdamW, for all parameters."""
    if table.pop("name", "AdamW") != "AdamW":
        refuse("[optimizer] name other than AdamW")
    refuse_others("optimizer", table, {"lr", "eps", "weight_decay"})
    return default_adamw(**table)


def recomputation(table: dict[str, Any]) -> Any:
    """What is computed again in the backward pass."""
    refuse_others("activation_checkpoint", table, {"mode", "selective_ac_option"})
    mode = table.get("mode", "selective")
    if mode not in RECOMPUTE or table.get("selective_ac_option", "op") != "op":
        refuse(f"[activation_checkpoint] {table}")
    return RECOMPUTE[mode]()


def refuse_others(name: str, table: dict[str, Any], known: set[str]) -> None:
    """Stop at a key that is not known: what stands in config.toml is either done or refused."""
    for key in table:
        if key not in known:
            refuse(f"[{name}] {key}")


def refuse(what: str) -> NoReturn:
    """Stop with one message."""
    raise SystemExit(
        f"config.toml: {what} cannot be said to the torchtitan that is installed, which is configured in Python. "
        "Take it out of config.toml, or install the version that has it: pip install torchtitan==0.2.2"
    )


def model_spec(values: dict[str, Any]) -> ModelSpec:
    """torchtitan's specification of the class, with the model of model.json in it."""
    package, args = import_module(f"torchtitan.models.{values['class']}"), values["args"]
    classes = import_module(f"{package.__name__}.model")
    name, dim, tied = NAMES[values["class"]], args["dim"], args.get("enable_weight_tying", False)
    embedding = {"weight": skip_param_init if tied else partial(nn.init.normal_, std=0.02)}
    rope = rotary(values)
    model = getattr(classes, f"{name}Model").Config(
        dim=dim,
        vocab_size=args["vocab_size"],
        enable_weight_tying=tied,
        tok_embeddings=Embedding.Config(num_embeddings=args["vocab_size"], embedding_dim=dim, param_init=embedding),
        norm=RMSNorm.Config(normalized_shape=dim, param_init=ONES),
        lm_head=Linear.Config(in_features=dim, out_features=args["vocab_size"], param_init=weights()),
        layers=[
            getattr(classes, f"{name}TransformerBlock").Config(
                attention_norm=RMSNorm.Config(normalized_shape=dim, param_init=ONES),
                ffn_norm=RMSNorm.Config(normalized_shape=dim, param_init=ONES),
                attention=attention(values, index, rope),
                **feed_forward(values, index),
            )
            for index in range(args["n_layers"])
        ],
    )
    for _, norm, _, _ in model.traverse(RMSNorm.Config):
        norm.eps = args["norm_eps"]
    return replace(package.model_registry("debugmodel"), name="fyc_model", flavor="planned", model=model)


def rotary(values: dict[str, Any]) -> RoPE.Config:
    """Rotary positions; both scalings change nothing where their factor is one."""
    args = values["args"]
    common = {"max_context_length": args["max_seq_len"], "theta": args["rope_theta"]}
    if values["class"] == "llama3":
        width = args["dim"] // args["n_heads"]
        return ComplexRoPE.Config(dim=width, scaling="llama", **common, **values["rope_scaling"])
    if values["class"] == "qwen3":
        return CosSinRoPE.Config(dim=args["head_dim"], **common)
    names = ("rope_factor", "beta_fast", "beta_slow", "original_seq_len")
    scaling = {name: args[name] for name in names if name in args}
    return ComplexRoPE.Config(dim=args["qk_rope_head_dim"], scaling="yarn", **common, **scaling)


def attention(values: dict[str, Any], index: int, rope: RoPE.Config) -> Any:
    """Attention of one layer: latent, or with groups of heads."""
    args = values["args"]
    if values["class"] == "deepseek_v3":
        names = ("dim", "n_heads", "q_lora_rank", "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")
        make = import_module("torchtitan.models.deepseek_v3").make_mla_attention_config
        return make(
            layer_id=index, mscale=args.get("mscale", 1.0), attn_backend="flex", rope=rope,
            linear_init=weights(), norm_init=ONES, depth_init=weights, **{name: args[name] for name in names},
        )  # fmt: skip
    width = args.get("head_dim", args["dim"] // args["n_heads"])
    return make_gqa_config(
        dim=args["dim"], n_heads=args["n_heads"], n_kv_heads=args["n_kv_heads"], head_dim=width, fuse_qkv=True,
        inner_attention=get_attention_config("flex"), rope=rope,
        qk_norm=RMSNorm.Config(normalized_shape=width, param_init=ONES) if args.get("qk_norm") else None,
        wqkv_param_init=weights(), wo_param_init=weights(index),
    )  # fmt: skip


def feed_forward(values: dict[str, Any], index: int) -> dict[str, Any]:
    """The MLP of one layer, or its experts."""
    args, experts, dim = values["args"], values.get("experts"), values["args"]["dim"]
    if experts is None or index < args.get("n_dense_layers", 0):
        return {"feed_forward": mlp(dim, inner_width(args), index)}
    count, shared = experts["num_experts"], experts["num_shared_experts"]
    router = {
        name: experts[name]
        for name in ("top_k", "score_func", "route_norm", "route_scale", "num_expert_groups", "num_limited_groups")
        if name in experts
    }
    routed = {"w1_EFD": weights()["weight"], "w2_EDF": weights(index)["weight"], "w3_EFD": weights()["weight"]}
    return {
        "moe": make_moe_config(
            num_experts=count,
            router=make_router_config(dim=dim, num_experts=count, gate_param_init=weights(), **router),
            routed_experts=make_routed_experts_config(
                dim=dim, hidden_dim=args["moe_inter_dim"], num_experts=count, top_k=experts["top_k"],
                param_init=routed, comm_backend="standard",
            ),
            shared_experts=mlp(dim, shared * args["moe_inter_dim"], index) if shared else None,
        )
    }  # fmt: skip


def inner_width(args: dict[str, Any]) -> int:
    """Of a dense MLP, which each class has under a name of its own."""
    if "ffn_dim_multiplier" in args:
        names = ("multiple_of", "ffn_dim_multiplier")
        return compute_ffn_hidden_dim(args["dim"], **{name: args[name] for name in names})
    return args["hidden_dim"] if "hidden_dim" in args else args["inter_dim"]


def mlp(dim: int, width: int, index: int) -> Any:
    return make_ffn_config(dim=dim, hidden_dim=width, w1_param_init=weights(), w2w3_param_init=weights(index))


def weights(layer: int | None = None) -> dict[str, Callable[..., Any]]:
    """How a projection begins; one that ends in layer `layer` the smaller, the deeper it lies."""
    std = 0.02 if layer is None else depth_scaled_std(0.02, layer)
    return {"weight": partial(nn.init.trunc_normal_, std=std)}

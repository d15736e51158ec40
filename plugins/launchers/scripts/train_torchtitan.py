"""Train the model of model.json, which lies beside this file, with torchtitan 0.2.2; started by torchrun.

The arguments are torchtitan's own. `--training.dataset random` needs neither a tokenizer nor data.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import IterableDataset
from torchtitan.components.dataloader import ParallelAwareDataloader
from torchtitan.distributed.pipeline_parallel import pipeline_llm
from torchtitan.models.moe import MoEArgs
from torchtitan.protocols.train_spec import TrainSpec, register_train_spec

CLASSES = {"llama3": "TransformerModelArgs", "qwen3": "Qwen3ModelArgs", "deepseek_v3": "DeepSeekV3ModelArgs"}


class RandomTokens(IterableDataset):
    """Endless random sequences, different on every data parallel rank; a pair of inputs and the next tokens."""

    def __init__(self, vocabulary: int, sequence: int, rank: int) -> None:
        self.vocabulary, self.sequence, self.rank = vocabulary, sequence, rank

    def __iter__(self) -> Iterator[tuple[dict[str, torch.Tensor], torch.Tensor]]:
        generator = torch.Generator().manual_seed(self.rank)
        while True:
            tokens = torch.randint(self.vocabulary, (self.sequence + 1,), generator=generator)
            yield {"input": tokens[:-1]}, tokens[1:]


def model_arguments(values: dict[str, Any]) -> Any:
    """The arguments of torchtitan's class that model.json describes."""
    module = import_module(f"torchtitan.models.{values['class']}.model.args")
    args = dict(values["args"])
    if "experts" in values:
        args["moe_args"] = MoEArgs(**values["experts"])
    if "rope_scaling" in values:
        args["rope_scaling_args"] = module.RoPEScalingArgs(**values["rope_scaling"])
    return getattr(module, CLASSES[values["class"]])(**args)


def train_spec(values: dict[str, Any]) -> TrainSpec:
    """torchtitan's specification of the class, with these arguments and, where asked for, random data."""
    known = import_module(f"torchtitan.models.{values['class']}").get_train_spec()

    def tokenizer(config: Any) -> Any:
        return None if config.training.dataset == "random" else known.build_tokenizer_fn(config)

    def data(dp_world_size: int, dp_rank: int, tokenizer: Any, job_config: Any) -> Any:
        if job_config.training.dataset != "random":
            return known.build_dataloader_fn(dp_world_size, dp_rank, tokenizer, job_config)
        tokens = RandomTokens(values["args"]["vocab_size"], job_config.training.seq_len, dp_rank)
        size = job_config.training.local_batch_size
        return ParallelAwareDataloader(tokens, dp_rank=dp_rank, dp_world_size=dp_world_size, batch_size=size)

    return TrainSpec(
        model_cls=known.model_cls,
        model_args={"planned": model_arguments(values)},
        parallelize_fn=known.parallelize_fn,
        pipelining_fn=pipeline_llm,
        build_optimizers_fn=known.build_optimizers_fn,
        build_lr_schedulers_fn=known.build_lr_schedulers_fn,
        build_dataloader_fn=data,
        build_tokenizer_fn=tokenizer,
        build_loss_fn=known.build_loss_fn,
        build_validator_fn=known.build_validator_fn,
    )


def register() -> None:
    """Make the model known as `fyc_model`."""
    path = Path(__file__).with_name("model.json")
    register_train_spec("fyc_model", train_spec(json.loads(path.read_text(encoding="utf-8"))))


if __name__ == "__main__":
    from torchtitan.train import Trainer, main

    register()
    main(Trainer)

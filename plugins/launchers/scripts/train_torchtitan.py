"""Train the model of model.json, which lies beside this file, with torchtitan; started by torchrun.

The arguments are those of torchtitan 0.2.2, which reads config.toml. The main branch of torchtitan has left TOML since:
where it is installed, torchtitan_main.py says the same to it in Python, and what has another name there is translated.
`--training.dataset random` needs neither a tokenizer nor data.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import IterableDataset

HERE = Path(__file__).resolve().parent
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
        args["moe_args"] = import_module("torchtitan.models.moe").MoEArgs(**values["experts"])
    if "rope_scaling" in values:
        args["rope_scaling_args"] = module.RoPEScalingArgs(**values["rope_scaling"])
    return getattr(module, CLASSES[values["class"]])(**args)


def train_spec(values: dict[str, Any]) -> Any:
    """torchtitan's specification of the class, with these arguments and, where asked for, random data."""
    from torchtitan.components.dataloader import ParallelAwareDataloader
    from torchtitan.distributed.pipeline_parallel import pipeline_llm
    from torchtitan.protocols.train_spec import TrainSpec

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
    """Make the model known to torchtitan 0.2.2 as `fyc_model`."""
    from torchtitan.protocols.train_spec import register_train_spec

    register_train_spec("fyc_model", train_spec(json.loads((HERE / "model.json").read_text(encoding="utf-8"))))


def reads_toml() -> bool:
    """Whether the torchtitan that is installed is of the kind of 0.2.2. The main branch carries that number, too.

    Raises:
        SystemExit: it is neither of that kind nor like the main branch that torchtitan_main.py was written for.
    """
    try:
        if find_spec("torchtitan.protocols.train_spec") is not None:
            return True
        import_module("torchtitan_main")
    except ImportError as error:
        raise SystemExit(
            f"torchtitan cannot be used: {error}. Install the version that these files are for, "
            "pip install torchtitan==0.2.2, or its main branch at commit b5bcd76c with torch 2.14 and what it requires"
        ) from error
    return False


def words_of_main(words: list[str]) -> list[str]:
    """The arguments as the main branch takes them: it is told a module and a function in it, not a file."""
    parser = argparse.ArgumentParser(allow_abbrev=False, add_help=False)
    parser.add_argument("--job.config_file", dest="file", type=Path, default=HERE / "config.toml")
    parser.add_argument("--training.dataset", dest="dataset", default="random")
    parser.add_argument("--model.hf_assets_path", dest="assets")
    known, others = parser.parse_known_args(words)
    if known.file.resolve() != HERE / "config.toml":
        raise SystemExit(
            f"{known.file}: this torchtitan reads no TOML file; torchtitan_main.py reads {HERE}/config.toml"
        )
    assets = ["--hf_assets_path", known.assets] if known.assets else []
    return ["--module", "torchtitan_main", "--config", known.dataset, *assets, *others]


if __name__ == "__main__":
    if reads_toml():
        from torchtitan.train import Trainer, main

        register()
        main(Trainer)
    else:
        from torchtitan.train import main

        sys.argv[1:] = words_of_main(sys.argv[1:])
        main()

"""The launcher `deepspeed`: a Hugging Face model trained with DeepSpeed's ZeRO stages."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from fyc.plan.launch import Program, Target


@dataclass(frozen=True)
class DeepSpeedLauncher:
    """Writes ds_config.json, config.json and train_deepspeed.py."""

    name: str = "deepspeed"
    stack: str = "deepspeed"

    def refusal(self, target: Target) -> str | None:
        """Only data parallelism, over all GPUs, in 16 bits."""
        layout = target.layout
        if max(layout.tp, layout.pp, layout.cp, layout.ep, layout.vpp) > 1:
            return "the script is data parallel only; torchtitan or megatron have the other dimensions"
        if layout.shard_size not in (0, layout.dp):
            return "ZeRO shards over all GPUs, not over a part; leave shard_size out"
        if target.job.precision not in ("bf16", "fp16"):
            return f"the script computes in bf16 or fp16, not {target.job.precision}"
        return None

    def program(self, target: Target) -> Program:
        """The script with its configuration."""
        folder = files("fyc_plugins.launchers").joinpath("scripts")
        script = folder.joinpath("train_deepspeed.py").read_text(encoding="utf-8")
        return Program(
            command=(
                "{HERE}/train_deepspeed.py", "--model", "{HERE}/config.json", "--config", "{HERE}/ds_config.json",
                "--sequence", str(target.job.sequence), "--recompute", target.layout.recompute, "--steps", "{STEPS}",
            ),
            data=("--random-tokens",),
            files={
                "train_deepspeed.py": script,
                "ds_config.json": json.dumps(ds_config(target), indent=1) + "\n",
                "config.json": json.dumps(dict(target.config), indent=1) + "\n",
            },
            environment={"PYTORCH_ALLOC_CONF": "expandable_segments:True"},
            install="deepspeed 0.19.8, torch 2.11 or newer and transformers 5.17 or newer",
        )  # fmt: skip


def ds_config(target: Target) -> dict[str, Any]:
    """The configuration of DeepSpeed."""
    job, layout = target.job, target.layout
    zero: dict[str, Any] = {"stage": layout.zero}
    if layout.zero:
        zero |= {"overlap_comm": True, "contiguous_gradients": True}
        zero |= {"reduce_bucket_size": 500_000_000}
    if layout.zero in (1, 2):
        zero |= {"reduce_scatter": True, "allgather_bucket_size": 500_000_000}
    return {
        "train_batch_size": job.global_batch,
        "train_micro_batch_size_per_gpu": layout.micro_batch,
        "gradient_accumulation_steps": job.global_batch // (layout.micro_batch * layout.dp),
        "gradient_clipping": 1.0,
        "steps_per_print": 1_000_000,
        job.precision: {"enabled": True},
        "zero_optimization": zero,
    }

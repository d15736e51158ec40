"""The launcher `fsdp2`: plain PyTorch, one script that trains a Hugging Face model with FSDP2."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files

from fyc.plan.launch import Program, Target


@dataclass(frozen=True)
class Fsdp2Launcher:
    """Writes train_fsdp2.py, which needs torch and transformers only, and the configuration of the model."""

    name: str = "fsdp2"
    stack: str = "fsdp2"

    def refusal(self, target: Target) -> str | None:
        """Only data parallelism with ZeRO 2 or 3, in 16 bits."""
        layout = target.layout
        if max(layout.tp, layout.pp, layout.cp, layout.ep, layout.vpp) > 1:
            return "the script is data parallel only; torchtitan or megatron have the other dimensions"
        if layout.zero not in (2, 3):
            return f"FSDP2 shards gradients and parameters; it has no ZeRO stage {layout.zero}"
        if target.job.precision != "bf16":
            return f"the script computes in bf16, not {target.job.precision}"
        return None

    def program(self, target: Target) -> Program:
        """The script with its arguments."""
        job, layout = target.job, target.layout
        script = files("fyc_plugins.launchers").joinpath("scripts/train_fsdp2.py").read_text(encoding="utf-8")
        values = {
            "--model": "{HERE}/config.json",
            "--sequence": job.sequence,
            "--global-batch": job.global_batch,
            "--micro-batch": layout.micro_batch,
            "--recompute": layout.recompute,
            "--zero": layout.zero,
            "--precision": job.precision,
            "--steps": "{STEPS}",
        }
        if layout.shard_size:
            values["--shard-size"] = layout.shard_size
        return Program(
            command=("{HERE}/train_fsdp2.py", *(str(word) for pair in values.items() for word in pair)),
            data=("--random-tokens",),
            files={"train_fsdp2.py": script, "config.json": json.dumps(dict(target.config), indent=1) + "\n"},
            environment={"PYTORCH_ALLOC_CONF": "expandable_segments:True"},
            install="torch 2.11 or newer and transformers 5.17 or newer",
        )

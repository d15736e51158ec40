"""The launcher `torchtitan`: a TOML file of torchtitan 0.2.2, the model's arguments, and scripts that start both.

torchtitan's main branch reads no TOML any more. One of the scripts says the same files to it in Python.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from fyc_plugins.launchers.hugging_face import details, pipeline_parts
from fyc_plugins.launchers.torchtitan_model import model_values, unsupported

from fyc.plan.launch import Program, Target

VERSION = "0.2.2"
SCRIPTS = ("train_torchtitan.py", "torchtitan_main.py")


@dataclass(frozen=True)
class TorchtitanLauncher:
    """Writes config.toml, model.json, train_torchtitan.py and torchtitan_main.py."""

    name: str = "torchtitan"
    stack: str = "torchtitan"

    def refusal(self, target: Target) -> str | None:
        """Shapes that it has no class for, and cuts that its modules cannot take."""
        return _cannot_cut(target) or unsupported(target.job.model, details(target.config))

    def program(self, target: Target) -> Program:
        """The scripts with their configuration."""
        folder = files("fyc_plugins.launchers").joinpath("scripts")
        values = model_values(target.job.model, details(target.config), target.job.sequence)
        return Program(
            command=(
                "{HERE}/train_torchtitan.py", "--job.config_file", "{HERE}/config.toml", "--training.steps", "{STEPS}",
            ),
            data=("--training.dataset", "random"),
            files={
                "config.toml": _toml(sections(target)),
                "model.json": json.dumps(values, indent=1) + "\n",
                **{name: folder.joinpath(name).read_text(encoding="utf-8") for name in SCRIPTS},
            },
            environment={"PYTORCH_ALLOC_CONF": "expandable_segments:True"},
            install=f"torchtitan {VERSION} (pip install torchtitan=={VERSION}), "
            "or its main branch at commit b5bcd76c with torch 2.14",
        )  # fmt: skip


def _cannot_cut(target: Target) -> str | None:
    job, layout = target.job, target.layout
    parts, ranks = 2 * layout.tp * layout.cp, layout.shard_size or layout.dp * layout.cp
    heads = job.model.heads if job.model.latent else job.model.kv_heads
    rules = {
        f"torchtitan shards parameters; it has no ZeRO stage {layout.zero}": layout.zero == 3,
        "its tensor parallelism is always sequence parallel": layout.tp == 1 or layout.sequence_parallel,
        f"tp {layout.tp} does not divide the {heads} key and value heads, and it copies none": heads % layout.tp == 0,
        f"the sequence must be a multiple of 2 * tp * cp, {parts}": job.sequence % parts == 0,
        f"shard_size {ranks} is no multiple of cp {layout.cp}": ranks % layout.cp == 0,
        f"ep {layout.ep} does not divide the ranks states are sharded over, times tp": ranks * layout.tp % layout.ep
        == 0,
        "a tied embedding cannot lie on the first and the last stage": layout.pp == 1 or not job.model.tied,
        f"this launcher has bf16 and fp8, not {job.precision}": job.precision in ("bf16", "fp8"),
    }
    return next((text for text, holds in rules.items() if not holds), None)


def sections(target: Target) -> dict[str, dict[str, Any]]:
    """The tables of the TOML file."""
    job, layout = target.job, target.layout
    ranks = layout.shard_size or layout.dp * layout.cp
    mine = job.global_batch // layout.dp
    parallelism: dict[str, Any] = {
        "data_parallel_replicate_degree": layout.dp * layout.cp // ranks,
        "data_parallel_shard_degree": ranks // layout.cp,
        "fsdp_reshard_after_forward": "default",
        "tensor_parallel_degree": layout.tp,
        "pipeline_parallel_degree": layout.pp,
        "context_parallel_degree": layout.cp,
        "expert_parallel_degree": layout.ep,
        "expert_tensor_parallel_degree": 1,
    }
    if layout.pp > 1:
        parallelism |= {
            "pipeline_parallel_schedule": "Interleaved1F1B" if layout.vpp > 1 else "1F1B",
            "pipeline_parallel_microbatch_size": layout.micro_batch,
            "module_fqns_per_model_part": _parts(job.model.layers, layout.pp * layout.vpp),
        }
    found: dict[str, dict[str, Any]] = {
        "job": {"description": "planned by fyc"},
        "metrics": {"log_freq": 1},
        "model": {"name": "fyc_model", "flavor": "planned"},
        "optimizer": {"name": "AdamW", "lr": 3e-4, "eps": 1e-8},
        "lr_scheduler": {"warmup_steps": 20},
        # With a pipeline, torchtitan's local batch is what the pipeline cuts in micro-batches.
        "training": {
            "local_batch_size": mine if layout.pp > 1 else layout.micro_batch,
            "global_batch_size": job.global_batch,
            "seq_len": job.sequence,
            "max_norm": 1.0,
        },
        "parallelism": parallelism,
        "activation_checkpoint": {"mode": layout.recompute, "selective_ac_option": "op"},
        "compile": {"enable": True, "components": ["model", "loss"]},
        "checkpoint": {"enable": False, "interval": 500},
    }
    if job.precision == "fp8":
        found["model"]["converters"] = ["quantize.linear.float8"]
        found["quantize.linear.float8"] = {
            "enable_fsdp_float8_all_gather": True,
            "precompute_float8_dynamic_scale_for_fsdp": True,
            "filter_fqns": ["output", "router.gate"],
        }
    return found


def _parts(layers: int, chunks: int) -> list[list[str]]:
    names, found = iter(range(layers)), []
    for count in pipeline_parts(layers, chunks):
        found.append([f"layers.{next(names)}" for _ in range(count)])
    found[0].insert(0, "tok_embeddings")
    found[-1] += ["norm", "output"]
    return found


def _toml(tables: dict[str, dict[str, Any]]) -> str:
    """TOML; its numbers, booleans, strings and lists of strings are written as in JSON."""
    lines = [f"# torchtitan {VERSION} reads this file; to its main branch torchtitan_main.py says it in Python."]
    for name, values in tables.items():
        lines += ["", f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
    return "\n".join(lines) + "\n"

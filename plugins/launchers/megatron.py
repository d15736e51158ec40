"""The launcher `megatron`: arguments of pretrain_gpt.py of Megatron-LM."""

from __future__ import annotations

from dataclasses import dataclass

from fyc_plugins.launchers.hugging_face import details, pipeline_parts
from fyc_plugins.launchers.megatron_model import model_words, unsupported

from fyc.plan.launch import Program, Target

_PRECISIONS = {
    "bf16": ("--bf16",),
    "fp16": ("--fp16",),
    "fp8": ("--bf16", "--fp8-format", "hybrid", "--fp8-recipe", "tensorwise"),
    "mxfp8": ("--bf16", "--fp8-format", "e4m3", "--fp8-recipe", "mxfp8"),
    "nvfp4": ("--bf16", "--fp4-format", "e2m1", "--fp4-recipe", "nvfp4"),
}
_RECOMPUTE = {
    "none": (),
    "selective": ("--recompute-granularity", "selective", "--recompute-modules", "core_attn"),
    "full": ("--recompute-granularity", "full", "--recompute-method", "uniform", "--recompute-num-layers", "1"),
}


@dataclass(frozen=True)
class MegatronLauncher:
    """Writes a command for a checkout of Megatron-LM, whose folder the user names in MEGATRON_DIR."""

    name: str = "megatron"
    stack: str = "megatron-core"

    def refusal(self, target: Target) -> str | None:
        """Shapes that pretrain_gpt.py cannot build, and states sharded over a part of the ranks."""
        layout = target.layout
        if layout.zero > 1:
            return f"the distributed optimizer is ZeRO 1; the script has no ZeRO stage {layout.zero}"
        if layout.shard_size not in (0, layout.dp * layout.cp):
            return "the optimizer is sharded over all of dp * cp, not over a part; leave shard_size out"
        if target.job.model.experts is not None and layout.tp > 1 and not layout.sequence_parallel:
            return "experts with tensor parallelism need sequence parallelism"
        if 0 < target.job.model.positions < target.job.sequence:
            return f"the model has {target.job.model.positions} positions, fewer than a sequence has tokens"
        return unsupported(target.job.model, details(target.config))

    def program(self, target: Target) -> Program:
        """The words of pretrain_gpt.py."""
        job, layout = target.job, target.layout
        words = [
            *("{MEGATRON_DIR}/pretrain_gpt.py", *model_words(job.model, details(target.config), job.sequence)),
            *_parallel(target),
            *("--micro-batch-size", layout.micro_batch, "--global-batch-size", job.global_batch),
            *(*_PRECISIONS[job.precision], *_RECOMPUTE[layout.recompute]),
            *("--train-iters", "{STEPS}", "--lr", "3e-4", "--min-lr", "3e-5", "--lr-decay-style", "cosine"),
            *("--lr-warmup-fraction", "0.01", "--weight-decay", "0.1", "--clip-grad", "1.0", "--adam-beta2", "0.95"),
            *("--eval-iters", "0", "--log-interval", "1", "--log-throughput"),
        ]
        # The null tokenizer of core_v0.16.1 adds one token to the number it is given.
        data = ("--mock-data", "--tokenizer-type", "NullTokenizer", "--vocab-size", str(job.model.vocab - 1))
        # Before Blackwell, overlap of tensor and context parallel traffic relies on one hardware queue.
        environment = {"CUDA_DEVICE_MAX_CONNECTIONS": "1"} if layout.tp > 1 or layout.cp > 1 else {}
        return Program(
            command=tuple(str(word) for word in words),
            data=data,
            environment=environment,
            variables={"MEGATRON_DIR": "folder of a checkout of Megatron-LM, tag core_v0.16.1"},
            install="Megatron-LM and Transformer Engine; arguments checked against the parser of tag core_v0.16.1",
        )


def _parallel(target: Target) -> list[str | int]:
    layout, model = target.layout, target.job.model
    words: list[str | int] = ["--tensor-model-parallel-size", layout.tp, "--pipeline-model-parallel-size", layout.pp]
    words += ["--context-parallel-size", layout.cp, "--overlap-grad-reduce"]
    if layout.sequence_parallel:
        words.append("--sequence-parallel")
    if layout.vpp > 1:
        words += ["--num-layers-per-virtual-pipeline-stage", model.layers // (layout.pp * layout.vpp)]
    elif model.layers % layout.pp:
        stages = "|".join("t" * count for count in pipeline_parts(model.layers, layout.pp))
        words += ["--pipeline-model-parallel-layout", f"E{stages}L"]
    if model.experts is not None:
        words += ["--expert-model-parallel-size", layout.ep, "--expert-tensor-parallel-size", 1]
    if layout.zero == 1:
        words += ["--use-distributed-optimizer", "--overlap-param-gather"]
    return words

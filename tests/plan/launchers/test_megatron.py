"""What the launcher `megatron` writes are options that Megatron-LM's parser has, and they say exactly the layout."""

import argparse
from pathlib import Path
from typing import Any

import pytest
from fyc_plugins.launchers.megatron import MegatronLauncher
from ruamel.yaml import YAML

from fyc.errors import PlanError
from fyc.plan.known_models import DEEPSEEK_V3, QWEN3_30B
from fyc.plan.launch import Target, write_launch
from fyc.plan.layout import Layout
from fyc.plan.legal import legal_layouts
from tests.plan.jobs import GPT_22B, LLAMA_8B, LLAMA_70B, MIXTRAL, make_job

OPTIONS = YAML(typ="safe").load(Path(__file__).with_name("megatron_options.yaml").read_text(encoding="utf-8"))
SCALING = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
           "original_max_position_embeddings": 8192}  # fmt: skip
LLAMA = {"model_type": "llama", "rms_norm_eps": 1e-5, "rope_theta": 500000.0}
# Every kind of model and number format, and a long context.
JOBS: dict[str, tuple[Any, dict[str, Any], dict[str, Any]]] = {
    "llama": (LLAMA_8B, {**LLAMA, "rope_scaling": SCALING}, {}),
    "uneven": (LLAMA_70B.model_copy(update={"layers": 61}), LLAMA, {"precision": "fp16"}),
    "long": (LLAMA_8B, LLAMA, {"sequence": 131072, "batch": 16}),
    "nvfp4": (LLAMA_8B, LLAMA, {"gpu": "b200", "precision": "nvfp4"}),
    "mxfp8": (LLAMA_8B, LLAMA, {"gpu": "b200", "precision": "mxfp8"}),
    "gpt": (GPT_22B, {"model_type": "gpt2"}, {"sequence": 2048}),
    "qkv-bias": (LLAMA_8B.model_copy(update={"qkv_bias": True}), {"model_type": "qwen2"}, {}),
    "mixtral": (MIXTRAL, {"model_type": "mixtral", "num_local_experts": 8}, {"precision": "fp8"}),
    "qwen3-moe": (QWEN3_30B, {"model_type": "qwen3_moe", "norm_topk_prob": False}, {}),
    "deepseek": (
        DEEPSEEK_V3,
        {"model_type": "deepseek_v3", "first_k_dense_replace": 3, "n_routed_experts": 256},
        {"nodes": 8},
    ),
}


def _parser() -> argparse.ArgumentParser:
    """The options that Megatron-LM's parser was seen to have, of the kinds that it has them; nothing else."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    kinds = {"int": int, "float": float, "str": str}
    for name, kind in OPTIONS.items():
        if kind == "flag":
            parser.add_argument(name, action="store_true")
        elif isinstance(kind, list):
            parser.add_argument(name, choices=[str(value) for value in kind])
        else:
            parser.add_argument(name, type=kinds[kind])
    return parser


def _layout(found: argparse.Namespace, gpus: int) -> Layout:
    """The layout that the arguments say, by the rules of Megatron-LM's `validate_args`."""
    tp, pp, cp = found.tensor_model_parallel_size, found.pipeline_model_parallel_size, found.context_parallel_size
    chunk = found.num_layers_per_virtual_pipeline_stage
    return Layout(
        tp=tp, pp=pp, cp=cp, dp=gpus // (tp * pp * cp), ep=found.expert_model_parallel_size or 1,
        vpp=found.num_layers // pp // chunk if chunk else 1, micro_batch=found.micro_batch_size,
        recompute=found.recompute_granularity or "none", zero=int(found.use_distributed_optimizer),
        sequence_parallel=found.sequence_parallel,
    )  # fmt: skip


@pytest.mark.parametrize("name", JOBS)
def test_every_argument_is_an_option_of_megatron_and_they_are_the_layout(name: str) -> None:
    shape, config, values = JOBS[name]
    job = make_job(shape, **{"nodes": 4, "batch": 64, **values})
    layouts, parser = legal_layouts(job), _parser()
    for layout in layouts[:: max(1, len(layouts) // 100)]:
        program = MegatronLauncher().program(Target(job, layout, config))
        found = parser.parse_args([word.replace("{STEPS}", "7") for word in (*program.command[1:], *program.data)])
        assert _layout(found, job.cluster.gpus) == layout
        assert layout.world_size == job.cluster.gpus
        assert found.global_batch_size == job.global_batch
        assert found.vocab_size == shape.vocab - 1
        assert (found.expert_tensor_parallel_size == 1) == (shape.experts is not None)
        assert (program.environment == {"CUDA_DEVICE_MAX_CONNECTIONS": "1"}) == (layout.tp * layout.cp > 1)
        stages = (found.pipeline_model_parallel_layout or "").split("|")
        if shape.layers % layout.pp:
            counts = [stage.count("t") for stage in stages]
            assert len(counts) == layout.pp
            assert sum(counts) == shape.layers
            assert counts == sorted(counts, reverse=True)  # as the cost model: the first stages take what is left over
        else:
            assert stages == [""]


def test_an_option_that_megatron_does_not_have_is_noticed() -> None:
    with pytest.raises(SystemExit):
        _parser().parse_args(["--tensor-parallel-size", "2"])


def test_a_sequence_beyond_the_learned_positions_is_refused(tmp_path: Path) -> None:
    job = make_job(GPT_22B, nodes=1, sequence=4096)
    with pytest.raises(PlanError, match="2048 positions") as caught:
        write_launch(MegatronLauncher(), Target(job, Layout(dp=8), {"model_type": "gpt2"}), tmp_path)
    assert caught.value.code == "FYC-L14"

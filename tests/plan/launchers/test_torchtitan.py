"""torchtitan itself reads what the launcher `torchtitan` writes, and trains it on CPUs."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fyc_plugins.launchers.torchtitan import TorchtitanLauncher

from fyc.plan.cluster import Cluster
from fyc.plan.diagnosis.progress import parse_progress
from fyc.plan.known_models import DEEPSEEK_V3
from fyc.plan.launch import Target, write_launch
from fyc.plan.layout import Layout
from fyc.plan.model import ModelShape
from tests.plan.jobs import LLAMA_8B, MIXTRAL, make_job

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in ("torchtitan", "triton")),
        reason="needs torchtitan 0.2.2 and triton: pip install 'fyc[backends]'",
    ),
]

# Reads the files as torchtitan does, and counts the parameters of the model on the meta device.
READ = """
import json, sys
import torch
import train_torchtitan
from torchtitan.config import ConfigManager
from torchtitan.distributed.parallel_dims import ParallelDims
from torchtitan.protocols.train_spec import get_train_spec

config = ConfigManager().parse_args(["--job.config_file", "config.toml", "--training.dataset", "random"])
p = config.parallelism
ParallelDims(
    dp_replicate=p.data_parallel_replicate_degree, dp_shard=p.data_parallel_shard_degree, cp=p.context_parallel_degree,
    tp=p.tensor_parallel_degree, pp=p.pipeline_parallel_degree, ep=p.expert_parallel_degree,
    etp=p.expert_tensor_parallel_degree, world_size=int(sys.argv[1]),
)
train_torchtitan.register()
spec = get_train_spec(config.model.name)
args = spec.model_args[config.model.flavor]
args.update_from_config(config)
with torch.device("meta"):
    model = spec.model_cls(args)
loader = spec.build_dataloader_fn(dp_world_size=2, dp_rank=1, tokenizer=None, job_config=config)
inputs, labels = next(iter(loader))
modules = {name for name, _ in model.named_modules()}
missing = [name for part in p.module_fqns_per_model_part or [] for name in part if name not in modules]
print(json.dumps({
    "parameters": sum(x.numel() for x in model.parameters()), "missing": missing, "shape": list(labels.shape),
    "ac": config.activation_checkpoint.mode, "micro": p.pipeline_parallel_microbatch_size,
}))
"""


@pytest.mark.parametrize(
    ("shape", "layout", "config"),
    [
        (LLAMA_8B, Layout(tp=2, pp=4, vpp=2, dp=4, zero=3, sequence_parallel=True), {"model_type": "llama"}),
        (LLAMA_8B.model_copy(update={"head_dim": 64}), Layout(cp=2, dp=16, zero=3), {"model_type": "llama"}),
        (MIXTRAL, Layout(tp=2, dp=16, ep=8, zero=3, sequence_parallel=True), {"model_type": "mixtral"}),
        (
            DEEPSEEK_V3,
            Layout(pp=4, dp=8, ep=8, zero=3),
            {"model_type": "deepseek_v3", "first_k_dense_replace": 3, "n_routed_experts": 256},
        ),
    ],
    ids=["llama", "narrow-heads", "mixtral", "deepseek"],
)
def test_torchtitan_reads_the_files(
    shape: ModelShape, layout: Layout, config: dict[str, object], tmp_path: Path
) -> None:
    job = make_job(shape, nodes=4, backend="torchtitan", batch=64, sequence=512)
    write_launch(TorchtitanLauncher(), Target(job, layout, config), tmp_path)
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = str(tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", READ, str(job.cluster.gpus)],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["missing"] == []
    assert found["parameters"] == shape.formula_parameters
    assert found["shape"][1] == job.sequence
    assert found["ac"] == layout.recompute


@pytest.mark.parametrize(
    ("layout", "more"),
    [
        (Layout(dp=2, zero=3, micro_batch=2, recompute="selective"), ()),
        (Layout(pp=2, zero=3, micro_batch=2), ()),
        # torch 2.13 does not compile the tensor parallel model of torchtitan 0.2.2
        (Layout(tp=2, zero=3, micro_batch=2, recompute="full", sequence_parallel=True), ("--compile.no-enable",)),
    ],
    ids=["fsdp", "pipeline", "tensor"],
)
def test_torchtitan_trains_what_was_written_on_two_processes(
    layout: Layout, more: tuple[str, ...], tmp_path: Path
) -> None:
    sizes = {"hidden": 64, "layers": 2, "heads": 4, "kv_heads": 2, "head_dim": 16, "ffn": 128, "vocab": 256}
    job = make_job(LLAMA_8B.model_copy(update={"name": "tiny", **sizes}), backend="torchtitan", sequence=32, batch=8)
    cluster = Cluster(gpu=job.cluster.gpu, nodes=1, gpus_per_node=2, network_gbs=50)
    target = Target(job.model_copy(update={"cluster": cluster}), layout, {"model_type": "llama"})
    write_launch(TorchtitanLauncher(), target, tmp_path)
    (tmp_path / "cpu").mkdir()
    shutil.copy(Path(__file__).with_name("torchtitan_on_cpus.py"), tmp_path / "cpu" / "sitecustomize.py")
    variables = {
        "STEPS": "6", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(tmp_path / "cpu"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }  # fmt: skip
    done = subprocess.run(
        [str(tmp_path / "launch.sh"), *more],
        env=os.environ | variables, capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    log = tmp_path / "train.log"
    log.write_text(done.stdout + done.stderr, encoding="utf-8")
    progress = parse_progress(log)
    assert progress is not None
    assert progress.tokens_per_s_per_gpu is not None
    losses = [float(found) for found in re.findall(r"step: +\d+ .*?loss: +(-?\d+\.\d+)", log.read_text())]
    known = [loss for loss in losses if loss != -1]  # what a rank without the last stage prints
    assert len(known) >= 6
    assert all(5 < loss < 7 for loss in known)  # random tokens: about the logarithm of the vocabulary

"""torchtitan's main branch, which reads no TOML, takes what the launcher `torchtitan` writes, too.

It is not on PyPI. The tests that need it run where FYC_TORCHTITAN names a checkout of it, in a Python that has what its
requirements.txt lists and a torch newer than 2.13:

    FYC_TORCHTITAN=~/torchtitan python -m pytest tests/plan/launchers/test_torchtitan_main.py
"""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fyc_plugins.launchers.scripts import train_torchtitan
from fyc_plugins.launchers.torchtitan import TorchtitanLauncher

from fyc.plan.cluster import Cluster
from fyc.plan.known_models import DEEPSEEK_V3
from fyc.plan.launch import Target, write_launch
from fyc.plan.layout import Layout
from fyc.plan.model import ModelShape
from tests.plan.jobs import LLAMA_8B, MIXTRAL, make_job

CHECKOUT = os.environ.get("FYC_TORCHTITAN", "")
needs_main = pytest.mark.skipif(
    not CHECKOUT, reason="NOT TESTED: torchtitan's main branch; FYC_TORCHTITAN=FOLDER names a checkout of it"
)
LLAMA = {"model_type": "llama"}
TIED = LLAMA_8B.model_copy(update={"name": "tied", "tied": True, "qk_norm": 256})
TINY = LLAMA_8B.model_copy(
    update={
        "name": "tiny",
        "hidden": 64,
        "layers": 2,
        "heads": 4,
        "kv_heads": 2,
        "head_dim": 16,
        "ffn": 128,
        "vocab": 256,
    }
)

# Reads the files as torchtitan does, and counts the parameters of the model on the meta device.
READ = """
import json, sys
import torch
import train_torchtitan
from torchtitan.config import ConfigManager
from torchtitan.distributed import ParallelDims

assert not train_torchtitan.reads_toml()
words = ["--job.config_file", "config.toml", "--training.steps", "7", "--training.dataset", "random"]
config = ConfigManager().parse_args(train_torchtitan.words_of_main(words))
dims = ParallelDims.from_config(config.parallelism, int(sys.argv[1]))
model_config, training, p = config.model_spec.model, config.training, config.parallelism
model_config.update_from_config(config=config)
with torch.device("meta"):
    model = model_config.build()
model.verify_module_protocol()
loader = config.dataloader.build(
    dp_world_size=2, dp_rank=1, tokenizer=config.tokenizer.build(tokenizer_path=""),
    max_context_length=training.max_context_length, num_tokens_per_batch=training.num_tokens_per_microbatch_per_dp_rank,
)
inputs, labels = next(iter(loader))
modules = {name for name, _ in model.named_modules()}
missing = [name for part in p.module_fqns_per_model_part or [] for name in part if name not in modules]
ac = config.activation_checkpoint
print(json.dumps({
    "parameters": sum(x.numel() for x in model.parameters()), "missing": missing, "steps": training.steps,
    "sizes": [dims.tp, dims.pp, dims.cp, dims.ep, dims.dp_replicate * dims.dp_shard],
    "tokens": [inputs["input"].numel(), labels.numel(), training.num_tokens_per_train_step],
    "micro_batches": p.num_pp_microbatches, "ac": type(ac).__qualname__,
}))
"""


def _environment(folder: Path) -> dict[str, str]:
    return {
        **os.environ, "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1", "STEPS": "6",
        "PYTHONPATH": f"{folder}{os.pathsep}{CHECKOUT}", "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }  # fmt: skip


def test_the_arguments_of_launch_sh_are_translated() -> None:
    config = str(train_torchtitan.HERE / "config.toml")
    words = [
        "--job.config_file",
        config,
        "--training.steps",
        "5",
        "--training.dataset",
        "random",
        "--compile.no-enable",
    ]
    wanted = ["--module", "torchtitan_main", "--config", "random", "--training.steps", "5", "--compile.no-enable"]
    assert train_torchtitan.words_of_main(words) == wanted
    found = train_torchtitan.words_of_main(["--training.dataset=c4", "--model.hf_assets_path", "/tokenizer"])
    assert found == ["--module", "torchtitan_main", "--config", "c4", "--hf_assets_path", "/tokenizer"]
    with pytest.raises(SystemExit, match=r"other\.toml: this torchtitan reads no TOML file"):
        train_torchtitan.words_of_main(["--job.config_file", "other.toml"])


def test_a_torchtitan_of_neither_kind_is_refused_in_one_message(tmp_path: Path) -> None:
    target = Target(make_job(LLAMA_8B, nodes=1, backend="torchtitan"), Layout(dp=8, zero=3), LLAMA)
    write_launch(TorchtitanLauncher(), target, tmp_path)
    package = tmp_path / "torchtitan" / "protocols"
    package.mkdir(parents=True)
    for folder in (package, package.parent):
        (folder / "__init__.py").touch()
    done = subprocess.run(
        [sys.executable, str(tmp_path / "train_torchtitan.py")],
        env=os.environ | {"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.startswith("torchtitan cannot be used: No module named 'torchtitan.")
    assert "pip install torchtitan==0.2.2" in done.stderr
    assert "Traceback" not in done.stderr


@needs_main
@pytest.mark.slow
@pytest.mark.parametrize(
    ("shape", "layout", "config"),
    [
        (LLAMA_8B, Layout(tp=2, pp=4, vpp=2, dp=4, zero=3, sequence_parallel=True), LLAMA),
        (LLAMA_8B.model_copy(update={"head_dim": 64}), Layout(cp=2, dp=16, zero=3, recompute="full"), LLAMA),
        (TIED, Layout(dp=32, zero=3, shard_size=8, micro_batch=2, recompute="selective"), {"model_type": "qwen3"}),
        (MIXTRAL, Layout(tp=2, dp=16, ep=8, zero=3, sequence_parallel=True), {"model_type": "mixtral"}),
        (
            DEEPSEEK_V3,
            Layout(pp=4, dp=8, ep=8, zero=3),
            {"model_type": "deepseek_v3", "first_k_dense_replace": 3, "n_routed_experts": 256},
        ),
    ],
    ids=["llama", "narrow-heads", "tied", "mixtral", "deepseek"],
)
def test_the_main_branch_takes_the_files(
    shape: ModelShape, layout: Layout, config: dict[str, object], tmp_path: Path
) -> None:
    job = make_job(shape, nodes=4, backend="torchtitan", batch=64, sequence=512)
    write_launch(TorchtitanLauncher(), Target(job, layout, config), tmp_path)
    done = subprocess.run(
        [sys.executable, "-c", READ, str(job.cluster.gpus)],
        cwd=tmp_path, env=_environment(tmp_path), capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    kinds = {"none": "NoneType", "selective": "SelectiveAC.Config", "full": "FullAC.Config"}
    tokens = layout.micro_batch * job.sequence
    assert found == {
        "parameters": shape.formula_parameters, "missing": [], "steps": 7,
        "sizes": [layout.tp, layout.pp, layout.cp, layout.ep, layout.dp],
        "tokens": [tokens, tokens, job.global_batch * job.sequence],
        "micro_batches": job.global_batch // layout.dp // layout.micro_batch if layout.pp > 1 else 1,
        "ac": kinds[layout.recompute],
    }  # fmt: skip


@needs_main
@pytest.mark.slow
@pytest.mark.parametrize(
    ("precision", "more", "why"),
    [("fp8", "", "[quantize.linear.float8]"), ("bf16", "\n[training.extra]\nx = 1\n", "[training] extra")],
)
def test_what_the_main_branch_has_no_word_for_is_refused(precision: str, more: str, why: str, tmp_path: Path) -> None:
    job = make_job(LLAMA_8B, nodes=1, backend="torchtitan", precision=precision)
    write_launch(TorchtitanLauncher(), Target(job, Layout(dp=8, zero=3), LLAMA), tmp_path)
    with (tmp_path / "config.toml").open("a", encoding="utf-8") as file:
        file.write(more)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "train_torchtitan.py")],
        env=_environment(tmp_path), capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    message = done.stderr.splitlines()[-1]
    assert message.startswith(f"config.toml: {why}")
    assert message.endswith("pip install torchtitan==0.2.2")


@needs_main
@pytest.mark.slow
@pytest.mark.parametrize(
    "layout",
    [
        Layout(dp=2, zero=3, micro_batch=2, recompute="selective"),
        Layout(pp=2, zero=3, micro_batch=2),
        Layout(tp=2, zero=3, micro_batch=2, recompute="full", sequence_parallel=True),
    ],
    ids=["fsdp", "pipeline", "tensor"],
)
def test_the_main_branch_trains_what_was_written_on_two_processes(layout: Layout, tmp_path: Path) -> None:
    job = make_job(TINY, backend="torchtitan", sequence=32, batch=8)
    cluster = Cluster(gpu=job.cluster.gpu, nodes=1, gpus_per_node=2, network_gbs=50)
    write_launch(TorchtitanLauncher(), Target(job.model_copy(update={"cluster": cluster}), layout, LLAMA), tmp_path)
    cpu = tmp_path / "cpu"
    cpu.mkdir()
    shutil.copy(Path(__file__).with_name("torchtitan_on_cpus.py"), cpu)
    shutil.copy(Path(__file__).with_name("torchtitan_main_on_cpus.py"), cpu / "sitecustomize.py")
    done = subprocess.run(
        [str(tmp_path / "launch.sh")],
        cwd=tmp_path, env=_environment(cpu), capture_output=True, text=True, timeout=400, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    losses = [float(found) for found in re.findall(r"step: +\d+ .*?loss: +(-?\d+\.\d+)", done.stdout + done.stderr)]
    known = [loss for loss in losses if loss != -1]  # what a rank without the last stage prints
    assert len(known) >= 6
    assert all(5 < loss < 7 for loss in known)  # random tokens: about the logarithm of the vocabulary

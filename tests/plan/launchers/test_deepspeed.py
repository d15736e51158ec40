"""The launcher `deepspeed`: DeepSpeed reads its configuration, and its script really trains by way of launch.sh."""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from fyc_plugins.launchers.deepspeed import DeepSpeedLauncher

from fyc.errors import PlanError
from fyc.plan.cluster import Cluster
from fyc.plan.diagnosis import parse_progress
from fyc.plan.job import Job
from fyc.plan.launch import Target, write_launch
from fyc.plan.layout import Layout
from tests.plan.jobs import LLAMA_8B, make_job

CONFIG = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "vocab_size": 256,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 128,
    "tie_word_embeddings": False,
}  # fmt: skip
PATH = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
needs_deepspeed = pytest.mark.skipif(
    importlib.util.find_spec("deepspeed") is None, reason="needs DeepSpeed: pip install 'fyc[backends]'"
)


def _job(precision: str = "bf16") -> Job:
    job = make_job(LLAMA_8B, backend="deepspeed", sequence=32, batch=8, precision=precision)
    cluster = Cluster(gpu=job.cluster.gpu, nodes=1, gpus_per_node=2, network_gbs=50)
    return job.model_copy(update={"cluster": cluster})


@pytest.mark.parametrize("zero", [0, 1, 2, 3])
@pytest.mark.parametrize("micro", [1, 2, 4])
def test_the_batch_is_micro_batch_times_accumulation_times_gpus(zero: int, micro: int, tmp_path: Path) -> None:
    layout = Layout(dp=2, zero=zero, micro_batch=micro)
    write_launch(DeepSpeedLauncher(), Target(_job(), layout, CONFIG), tmp_path)
    found = json.loads((tmp_path / "ds_config.json").read_text())
    micro_batch, steps = found["train_micro_batch_size_per_gpu"], found["gradient_accumulation_steps"]
    assert (micro_batch, found["zero_optimization"]["stage"]) == (micro, zero)
    assert found["train_batch_size"] == micro_batch * steps * 2 == 8
    assert found["bf16"] == {"enabled": True}


@needs_deepspeed
@pytest.mark.slow
@pytest.mark.parametrize(("zero", "recompute"), [(0, "none"), (1, "selective"), (2, "none"), (3, "full")], ids=str)
def test_the_launch_script_trains_on_two_processes(zero: int, recompute: str, tmp_path: Path) -> None:
    layout = Layout.model_validate({"dp": 2, "zero": zero, "micro_batch": 2, "recompute": recompute})
    write_launch(DeepSpeedLauncher(), Target(_job(), layout, CONFIG), tmp_path)
    environment = {**os.environ, "STEPS": "12", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PATH": PATH}
    done = subprocess.run(
        [str(tmp_path / "launch.sh"), "--learning-rate", "0.01", "--warmup", "1"],
        env=environment, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    losses = [float(found) for found in re.findall(r"step: \d+  loss: ([\d.]+)", done.stdout)]
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(losses) == 12
    assert abs(losses[0] - 5.545) < 0.1  # the logarithm of the vocabulary: nothing is learned yet
    assert losses[-1] != losses[0]
    (tmp_path / "train.log").write_text(done.stdout)
    progress = parse_progress(tmp_path / "train.log")  # what `fyc plan calibrate` and the executors read
    assert progress is not None
    assert progress.measured == 9
    assert progress.tokens_per_s_per_gpu
    assert progress.peak_reserved_gib


@pytest.mark.parametrize(
    ("layout", "precision", "why"),
    [
        (Layout(tp=2, zero=1), "bf16", "data parallel only"),
        (Layout(dp=2, zero=3, shard_size=1), "bf16", "not over a part"),
        (Layout(dp=2, zero=3), "fp8", "bf16 or fp16"),
    ],
)
def test_what_it_cannot_run_is_refused(layout: Layout, precision: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=why) as caught:
        write_launch(DeepSpeedLauncher(), Target(_job(precision), layout, CONFIG), tmp_path)
    assert caught.value.code == "FYC-L14"
    assert not list(tmp_path.iterdir())

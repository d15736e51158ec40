"""The launcher `fsdp2`: its script really trains, by way of the launch.sh that a plan holds."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from fyc_plugins.launchers.fsdp2 import Fsdp2Launcher

from fyc.errors import PlanError
from fyc.plan.cluster import Cluster
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


def _job(name: str = "tiny", nodes: int = 1) -> Job:
    job = make_job(LLAMA_8B.model_copy(update={"name": name}), backend="fsdp2", sequence=32, batch=8)
    cluster = Cluster(gpu=job.cluster.gpu, nodes=nodes, gpus_per_node=2, network_gbs=50)
    return job.model_copy(update={"cluster": cluster})


@pytest.mark.parametrize(
    "layout",
    [
        Layout(dp=2, zero=3, micro_batch=2, recompute="selective"),
        Layout(dp=2, zero=2, micro_batch=4, recompute="full"),
        Layout(dp=2, zero=3, shard_size=1),
    ],
    ids=str,
)
def test_the_launch_script_trains_on_two_processes(layout: Layout, tmp_path: Path) -> None:
    write_launch(Fsdp2Launcher(), Target(_job(), layout, CONFIG), tmp_path)
    environment = {**os.environ, "STEPS": "12", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PATH": PATH}
    done = subprocess.run(
        [str(tmp_path / "launch.sh"), "--learning-rate", "0.01", "--warmup", "1"],
        env=environment, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    losses = [float(found) for found in re.findall(r"^step: \d+  loss: ([\d.]+)", done.stdout, re.MULTILINE)]
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(losses) == 12
    assert abs(losses[0] - 5.545) < 0.1  # the logarithm of the vocabulary: nothing is learned yet
    assert losses[-1] != losses[0]


def test_scripts_are_bash_and_no_text_of_the_user_is_code(tmp_path: Path) -> None:
    name = "x\n$(touch pwned) `touch pwned` {HERE} ; rm -rf *"
    write_launch(Fsdp2Launcher(), Target(_job(name, nodes=2), Layout(dp=4, zero=3), CONFIG), tmp_path)
    for script in ("launch.sh", "launch.sbatch"):
        subprocess.run(["bash", "-n", str(tmp_path / script)], check=True)
    stub = tmp_path / "bin" / "torchrun"
    stub.parent.mkdir()
    stub.write_text('#!/usr/bin/env bash\nprintf "%s\\n" "$@"\n')
    stub.chmod(0o755)
    environment = {**os.environ, "PATH": f"{stub.parent}:{os.environ['PATH']}", "MASTER_ADDR": "node1"}
    words = subprocess.run(
        [str(tmp_path / "launch.sh"), "--seed", "a b"],
        env=environment, capture_output=True, text=True, cwd=tmp_path, check=True,
    ).stdout.splitlines()  # fmt: skip
    assert not (tmp_path / "pwned").exists()
    assert words[words.index("--nnodes") + 1] == "2"
    assert words[words.index("--nproc-per-node") + 1] == "2"
    assert words[words.index("--model") + 1] == str(tmp_path / "config.json")
    assert words[words.index("--steps") + 1] == "1000"
    assert words[-3:] == ["--random-tokens", "--seed", "a b"]
    assert json.loads((tmp_path / "config.json").read_text()) == CONFIG


def test_several_machines_need_an_address(tmp_path: Path) -> None:
    write_launch(Fsdp2Launcher(), Target(_job(nodes=2), Layout(dp=4, zero=3), CONFIG), tmp_path)
    environment = {key: value for key, value in os.environ.items() if key != "MASTER_ADDR"}
    done = subprocess.run([str(tmp_path / "launch.sh")], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "name of the machine that the others connect to" in done.stderr


@pytest.mark.parametrize(
    ("layout", "why"), [(Layout(tp=2, zero=3), "data parallel only"), (Layout(dp=2, zero=1), "ZeRO stage 1")]
)
def test_what_it_cannot_run_is_refused(layout: Layout, why: str, tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=why) as caught:
        write_launch(Fsdp2Launcher(), Target(_job(), layout, CONFIG), tmp_path)
    assert caught.value.code == "FYC-L14"
    assert not list(tmp_path.iterdir())

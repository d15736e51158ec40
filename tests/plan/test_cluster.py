"""Clusters: their own hardware file is looked for beside the file that names it."""

import shutil
from pathlib import Path

import pytest

from fyc.errors import PlanError
from fyc.plan.cluster import read_cluster

CPU = Path(__file__).parents[2] / "examples" / "plan" / "cpu"


def test_a_hardware_file_lies_beside_the_cluster_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("two.yaml", "cpu-process.yaml"):
        shutil.copy(CPU / name, tmp_path)
    monkeypatch.chdir("/")
    cluster = read_cluster(tmp_path / "two.yaml")
    assert (cluster.gpu.name, cluster.gpu.device, cluster.gpus) == ("cpu-process", "cpu", 2)


def test_a_hardware_file_that_is_not_there_is_named_with_its_folder(tmp_path: Path) -> None:
    shutil.copy(CPU / "two.yaml", tmp_path)
    with pytest.raises(PlanError) as caught:
        read_cluster(tmp_path / "two.yaml")
    assert caught.value.code == "FYC-L02"
    assert str(tmp_path / "cpu-process.yaml") in caught.value.where

"""How the weights are cut into files, and which tensor guards them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import toys

import fyc
from fyc.artifact import read_tensors
from fyc.engine import convert
from fyc.errors import PassError
from fyc.passes import ModuleReport, PassResult

pytestmark = pytest.mark.usefixtures("traced_once")


@pytest.fixture(scope="module")
def large() -> Path:
    return toys.toy_model(
        toys.scratch() / "m", hidden_size=256, intermediate_size=700, num_hidden_layers=2, vocab_size=3000
    )


def tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    return {name: t for path in sorted(folder.glob("model-*")) for name, t in read_tensors(path).items()}


def test_a_stage_that_fits_is_one_file(large: Path, tmp_path: Path) -> None:
    made = convert(toys.toy_plan(large, tmp_path / "out", "toy-round"))
    assert made.weight_files == [f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]


def test_shards_are_cut_at_the_limit(large: Path, tmp_path: Path) -> None:
    """Every file holds at most the wished size, or one tensor that is larger; the content is the same."""
    whole = convert(toys.toy_plan(large, tmp_path / "whole", "toy-round"))
    cut = convert(toys.toy_plan(large, tmp_path / "cut", "toy-round", section="{shard_mb: 1}"))
    assert len(cut.weight_files) > 6
    for name in cut.weight_files:
        stored = read_tensors(cut.path / name)
        assert sum(t.nbytes for t in stored.values()) <= 10**6 or len(stored) == 1
    a, b = tensors_of(whole.path), tensors_of(cut.path)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)
    index = json.loads((cut.path / "model.safetensors.index.json").read_text())
    assert index["weight_map"].keys() == b.keys()
    assert {entry.file for entry in cut.tensors().values()} == set(cut.weight_files)
    ids = torch.arange(2, 14).unsqueeze(0)
    with torch.no_grad():
        torch.testing.assert_close(fyc.load(cut.path)(ids).logits, fyc.load(whole.path)(ids).logits, rtol=0, atol=0)


class Everything(toys.Round):
    """Replaces every norm, so that no plain vector is left."""

    name = "toy-everything"
    modules = (toys.RowInt8,)

    def replace(self, root: torch.nn.Module, prefix: str = "") -> PassResult:
        names = [name for name, _ in root.named_modules() if name.endswith("norm") and name.count(".") <= 1]
        for name in names:
            parent, _, leaf = name.rpartition(".")
            setattr(root.get_submodule(parent), leaf, Norm())
        return PassResult([ModuleReport(prefix + name, "replaced") for name in names])

    def run_outer(self, outer: Any, ctx: Any) -> PassResult:
        return self.replace(outer.module)

    def run(self, block: Any, ctx: Any) -> PassResult:
        return self.replace(block.module, f"{block.path}.")


class Norm(fyc.FycModule):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(32))

    def config(self) -> dict[str, Any]:
        return {}

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.scale


Everything.modules = (Norm,)


def test_a_model_without_a_vector_left_is_not_written(tmp_path: Path) -> None:
    """transformers without fyc could load it as garbage."""
    plan = toys.toy_plan(toys.model(), tmp_path / "out", "toy-everything", host=toys.toy_host(Everything))
    with pytest.raises(PassError) as caught:
        convert(plan)
    assert caught.value.code == "FYC-X03"
    assert "guard" in caught.value.what
    assert not (tmp_path / "out").exists()


def test_the_guard_moves_to_a_block_when_the_outer_model_has_no_vector(tmp_path: Path) -> None:
    class Outer(Everything):
        def run(self, block: Any, ctx: Any) -> PassResult:
            return PassResult()

    host = toys.toy_host(Outer)
    made = convert(toys.toy_plan(toys.model(), tmp_path / "out", "toy-everything", host=host))
    assert made.manifest.guard.name == "model.layers.0.input_layernorm.weight"
    assert made.tensors()[made.manifest.guard.name].shape == (1, 32)

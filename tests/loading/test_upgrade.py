"""An artifact outlives a change of transformers: only a numeric difference refuses it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch
import toys
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers.models.llama import modeling_llama

import fyc
from fyc.engine import convert
from fyc.errors import ArtifactError

IDS = torch.arange(2, 26).reshape(2, 12)


def logits(model: Any) -> Tensor:
    with torch.no_grad():
        return model(IDS).logits


def made_elsewhere(folder: Path, *, structure: bool) -> Path:
    """A copy of an artifact as another transformers would have made it."""

    def change(data: dict[str, Any]) -> None:
        data["versions"]["transformers"] = "5.17.0"
        for block in data["blocks"] if structure else ():
            block["source_digest"] = "0" * 64

    toys.copied(toys.artifact(), folder)
    toys.edit_manifest(folder, change)
    return folder


def change_sample(folder: Path, change: Any) -> None:
    """Change the stored outputs, and their hash."""
    path = folder / "graphs" / "samples.safetensors"
    tensors = load_file(path)
    for name in tensors:
        if name.endswith(".output"):
            tensors[name] = change(tensors[name])
    save_file(tensors, path, metadata={"format": "pt"})
    toys.rehash(folder, "graphs/samples.safetensors")


def refused(folder: Path, **options: Any) -> ArtifactError:
    with pytest.raises(ArtifactError) as caught:
        fyc.load(folder, **options)
    assert caught.value.code == "FYC-A05"
    return caught.value


def test_every_structure_has_a_sample() -> None:
    for family in toys.FAMILIES:
        manifest = toys.artifact(family).manifest
        graphs = {entry.path: entry.graph for entry in manifest.blocks}
        assert {graphs[sample.block] for sample in manifest.samples} == set(graphs.values())


def test_another_structure_loads_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = made_elsewhere(tmp_path / "a", structure=True)
    with caplog.at_level(logging.WARNING, logger="fyc"):
        model = fyc.load(folder)
    assert "5.17.0" in caplog.text
    torch.testing.assert_close(logits(model), logits(fyc.load(toys.artifact().path)), rtol=0, atol=0)


def test_the_same_transformers_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        fyc.load(toys.artifact().path)
    assert caplog.text == ""


@pytest.mark.parametrize("structure", [True, False], ids=["structure changed", "only the version"])
def test_another_output_is_refused(structure: bool, tmp_path: Path) -> None:
    folder = made_elsewhere(tmp_path / "a", structure=structure)
    change_sample(folder, lambda output: output * 1.01)
    error = refused(folder)
    assert "model.layers.0" in error.where
    assert "5.17.0" in error.why
    assert "install that version" in error.next


def test_a_small_difference_is_none(tmp_path: Path) -> None:
    folder = made_elsewhere(tmp_path / "a", structure=True)
    change_sample(folder, lambda output: output * (1 + 1e-5))
    fyc.load(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 0.0])
def test_no_number_passes_for_equal(value: float, tmp_path: Path) -> None:
    folder = made_elsewhere(tmp_path / "a", structure=True)
    change_sample(folder, lambda output: torch.full_like(output, value))
    refused(folder)


def test_a_changed_block_without_a_sample_is_refused(tmp_path: Path) -> None:
    folder = made_elsewhere(tmp_path / "a", structure=True)
    toys.edit_manifest(folder, lambda data: data["samples"].pop())
    assert "no sample" in refused(folder).why


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_comparison_allows_for_a_shorter_type(dtype: torch.dtype, tmp_path: Path) -> None:
    folder = made_elsewhere(tmp_path / "a", structure=True)
    assert fyc.load(folder, dtype=dtype).dtype == dtype
    change_sample(folder, lambda output: output * 1.2)
    refused(folder, dtype=dtype)


LEAVES = "import fyc\n@fyc.hookimpl\ndef fyc_trace_leaf(module): return 'MLP' in type(module).__name__ or None"


def test_another_plugin_that_chooses_leaves_is_named(
    install: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = toys.copied(toys.artifact(), tmp_path / "a")
    install("fyc-leaves", {"leaves": LEAVES}, version="2.5")
    said = "fyc_trace_leaf was implemented by no plugin, now by `leaves` of fyc-leaves 2.5"
    with caplog.at_level(logging.WARNING, logger="fyc"):
        fyc.load(folder)
    assert said in caplog.text
    change_sample(folder, lambda output: output * 1.01)
    assert said in refused(folder).why
    toys.edit_manifest(folder, lambda data: data["samples"].clear())
    assert said in refused(folder).why


def test_code_that_computes_the_same_in_another_way(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What an upgrade really is: other code in the block. The stored graph runs."""
    expected = logits(fyc.load(toys.artifact().path))

    def forward(self: Any, x: Tensor) -> Tensor:
        up, gate = self.up_proj(x), self.act_fn(self.gate_proj(x))
        return self.down_proj(up * gate)

    monkeypatch.setattr(modeling_llama.LlamaMLP, "forward", forward)
    with caplog.at_level(logging.WARNING, logger="fyc"):
        model = fyc.load(toys.artifact().path)
    assert "another way" in caplog.text
    torch.testing.assert_close(logits(model), expected, rtol=0, atol=0)


def test_a_leaf_module_that_computes_something_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No structure shows it, because the norm is one node; the comparison does."""
    folder = made_elsewhere(tmp_path / "a", structure=False)
    fyc.load(folder)
    original = modeling_llama.LlamaRMSNorm.forward
    monkeypatch.setattr(modeling_llama.LlamaRMSNorm, "forward", lambda self, x: original(self, x) + 0.1)
    refused(folder)


def test_the_sample_is_of_the_last_stage(tmp_path: Path) -> None:
    passes = ("{use: toy-round, options: {digits: 1}}", "toy-rows")
    made = convert(toys.toy_plan(toys.model("gpt2"), tmp_path / "out", *passes))
    toys.edit_manifest(made.path, lambda data: data["versions"].update(transformers="5.17.0"))
    fyc.load(made.path)

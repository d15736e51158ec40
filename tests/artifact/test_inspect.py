"""What an artifact says about itself, and how two of them differ."""

from __future__ import annotations

import json
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import toys

from fyc.artifact import ModuleEntry, diff, figures, is_artifact, open_artifact
from fyc.engine import convert
from fyc.engine.report import report_text
from fyc.errors import ArtifactError

pytestmark = pytest.mark.usefixtures("traced_once")


def test_inspect_says_what_was_done_to_each_module() -> None:
    made = toys.artifact("llama", "{use: toy-rows, options: {measure: true}}")
    found = made.inspect()
    assert json.loads(json.dumps(found)) == found
    assert [entry["name"] for entry in found["passes"]] == ["toy-rows"]
    assert found["passes"][0]["options"]["headroom"] == 1.0
    assert found["passes"][0]["distribution"] == "fyc-toys 1.0"
    assert found["passes"][0]["metrics"] == {"clamped": 7.0}
    assert len(found["modules"]) == 21
    for module in found["modules"]:
        assert module.keys() == {"path", "by", "action", "bits", "expansion", "error", "details"}
        assert module["bits"] == 8.0
        assert 0 < module["error"] < 1e-3
    assert found["architecture"] == "LlamaForCausalLM"
    assert found["dtype"] == "float32"
    assert found["aliases"] == {"lm_head.weight": "model.embed_tokens.weight"}
    assert [block["path"] for block in found["blocks"]] == [f"model.layers.{i}" for i in range(3)]


def test_sizes_are_those_on_disk() -> None:
    made = toys.artifact()
    found = made.inspect()
    assert found["size_bytes"] == sum(path.stat().st_size for path in made.path.glob("model-*.safetensors"))
    assert found["source_bytes"] == (toys.model() / "model.safetensors").stat().st_size
    assert found["size_bytes"] < found["source_bytes"]


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    folder = toys.copied(toys.artifact(), tmp_path / "a")
    shard = folder / open_artifact(folder).weight_files[1]
    shard.unlink()
    for read in (lambda: open_artifact(folder).inspect(), lambda: diff(toys.artifact(), open_artifact(folder))):
        with pytest.raises(ArtifactError) as caught:
            read()
        assert (caught.value.code, caught.value.where) == ("FYC-A03", str(shard))


def test_tensors_are_listed_as_stored() -> None:
    made = toys.artifact()
    tensors = made.tensors()
    assert tensors["model.layers.0.mlp.up_proj.codes"].dtype == "I8"
    assert tensors["model.layers.0.mlp.up_proj.codes"].shape == (48, 32)
    assert tensors["model.norm.weight"].shape == (1, 32)
    assert "lm_head.weight" not in tensors
    index = json.loads((made.path / "model.safetensors.index.json").read_text())
    assert {name: entry.file for name, entry in tensors.items()} == index["weight_map"]


def test_versions_are_those_installed() -> None:
    versions = toys.artifact().manifest.versions
    assert {name: version(name) for name in ("torch", "transformers", "safetensors")}.items() <= versions.items()


def test_the_source_can_be_traced() -> None:
    source = toys.artifact().manifest.source
    assert source.name == str(toys.model())
    assert re.fullmatch("[0-9a-f]{64}", source.digest)
    assert source.digest == toys.artifact("llama", "toy-round").manifest.source.digest
    assert source.digest != toys.artifact("untied").manifest.source.digest


def test_diff_of_an_artifact_with_itself() -> None:
    found = diff(toys.artifact(), open_artifact(toys.artifact().path))
    assert found["identical"] is True
    assert [found[key] for key in ("source", "passes", "modules", "metrics", "versions", "files")] == [{}] * 6


def test_diff_names_what_differs(tmp_path: Path) -> None:
    a = convert(toys.toy_plan(toys.model(), tmp_path / "a", "{use: toy-rows, options: {headroom: 2.0}}", verify=9.0))
    b = convert(toys.toy_plan(toys.model(), tmp_path / "b", "{use: toy-rows, exclude: ['*.down_proj']}", verify=9.0))
    found = diff(a, b)
    assert json.loads(json.dumps(found)) == found
    assert found["identical"] is False
    assert found["source"] == {}
    assert found["passes"] == {"0.headroom": [2.0, 1.0]}
    assert set(found["modules"]) == {f"model.layers.{i}.mlp.down_proj" for i in range(3)}
    assert found["modules"]["model.layers.0.mlp.down_proj"][1] is None
    assert found["size_bytes"][0] < found["size_bytes"][1]
    assert "held_out_perplexity_after" in found["metrics"]
    assert "held_out_perplexity_before" not in found["metrics"]
    assert "model-00002-of-00004.safetensors" in found["files"]
    assert "config.json" not in found["files"]


def test_is_artifact(tmp_path: Path) -> None:
    assert is_artifact(toys.artifact().path)
    assert not is_artifact(toys.model())
    assert not is_artifact(tmp_path / "nothing")


@pytest.mark.parametrize("family", toys.FAMILIES)
def test_the_report_holds_every_module(family: str) -> None:
    made = toys.artifact(family)
    report = (made.path / "report.md").read_text(encoding="utf-8")
    for module in made.manifest.modules:
        assert f"`{module.path}`" in report


def entry(path: str, error: float | None = None, **details: Any) -> ModuleEntry:
    return ModuleEntry(path=path, by="p", action="done", bits=None, expansion=None, error=error, details=details)


def test_figures_are_what_is_there_small_and_not_the_same_everywhere() -> None:
    long = "model.layers.0.mlp.up_proj"
    modules = [
        entry("a", 0.5, zeros=0.25, mask="2:4", where=long, sizes=[1], kept=None),
        entry("b", zeros=0.5, mask="2:4", where=long, sizes=[1], kept=None, rows=3),
    ]
    shown = figures(modules)
    assert shown.fields == ("error",)
    assert shown.details == ("zeros", "rows")
    assert shown.common == {"mask": "2:4"}
    assert figures(modules[:1]).details == ("zeros", "mask")
    assert figures([entry("a", **{f"n{i}": i for i in range(100)})]).details == tuple(f"n{i}" for i in range(8))
    assert figures([]).fields == ()


def test_the_report_has_no_columns_that_no_module_fills() -> None:
    made = toys.artifact("llama", "toy-round")
    manifest = made.manifest.model_copy(update={"modules": [entry("a", zeros=0.25), entry("b", zeros=0.5)]})
    modules = [module.model_copy(update={"by": "toy-round"}) for module in manifest.modules]
    text = report_text(manifest.model_copy(update={"modules": modules}), made.path, "modules.svg")
    assert "| module | action | zeros |\n|---|---|---|\n| `a` | done | 0.25 |" in text
    assert "expansion" not in text
    assert "![output error of every" in text
    assert "\n\n\n" not in text


def test_the_manifest_reads_back_as_it_was_written() -> None:
    made = toys.artifact("bert")
    assert made.manifest.to_text() == (made.path / "fyc.json").read_text(encoding="utf-8")
    assert open_artifact(made.path).manifest == made.manifest

"""The two passes that docs/writing-a-pass.md shows in full work as they stand there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from doc_pages import DOCS, block_after

import fyc
from fyc.recipe import parse_recipe

PAGE = DOCS / "writing-a-pass.md"


def _recipe(model: Path, use: str) -> str:
    return f"""
        schema: 1
        model: {{source: {model}}}
        calibration: {{text: {model}/text.txt, samples: 4, length: 32}}
        passes: [{use}]
    """


@pytest.fixture
def page_pass(install: Callable[..., Path], tmp_path: Path) -> Callable[[str], Path]:
    """Install a pass of the page."""

    def installed(name: str) -> Path:
        folder: Path = install(f"fyc-{name}", {name: block_after(PAGE, f"<!-- pass: {name} -->")})
        return folder

    return installed


def test_int8_rows(page_pass: Callable[[str], Path], tiny_model: Path, tmp_path: Path) -> None:
    page_pass("int8-rows")
    artifact = fyc.convert(parse_recipe(_recipe(tiny_model, "{use: int8-rows}")), output=tmp_path / "out")
    assert artifact.size_bytes < artifact.manifest.source.size_bytes
    assert len(artifact.manifest.modules) == 2 * 7
    import transformers

    plain = transformers.AutoModelForCausalLM.from_pretrained(tiny_model)
    model = fyc.load(tmp_path / "out")
    layer = model.model.layers[0].mlp.up_proj
    assert layer.codes.dtype == torch.int8
    weight = plain.model.layers[0].mlp.up_proj.weight.detach()
    assert float((layer.codes * layer.scale - weight).abs().max()) <= float(layer.scale.max()) / 2 * 1.001
    ids = torch.arange(12).reshape(1, 12)
    torch.testing.assert_close(model(ids).logits, plain(ids).logits, rtol=0.05, atol=0.01)


def test_clip_inputs(page_pass: Callable[[str], Path], tiny_model: Path, tmp_path: Path) -> None:
    page_pass("clip-inputs")
    use = "{use: clip-inputs, options: {groups: 3, multiple: 1.5}}"
    artifact = fyc.convert(parse_recipe(_recipe(tiny_model, use)), output=tmp_path / "out", dump_ir=tmp_path / "ir")
    clipped = {
        (entry.path.split(".mlp")[0].split(".self")[0], entry.details["limit"]) for entry in artifact.manifest.modules
    }
    assert len(clipped) == 3
    assert all(entry.details["limit"] < entry.details["peak"] for entry in artifact.manifest.modules)
    diffs = "".join(path.read_text(encoding="utf-8") for path in (tmp_path / "ir").rglob("*.diff"))
    assert diffs.count("target=torch.clamp") == 3
    ids = torch.arange(12).reshape(1, 12)
    assert torch.isfinite(fyc.load(tmp_path / "out")(ids).logits).all()

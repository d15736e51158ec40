"""Weights, activations and texts that cannot be converted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import toys
from safetensors.torch import load_file, save_file

from fyc.engine import convert, prepare
from fyc.errors import FycError, ModelError, RecipeError
from fyc.recipe import parse_recipe

pytestmark = pytest.mark.usefixtures("traced_once")


def damaged(folder: Path, name: str, value: float, *, where: str = "model.safetensors") -> Path:
    toys.toy_model(folder, num_hidden_layers=2)
    tensors = load_file(folder / where)
    tensors[name].view(-1)[-1] = value
    save_file(tensors, folder / where, metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize(
    "name", ["model.layers.1.mlp.up_proj.weight", "model.embed_tokens.weight", "model.norm.weight"]
)
def test_weights_that_are_not_finite(name: str, value: float, tmp_path: Path) -> None:
    plan = toys.toy_plan(damaged(tmp_path / "m", name, value), tmp_path / "out", "toy-rows")
    with pytest.raises(ModelError) as caught:
        convert(plan)
    assert (caught.value.code, caught.value.exit_code) == ("FYC-M04", 2)
    assert name in str(caught.value)
    toys.nothing_loads(plan)


def test_activations_that_overflow_name_the_block(tmp_path: Path) -> None:
    plan = toys.toy_plan(
        damaged(tmp_path / "m", "model.layers.0.input_layernorm.weight", 3e38), tmp_path / "o", "toy-rows"
    )
    with pytest.raises(ModelError) as caught:
        convert(plan)
    assert caught.value.code == "FYC-M04"
    assert "model.layers.0" in caught.value.where
    assert "float32" in caught.value.next


def test_logits_that_overflow_name_the_head(tmp_path: Path) -> None:
    folder = damaged(tmp_path / "m", "model.norm.weight", 3e38)
    plan = toys.toy_plan(folder, tmp_path / "out", "{use: toy-rows, options: {branches: 1}}", verify=0.1)
    with pytest.raises(ModelError) as caught:
        convert(plan)
    assert caught.value.code == "FYC-M04"
    assert "head" in caught.value.where


def test_a_source_that_changes_during_the_run(tmp_path: Path) -> None:
    """Its digest stands in the manifest: the artifact must not claim another source."""
    folder = toys.toy_model(tmp_path / "m", num_hidden_layers=2)
    plan = toys.toy_plan(folder, tmp_path / "out", "toy-round")

    def change(event: Any) -> None:
        if event.kind == "block" and event.data["index"] == 0 and event.data["phase"] == "run":
            other = {name: tensor * 2 for name, tensor in load_file(folder / "model.safetensors").items()}
            save_file(other, folder / "model.safetensors", metadata={"format": "pt"})

    with pytest.raises(FycError) as caught:
        convert(plan, events=change)
    assert "changed" in caught.value.what
    assert not plan.output.exists()


def test_a_text_that_is_too_short(tmp_path: Path) -> None:
    text = toys.recipe_text(toys.model(), "toy-rows", samples=4000)
    with pytest.raises(RecipeError) as caught:
        prepare(parse_recipe(text), host=toys.toy_host(), output=tmp_path / "out")
    assert caught.value.code == "FYC-R07"

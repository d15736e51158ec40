"""A manifest made with bad intentions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import toys
from hostile import RAW, ROWS, nested, refused, replace

pytestmark = pytest.mark.usefixtures("traced_once")


DEEP: Any = 0
for _ in range(300):
    DEEP = [DEEP]

MANIFESTS: dict[str, Callable[[dict[str, Any]], None]] = {
    "a class that no pass lists": replace("replaced", ROWS, "cls")("Popen"),
    "a class of Python": replace("replaced", ROWS, "cls")("object"),
    "a dotted class": replace("replaced", ROWS, "cls")("os.system"),
    "a class that fyc has but the pass does not list": replace("replaced", ROWS, "cls")("FycModule"),
    "arguments the class does not know": replace("replaced", ROWS, "config")({"inputs": 48, "command": "rm"}),
    "arguments of the wrong type": replace("replaced", ROWS, "config")({"inputs": "48", "outputs": 32, "bias": False}),
    "a negative size": replace("replaced", ROWS, "config")({"inputs": -48, "outputs": 32, "bias": False}),
    "a huge size": replace("replaced", ROWS, "config")({"inputs": 2**62, "outputs": 2**62, "bias": False}),
    "a size beyond int64": replace("replaced", ROWS, "config")({"inputs": 2**80, "outputs": 32, "bias": False}),
    "a replacement where the model has an attribute": lambda data: data["replaced"].update(
        {"config": data["replaced"].pop(ROWS)}
    ),
    "a replacement where the model has a method": lambda data: data["replaced"].update(
        {"model.forward": data["replaced"].pop(ROWS)}
    ),
    "a replacement at a place that does not exist": lambda data: data["replaced"].update(
        {"model.layers.99.mlp.down_proj": data["replaced"].pop(ROWS)}
    ),
    "a dunder path": lambda data: data["replaced"].update({"model.__class__": data["replaced"].pop(ROWS)}),
    "an architecture that is no model": replace("architecture")("AutoTokenizer"),
    "an architecture that is a function": replace("architecture")("pipeline"),
    "an architecture with a path": replace("architecture")("os.path"),
    "a graph outside the folder": replace("blocks", 0, "graph")("../../graph.json"),
    "a graph at an absolute path": replace("blocks", 0, "graph")("/etc/passwd"),
    "a graph without a hash": replace("blocks", 0, "graph")("graphs/other.json"),
    "a file outside the folder": lambda data: data["files"].update({"../secret": "0" * 64}),
    "a file at an absolute path": lambda data: data["files"].update({"/etc/passwd": "0" * 64}),
    "a file with a backslash": lambda data: data["files"].update({"..\\secret": "0" * 64}),
    "a file with a null byte": lambda data: data["files"].update({"a\0b": "0" * 64}),
    "a hidden file": lambda data: data["files"].update({".ssh/id": "0" * 64}),
    "a hash that is none": lambda data: data["files"].update({"config.json": "md5"}),
    "an unknown key": replace("execute")("import os"),
    "a number for a text": replace("architecture")(7),
    "a text for a number": replace("passes", 0, "version")("1"),
    "a list for an object": replace("files")([]),
    "a guard of a huge shape": replace("guard", "shape")([2**70]),
    "a guard of a negative shape": replace("guard", "shape")([-1]),
    "a tolerance for everything": replace("samples", 0, "tolerance")(1e30),
    "metrics that are no numbers": replace("metrics")({"x": "y"}),
    "an endless number": replace("metrics")({"x": 10**400}),
    "deep nesting": replace("passes", 0, "options")({"x": DEEP}),
    "a file of code": lambda data: data["files"].update({"modeling_llama.py": "0" * 64}),
    "a pickle": lambda data: data["files"].update({"pytorch_model.bin": "0" * 64}),
}  # fmt: skip
FITS: dict[str, Callable[[dict[str, Any]], None]] = {
    "a guard that does not exist": replace("guard", "name")("model.nothing"),
    "a guard that is a module": replace("guard", "name")("model.layers"),
    "a guard of another shape": replace("guard", "shape")([31]),
    "another guard": replace("guard", "name")("model.layers.0.input_layernorm.weight"),
    "an alias of nothing": lambda data: data["aliases"].update({"lm_head.weight": "model.nothing"}),
    "an alias for nothing": lambda data: data["aliases"].update({"nothing.weight": "model.embed_tokens.weight"}),
    "an alias of another shape": lambda data: data["aliases"].update({"lm_head.weight": "model.norm.weight"}),
    "an alias of itself": lambda data: data["aliases"].update({"lm_head.weight": "lm_head.weight"}),
    "a circle of aliases": lambda data: data["aliases"].update({"model.embed_tokens.weight": "lm_head.weight"}),
    "no alias": lambda data: data["aliases"].clear(),
    "a module not replaced": lambda data: data["replaced"].pop(ROWS),
    "a block that does not exist": replace("blocks", 0, "path")("model.layers.7"),
    "a block that is no block": replace("blocks", 0, "path")("model.norm"),
    "a smaller module": replace("replaced", ROWS, "config")({"inputs": 47, "outputs": 32, "bias": False}),
    "a module with a bias": replace("replaced", ROWS, "config")({"inputs": 48, "outputs": 32, "bias": True}),
    "another architecture": replace("architecture")("LlamaForSequenceClassification"),
    "an architecture of another kind": replace("architecture")("BertForMaskedLM"),
}


@pytest.mark.parametrize("change", MANIFESTS.values(), ids=MANIFESTS)
def test_manifests_that_are_refused(change: Callable[[dict[str, Any]], None], folder: Path) -> None:
    toys.edit_manifest(folder, change)
    refused(folder, "FYC-A07")


@pytest.mark.parametrize("change", FITS.values(), ids=FITS)
def test_manifests_that_do_not_fit_the_model(change: Callable[[dict[str, Any]], None], folder: Path) -> None:
    toys.edit_manifest(folder, change)
    refused(folder, "FYC-A05", "FYC-A06", "FYC-A07")


@pytest.mark.parametrize("schema", [0, 2, "1", None, True, 1.0, [1]])
def test_unknown_schema(schema: Any, folder: Path) -> None:
    toys.edit_manifest(folder, replace("schema")(schema))
    refused(folder, "FYC-A01")


@pytest.mark.parametrize(("raw", "code"), RAW.values(), ids=RAW)
def test_files_that_are_no_manifest(raw: bytes, code: str, folder: Path) -> None:
    (folder / "fyc.json").write_bytes(raw)
    refused(folder, code)


def test_a_sample_of_hostile_arguments(folder: Path) -> None:
    """The comparison after an upgrade runs them through the block."""

    def upgraded(data: dict[str, Any]) -> None:
        data["versions"]["transformers"] = "5.0.0"

    toys.edit_manifest(folder, upgraded)
    pristine = (folder / "fyc.json").read_text()
    for inputs in (
        {"call": ["os.system", "true"]}, {"tensor": "missing"}, {"tensor": ["a"]}, {"tuple": "x"}, {"dict": 3}, 5, None,
        {"tuple": [{"tuple": [{"value": "text"}]}, {"dict": {}}]},
        {"tuple": [{"tuple": []}, {"dict": {"a b": {"value": 1}}}]},
        {"value": 3}, {"tuple": []}, {"tuple": [{"list": []}, {"list": []}]}, nested(200),
    ):  # fmt: skip
        (folder / "fyc.json").write_text(pristine)
        toys.edit_manifest(folder, replace("samples", 0, "inputs")(inputs))
        refused(folder, "FYC-A05", "FYC-A06", "FYC-A07")
    for key, value in (("output", "missing"), ("block", "model.norm"), ("block", "model.nothing")):
        (folder / "fyc.json").write_text(pristine)
        toys.edit_manifest(folder, replace("samples", 0, key)(value))
        refused(folder, "FYC-A05", "FYC-A06")

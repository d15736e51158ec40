"""Index, configuration, code and shards made with bad intentions."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import toys
import transformers
from hostile import ROWS, refused

import fyc
from fyc.errors import ArtifactError

pytestmark = pytest.mark.usefixtures("traced_once")
SHARD = "model-00002-of-00004.safetensors"
INDEX = "model.safetensors.index.json"


def test_an_index_that_points_outside(folder: Path, tmp_path: Path) -> None:
    """transformers joins the names in the index to the folder without looking at them."""
    other = toys.copied(toys.artifact("llama", "toy-round"), tmp_path / "other")
    for target in ("../other/" + SHARD, str(other / SHARD), "graphs/../../other/" + SHARD):
        index = json.loads((toys.artifact().path / INDEX).read_text())
        index["weight_map"] = {name: target if file == SHARD else file for name, file in index["weight_map"].items()}
        (folder / INDEX).write_text(json.dumps(index))
        toys.rehash(folder, INDEX)
        refused(folder, "FYC-A07")
        index["weight_map"] = dict.fromkeys(index["weight_map"], target)
        (folder / INDEX).write_text(json.dumps(index))
        toys.rehash(folder, INDEX)
        refused(folder, "FYC-A07")


def test_a_configuration_that_points_outside(folder: Path, tmp_path: Path) -> None:
    toys.copied(toys.artifact("llama", "toy-round"), tmp_path / "other")
    config = json.loads((folder / "config.json").read_text())
    for value in ("../other/" + INDEX, str(tmp_path / "other" / INDEX), "graphs/samples.safetensors"):
        (folder / "config.json").write_text(json.dumps(config | {"transformers_weights": value}))
        toys.rehash(folder, "config.json")
        with pytest.raises(ArtifactError):
            fyc.load(folder)


CONFIGS: dict[str, dict[str, Any]] = {
    "without a quantization method": {"quantization_config": None},
    "another method": {"quantization_config": {"quant_method": "awq", "bits": 4}},
    "an unknown method": {"quantization_config": {"quant_method": "nothing"}},
    "more layers": {"num_hidden_layers": 4},
    "fewer layers": {"num_hidden_layers": 2},
    "a wrong width": {"hidden_size": 48},
    "a width of a wrong type": {"hidden_size": "32"},
    "a negative width": {"hidden_size": -32},
    "a huge width": {"hidden_size": 2**62, "head_dim": 8},
    "millions of layers": {"num_hidden_layers": 10**8},
    "millions of experts in a part": {"text_config": {"num_local_experts": 10**8}},
    "an attention kernel of the hub": {"attn_implementation": "somebody/kernel@main"},
    "an attention kernel under its private name": {"_attn_implementation_internal": "somebody/kernel"},
    "an attention kernel of a part": {"text_config": {"attn_implementation": {"": "somebody/kernel"}}},
    "a kernel for experts": {"experts_implementation": "somebody/kernel"},
    "no heads": {"num_attention_heads": 0},
    "an activation that does not exist": {"hidden_act": "__import__"},
}


@pytest.mark.parametrize("change", CONFIGS.values(), ids=CONFIGS)
def test_configurations_that_do_not_fit(change: dict[str, Any], folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    toys.rehash(folder, "config.json")
    with pytest.raises(ArtifactError):
        fyc.load(folder)


@pytest.mark.parametrize("name", [name for name in CONFIGS if "kernel" in name or name.startswith("millions")])
def test_configurations_that_transformers_must_not_see(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | CONFIGS[name]))
    toys.rehash(folder, "config.json")
    monkeypatch.setattr(transformers.LlamaForCausalLM, "from_pretrained", None)
    with pytest.raises(ArtifactError, match=r"config\.json was refused") as caught:
        fyc.load(folder)
    assert caught.value.code == "FYC-A07"


def test_remote_code_is_not_run(folder: Path) -> None:
    """Not even when somebody allowed it to transformers: the file makes the folder no artifact."""
    (folder / "evil.py").write_text("raise SystemExit(3)")
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Evil"}
    (folder / "config.json").write_text(json.dumps(config))
    toys.rehash(folder, "config.json")
    with pytest.raises(ArtifactError, match=r"evil\.py"):
        fyc.load(folder)
    (folder / "evil.py").unlink()
    fyc.load(folder)


SHARDS: dict[str, Callable[[dict[str, Any]], None]] = {
    "another shape": lambda header: header[f"{ROWS}.scale"].update(shape=[1, 32]),
    "another dtype": lambda header: header[f"{ROWS}.scale"].update(dtype="I32"),
    "integers for a norm": lambda header: header["model.layers.0.input_layernorm.weight"].update(dtype="I32"),
    "an unknown dtype": lambda header: header[f"{ROWS}.scale"].update(dtype="PICKLE"),
    "a huge shape": lambda header: header[f"{ROWS}.codes"].update(shape=[2**40, 2**40]),
    "a negative shape": lambda header: header[f"{ROWS}.codes"].update(shape=[-32, -48]),
    "offsets beyond the file": lambda header: header[f"{ROWS}.codes"].update(data_offsets=[0, 2**50]),
    "offsets that overlap": lambda header: header[f"{ROWS}.codes"].update(data_offsets=[0, 1536]),
    "offsets backwards": lambda header: header[f"{ROWS}.codes"].update(data_offsets=[1536, 0]),
    "no offsets": lambda header: header[f"{ROWS}.codes"].pop("data_offsets"),
    "a missing tensor": lambda header: header.pop(f"{ROWS}.codes"),
    "an additional tensor": lambda header: header.update(x={"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}),
    "another name": lambda header: header.update({"model.layers.0.mlp.nothing": header.pop(f"{ROWS}.codes")}),
    "an entry that is no object": lambda header: header.update({f"{ROWS}.codes": 3}),
}


@pytest.mark.parametrize("change", SHARDS.values(), ids=SHARDS)
def test_shards_that_do_not_fit(change: Callable[[dict[str, Any]], None], folder: Path) -> None:
    raw = (folder / SHARD).read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    (folder / SHARD).write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + length :])
    toys.rehash(folder, SHARD)
    refused(folder, "FYC-A02", "FYC-A06")


@pytest.mark.parametrize("raw", [b"", b"\xff" * 8, b"\0" * 8, b"\2\0\0\0\0\0\0\0{}", b"\x03\0\0\0\0\0\0\0[1]"])
def test_files_that_are_no_shard(raw: bytes, folder: Path) -> None:
    (folder / SHARD).write_bytes(raw)
    toys.rehash(folder, SHARD)
    refused(folder, "FYC-A02", "FYC-A06")

"""Artifacts made with bad intentions: refused with an error of fyc, nothing executed, whatever they hold.

Whoever can write `fyc.json` can also put the right hashes into it, so these tests do (`toys.rehash`).
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import toys
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fyc
from fyc.artifact import open_artifact
from fyc.errors import ArtifactError, FycError

pytestmark = pytest.mark.usefixtures("traced_once")
SHARD = "model-00002-of-00004.safetensors"
INDEX = "model.safetensors.index.json"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return toys.copied(toys.artifact(), tmp_path / "artifact")


def refused(folder: Path, *codes: str) -> ArtifactError:
    with pytest.raises(ArtifactError) as caught:
        fyc.load(folder)
    assert caught.value.code in (codes or ("FYC-A07",)), caught.value
    with pytest.raises(ArtifactError):
        transformers.LlamaForCausalLM.from_pretrained(folder)
    return caught.value


def at(data: Any, *path: Any) -> Any:
    for key in path:
        data = data[key]
    return data


def replace(*path: Any) -> Callable[[Any], Callable[[dict[str, Any]], None]]:
    def with_value(value: Any) -> Callable[[dict[str, Any]], None]:
        def change(data: dict[str, Any]) -> None:
            at(data, *path[:-1])[path[-1]] = value

        return change

    return with_value


ROWS = "model.layers.0.mlp.down_proj"
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


RAW = {
    "not JSON": (b"import os", "FYC-A07"),
    "not an object": (b"[]", "FYC-A01"),
    "a bomb of brackets": (b"[" * 200_000, "FYC-A07"),
    "not UTF-8": (b'{"schema": 1, "x": "\xff\xfe"}', "FYC-A07"),
    "a number of a million digits": (b'{"schema": 1, "x": ' + b"9" * 1_000_000 + b"}", "FYC-A07"),
    "100 MB": (b'{"schema": 1, "x": "' + b"A" * 100_000_000 + b'"}', "FYC-A07"),
}


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
        {"value": 3}, {"tuple": []}, {"tuple": [{"list": []}, {"list": []}]}, _nested(200),
    ):  # fmt: skip
        (folder / "fyc.json").write_text(pristine)
        toys.edit_manifest(folder, replace("samples", 0, "inputs")(inputs))
        refused(folder, "FYC-A05", "FYC-A06", "FYC-A07")
    for key, value in (("output", "missing"), ("block", "model.norm"), ("block", "model.nothing")):
        (folder / "fyc.json").write_text(pristine)
        toys.edit_manifest(folder, replace("samples", 0, key)(value))
        refused(folder, "FYC-A05", "FYC-A06")


def _nested(depth: int) -> Any:
    value: Any = {"value": 1}
    for _ in range(depth):
        value = {"tuple": [value]}
    return value


GRAPH_CHANGES: dict[str, Callable[[Any], None]] = {
    "an unknown function": lambda graph: _first(graph, "call_function").update(target="os:system"),
    "eval": lambda graph: _first(graph, "call_function").update(target="builtins:eval"),
    "torch.load": lambda graph: _first(graph, "call_function").update(target="torch:load"),
    "a method that writes": lambda graph: _first(graph, "call_method").update(target="tofile"),
    "a dunder method": lambda graph: _first(graph, "call_method").update(target="__reduce_ex__"),
    "a module path with a call": lambda graph: _first(graph, "call_module").update(target="mlp.__init__"),
    "a module that does not exist": lambda graph: _first(graph, "call_module").update(target="mlp.nothing"),
    "a name that is code": lambda graph: graph["nodes"][0].update(name="x): import os  #"),
    "a default that is no value": lambda graph: graph["nodes"][0].update(args=[{"tuple": []}]),
    "a huge tensor": lambda graph: insert(graph, "torch:ones", 2**34),
    "a huge tensor on the CPU": lambda graph: insert(graph, "torch:ones", 2**34, device={"device": "cpu"}),
    "a huge identity": lambda graph: insert(graph, "torch:eye", 2**20),
    "a huge list": lambda graph: insert(graph, "operator:mul", {"list": [0]}, 2**40),
    "a huge text": lambda graph: insert(graph, "operator:mod", "%1000000000d", 1),
    "a huge power": lambda graph: insert(graph, "operator:pow", 10, 10**9),
    "a huge shift": lambda graph: insert(graph, "operator:lshift", 1, 2**40),
    "a number rounded to a billion digits": lambda graph: insert(graph, "builtins:round", 5, -(10**9)),
    "a number squared and squared": lambda graph: double(graph, "operator:mul", 10),
    "a tensor doubled and doubled": lambda graph: double(graph, "torch:kron", first_input(graph)),
    "a huge integer": lambda graph: _first(graph, "call_function").update(args=[2**70]),
    "deep arguments": lambda graph: _first(graph, "call_function").update(args=[_nested(100)]),
    "no nodes": lambda graph: graph.update(nodes=[]),
    "many nodes": lambda graph: graph.update(nodes=graph["nodes"][:1] * 20_000),
    "nodes of a wrong type": lambda graph: graph.update(nodes={"a": 1}),
    "no version": lambda graph: graph.pop("version"),
    "another version": lambda graph: graph.update(version=99),
    "an unknown key": lambda graph: graph.update(code="import os"),
    "opaque with nodes": lambda graph: graph["signature"].update(opaque=True),
}


def _first(graph: dict[str, Any], op: str) -> dict[str, Any]:
    return next(node for node in graph["nodes"] if node["op"] == op)


def first_input(graph: dict[str, Any]) -> Any:
    return {"node": graph["nodes"][0]["name"]}


def insert(graph: dict[str, Any], target: str, *args: Any, **kwargs: Any) -> Any:
    """Call one more function, after the inputs; returns a reference to its value."""
    place = next(i for i, node in enumerate(graph["nodes"]) if node["op"] != "placeholder")
    while graph["nodes"][place]["name"].startswith("bomb"):
        place += 1
    name = f"bomb{place}"
    node = {"op": "call_function", "name": name, "target": target, "args": list(args), "kwargs": kwargs}
    graph["nodes"].insert(place, node)
    return {"node": name}


def double(graph: dict[str, Any], target: str, value: Any) -> None:
    for _ in range(40):
        value = insert(graph, target, value, value)


def edit_graph(folder: Path, change: Callable[[Any], None]) -> None:
    name = open_artifact(folder).manifest.blocks[0].graph
    assert name is not None
    graph = json.loads((folder / name).read_text())
    change(graph)
    (folder / name).write_text(json.dumps(graph))
    toys.rehash(folder, name)


@pytest.mark.parametrize("change", GRAPH_CHANGES.values(), ids=GRAPH_CHANGES)
def test_graphs_that_are_refused(change: Callable[[Any], None], folder: Path) -> None:
    edit_graph(folder, change)
    refused(folder, "FYC-A07")


@pytest.mark.parametrize("name", [name for name in GRAPH_CHANGES if name.startswith(("a huge t", "a tensor"))])
def test_a_graph_that_is_compared_after_an_upgrade_cannot_take_all_memory(name: str, folder: Path) -> None:
    """The comparison runs the graph, so its own values are looked at, too, and not only its shapes."""
    edit_graph(folder, GRAPH_CHANGES[name])
    toys.edit_manifest(folder, replace("versions", "transformers")("5.0.0"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fyc.loading.quantizer.check_sizes", lambda *_: None)
        refused(folder, "FYC-A07")


@pytest.mark.parametrize(("raw", "code"), RAW.values(), ids=RAW)
def test_files_that_are_no_graph(raw: bytes, code: str, folder: Path) -> None:
    name = open_artifact(folder).manifest.blocks[0].graph
    assert name is not None
    (folder / name).write_bytes(raw)
    toys.rehash(folder, name)
    refused(folder, "FYC-A07")


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


def test_text_in_a_graph_stays_text(folder: Path) -> None:
    """A default that looks like code is a constant in the generated function."""
    bomb = "__import__('os')._exit(3)"
    edit_graph(folder, lambda graph: graph["nodes"][0].update(args=[bomb]))
    try:
        model = fyc.load(folder)
    except FycError:
        return
    model(torch.tensor([[1, 2]]))


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


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["../x", "os.x"]),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=5), children, max_size=3),
    max_leaves=6,
)  # fmt: skip


def mutate(data: Any, chooser: random.Random, value: Any) -> Any:
    """Replace, remove, repeat or rename one thing somewhere in a nest of JSON."""
    data = copy.deepcopy(data)
    node = data
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not keys:
            return value
        key = chooser.choice(keys)
        inner = node[key]
        if isinstance(inner, dict | list) and inner and chooser.random() < 0.75:
            node = inner
            continue
        kind = chooser.randrange(4)
        if kind == 0 or isinstance(node, list):
            node[key] = value
        elif kind == 1:
            del node[key]
        elif kind == 2:
            node[str(value)[:20]] = inner
        else:
            node[key] = node[chooser.choice(keys)]
        return data


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(seed=st.integers(0, 2**32), value=JSON, times=st.integers(1, 3))
def test_any_change_of_the_manifest_loads_or_is_refused(seed: int, value: Any, times: int, tmp_path: Path) -> None:
    _mutated(tmp_path, "fyc.json", seed, value, times)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True)
@given(seed=st.integers(0, 2**32), value=JSON, times=st.integers(1, 3))
def test_any_change_of_a_graph_loads_or_is_refused(seed: int, value: Any, times: int, tmp_path: Path) -> None:
    name = toys.artifact().manifest.blocks[0].graph
    assert name is not None
    _mutated(tmp_path, name, seed, value, times)


def _mutated(tmp_path: Path, name: str, seed: int, value: Any, times: int) -> None:
    folder = tmp_path / "artifact"
    if not folder.exists():
        toys.copied(toys.artifact(), folder)
    chooser = random.Random(seed)
    data = json.loads((toys.artifact().path / name).read_text())
    for _ in range(times):
        data = mutate(data, chooser, value)
        if not isinstance(data, dict | list):
            break
    (folder / "fyc.json").write_bytes((toys.artifact().path / "fyc.json").read_bytes())
    (folder / name).write_text(json.dumps(data))
    if name != "fyc.json":
        toys.rehash(folder, name)
    try:
        fyc.load(folder)
    except FycError:
        return

"""Bad input through the real command line: one error each, with a stable code: what, where, why, what next."""

import json
import os
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from fyc.plan.cluster import read_cluster
from fyc.plan.description import MOST_BYTES
from fyc.plan.hardware import gpu_names
from tests.plan.command import ARGUMENTS, CLUSTER, EXAMPLES, Done, run, with_value

LLAMA = json.loads((EXAMPLES / "llama-3.1-8b" / "config.json").read_text(encoding="utf-8"))
GOOD = CLUSTER.read_text(encoding="utf-8")
GPT2 = {"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "vocab_size": 50257, "n_positions": 1024,
        "n_inner": 3072}  # fmt: skip


def refused(done: Done, code: str, *words: str, exit_code: int = 2) -> None:
    """One error, of this code, with these words; nothing on stdout and no traceback."""
    assert done.returncode == exit_code, done
    heads = re.findall(r"^\[FYC-\w+\]", done.stderr, re.MULTILINE)
    assert heads == [f"[{code}]"], done.stderr
    for word in words:
        assert word in done.stderr, (word, done.stderr)
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert all(len(line) < 1000 for line in done.stderr.splitlines())


def without(*names: str) -> dict[str, Any]:
    return {name: value for name, value in LLAMA.items() if name not in names}


CONFIGS: dict[str, tuple[Any, tuple[str, ...]]] = {
    "a field is missing": (without("hidden_size"), ("`hidden_size`", "config.json, key hidden_size", "top level")),
    "several are missing": (
        without("vocab_size", "intermediate_size"), ("`intermediate_size`", "`vocab_size`", "keys ")),
    "an unknown architecture": (LLAMA | {"model_type": "lama"}, ("`lama`", "did you mean `llama`?", "key model_type")),
    "no architecture": (without("model_type"), ("has no model_type", "key model_type", '"model_type": "llama"')),
    "negative layers": (LLAMA | {"num_hidden_layers": -3}, ("above zero, not -3", "key num_hidden_layers", "correct")),
    "1e30": (json.dumps(LLAMA).replace(": 4096", ": 1e30"), ("above zero, not 1e+30", "key hidden_size")),
    "10**30": (LLAMA | {"hidden_size": 10**30}, ("a number of more than 15 digits", "key hidden_size")),
    "10**9": (LLAMA | {"vocab_size": 10**9}, ("`vocab_size` is 1000000000, more than", "key vocab_size")),
    "a text": (LLAMA | {"hidden_size": "4096"}, ('not "4096"', "key hidden_size")),
    "NaN": (json.dumps(LLAMA).replace(": 4096", ": NaN"), ("not NaN", "key hidden_size")),
    "heads that do not fit": (LLAMA | {"num_key_value_heads": 5}, ("32 attention heads cannot share 5", "num_key")),
    "nested deeply": ("[" * 10_000 + "]" * 10_000, ("nested too deeply",)),
    "nested deeply in a field": (json.dumps(LLAMA)[:-1] + ', "x": ' + '{"a":' * 10_000, ("nested too deeply",)),
    "an empty file": ("", ("not JSON", "config.json:1:1", "the file is empty")),
    "a list": ("[]", ("not a JSON object but a list",)),
    "no JSON": ('{\n"a": 1,\n}', ("not JSON", "config.json:3:1")),
    "binary": (b"\x00\xff\xfe" * 300, ("not JSON", "codec can't decode")),
}  # fmt: skip


@pytest.mark.parametrize("name", CONFIGS)
def test_a_wrong_configuration(name: str, tmp_path: Path) -> None:
    content, words = CONFIGS[name]
    place = tmp_path / "config.json"
    if isinstance(content, bytes):
        place.write_bytes(content)
    else:
        place.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    refused(run(*with_value("--model", str(place)), "-o", str(tmp_path / "plan"), "--progress", "none"), "FYC-L06",
            "where: ", "next: ", *words)  # fmt: skip
    assert not (tmp_path / "plan").exists()


def test_a_huge_configuration_is_not_read(tmp_path: Path) -> None:
    place = tmp_path / "config.json"
    with place.open("wb") as stream:
        stream.truncate(4 * 2**30)
    started = time.monotonic()
    done = run(*with_value("--model", str(place)), "-o", str(tmp_path / "plan"), "--progress", "none")
    refused(done, "FYC-L06", "4294967296 bytes")
    assert time.monotonic() - started < 5


CLUSTERS: dict[str, tuple[str | bytes, tuple[str, ...]]] = {
    "an unknown field": (GOOD + "gpu_per_node: 8\n", ("no field `gpu_per_node`", ":6", "mean `gpus_per_node`?")),
    "a missing field": ("gpu: h100-sxm\ngpus_per_node: 8\n", ("does not say `nodes`, `network_gbs`", "add what is")),
    "an empty field": (GOOD.replace("nodes: 64", "nodes:"), ("`nodes`", "not empty", "yaml:3")),
    "negative": (GOOD.replace("nodes: 64", "nodes: -1"), ("greater than or equal to 1, not -1", "yaml:3", "Machines")),
    "zero": (GOOD.replace("network_gbs: 50", "network_gbs: 0"), ("greater than 0, not 0", "yaml:5", "GB/s")),
    "NaN": (GOOD.replace("network_gbs: 50", "network_gbs: .nan"), ("a finite number, not nan", "yaml:5")),
    "infinite": (GOOD.replace("network_gbs: 50", "network_gbs: .inf"), ("a finite number, not inf", "yaml:5")),
    "a word": (GOOD.replace("nodes: 64", "nodes: many"), ("should be a valid integer, not 'many'", "yaml:3")),
    "a fraction": (GOOD.replace("nodes: 64", "nodes: 2.5"), ("should be a valid integer, not 2.5", "yaml:3")),
    "yes": (GOOD.replace("nodes: 64", "nodes: true"), ("should be a number, not True", "yaml:3")),
    "too many": (GOOD.replace("nodes: 64", "nodes: 1000000000000"), ("less than or equal to", "yaml:3")),
    "more reserve than memory": (GOOD + "reserve_gib: 500\n", ("reserve_gib 500 leaves nothing of 79.1 GiB",)),
    "a GPU that is a number": (GOOD.replace("gpu: h100-sxm", "gpu: 7"), ("should be a name or a mapping, not 7",)),
    "broken syntax": ("gpu: h100-sxm\nnodes: [64\n", ("is not YAML", "yaml:3:1", "expected ',' or ']'")),
    "a tab": ("gpu: h100-sxm\n\tnodes: 64\n", ("is not YAML", "yaml:2:1")),
    "a field twice": (GOOD + "nodes: 3\n", ("is not YAML", "yaml:6:1", 'duplicate key "nodes"')),
    "a list": ("- a\n- b\n", ("it holds a list", "it needs gpu, nodes")),
    "a text": ("hello\n", ("it holds a text",)),
    "an empty file": ("", ("it holds nothing",)),
    "another kind of file": (json.dumps(LLAMA), ("none of its keys is one of gpu, nodes",)),
    "binary": (b"\xff\xfe\x00" * 99, ("it is no text",)),
    "nested deeply": ("[" * 5_000, ("nested too deeply",)),
    "a Python object": ("gpu: !!python/object/apply:os.system ['id']\n", ("is not YAML", "yaml:1:6")),
    "too long": ("# " + "x" * MOST_BYTES, ("bytes; a description has a few hundred",)),
}  # fmt: skip


@pytest.mark.parametrize("name", CLUSTERS)
def test_a_wrong_cluster_file(name: str, tmp_path: Path) -> None:
    content, words = CLUSTERS[name]
    place = tmp_path / "c.yaml"
    place.write_bytes(content if isinstance(content, bytes) else content.encode())
    refused(run(*with_value("--cluster", str(place)), "-o", str(tmp_path / "plan"), "--progress", "none"), "FYC-L04",
            "where: ", "next: ", *words)  # fmt: skip


def test_a_bomb_of_aliases_is_refused_at_once(tmp_path: Path) -> None:
    lines = ["a: &a [x,x,x,x,x,x,x,x,x]"]
    lines += [f"{c}: &{c} [{','.join(['*' + p] * 9)}]" for p, c in zip("abcdefghi", "bcdefghij", strict=True)]
    place = tmp_path / "c.yaml"
    place.write_text("\n".join([*lines, "gpu: *j"]), encoding="utf-8")
    started = time.monotonic()
    refused(run(*with_value("--cluster", str(place)), "-o", str(tmp_path / "plan"), "--progress", "none"), "FYC-L04")
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("place", ["missing", "folder", "device"])
def test_a_cluster_file_that_is_none(place: str, tmp_path: Path) -> None:
    path = {"missing": tmp_path / "x.yaml", "folder": tmp_path, "device": Path("/dev/zero")}[place]
    words = {"missing": "No such file", "folder": "it is a folder", "device": "no regular file"}[place]
    done = run(*with_value("--cluster", str(path)), "-o", str(tmp_path / "plan"), "--progress", "none")
    refused(done, "FYC-L04", str(path), words)


def test_gpu_types(tmp_path: Path) -> None:
    def done(name: str) -> Done:
        place = tmp_path / "c.yaml"
        place.write_text(GOOD.replace("h100-sxm", name), encoding="utf-8")
        return run(*with_value("--cluster", str(place)), "-o", str(tmp_path / "plan"), "--progress", "none")

    refused(done("h100-smx"), "FYC-L02", "`h100-smx`", "did you mean `h100-sxm`?")
    refused(done("tpu"), "FYC-L02", "`tpu`", *gpu_names())
    refused(done(str(tmp_path / "mine.yaml")), "FYC-L02", "mine.yaml", "No such file", "fyc plan gpus")
    (tmp_path / "mine.yaml").write_text("name: mine\nmemory_gib: {value: -3, source: a guess}\n", encoding="utf-8")
    refused(done(str(tmp_path / "mine.yaml")), "FYC-L02", "does not say `sms`, `peak_16`", "fyc plan gpus")


def test_the_example_is_good() -> None:
    assert read_cluster(CLUSTER).gpus == 512


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (with_value("--backend", "megatorn"), "FYC-L03", ("--backend", "did you mean `megatron`?")),
        ([*ARGUMENTS, "--precision", "nvfp4"], "FYC-L09", ("h100-sxm has no nvfp4", "take bf16")),
        (with_value("--seq", "100000000000"), "FYC-L16", ("`--seq` is more than",)),
        (with_value("--global-batch", "100000000000"), "FYC-L16", ("`--global-batch` is more than",)),
        ([*ARGUMENTS, "--calibration", "/nowhere"], "FYC-L10", ("/nowhere", "No such file")),
        ([*ARGUMENTS, "--calibration", str(EXAMPLES / "llama-3.1-8b" / "config.json")], "FYC-L10", ("Extra inputs",)),
        ([*ARGUMENTS, "--fix", "tp=3"], "FYC-L16", ("`tp` cannot be 3", "it may be 1, 2, 4, 8")),
        ([*ARGUMENTS, "--fix", "pp=1", "--fix", "vpp=2"], "FYC-L16", ("keeps all constraints", "without pp=1 there")),
    ],
)
def test_wrong_options(arguments: list[str], code: str, words: tuple[str, ...], tmp_path: Path) -> None:
    refused(run(*arguments, "-o", str(tmp_path / "plan"), "--progress", "none"), code, "next: ", *words)


def test_a_batch_that_nothing_divides_gets_those_that_are_valid(tmp_path: Path) -> None:
    arguments = with_value("--global-batch", "1000")
    arguments[-1] = "fsdp2"
    done = run(*arguments, "-o", str(tmp_path / "plan"), "--progress", "none")
    refused(done, "FYC-L08", "--global-batch 1000", "degrees of 512", "such as 512 or 1024", exit_code=7)


def test_a_sequence_longer_than_the_positions(tmp_path: Path) -> None:
    place = tmp_path / "config.json"
    place.write_text(json.dumps(GPT2), encoding="utf-8")
    done = run(*with_value("--model", str(place)), "-o", str(tmp_path / "plan"), "--progress", "none")
    refused(done, "FYC-L17", "--seq", "each of 1024 positions", "take --seq 1024 or less")


def test_an_output_that_cannot_be(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("mine", encoding="utf-8")
    places = {
        str(file): "it is a file",
        str(file / "below"): "Not a directory",
        "/proc/plan": "No such file or directory",
        str(tmp_path / ("x" * 300)): "File name too long",
    }
    for place, why in places.items():
        done = run(*ARGUMENTS, "-o", place, "--progress", "none")
        refused(done, "FYC-L18", place[:200], why, "next: ")
    assert file.read_text(encoding="utf-8") == "mine"


@pytest.fixture
def tiny(tmp_path: Path) -> Any:
    """A file system of 2 MiB, all of it taken but 12 KiB."""
    place = tmp_path / "tiny"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(place)], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"NOT TESTED: a full disk needs the right to mount a tmpfs ({mounted.stderr.strip()})")
    (place / "taken").write_bytes(b"x" * 2036 * 1024)
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk(tiny: Path) -> None:
    refused(run(*ARGUMENTS, "-o", str(tiny / "plan"), "--progress", "none"), "FYC-S01", "disk is full", exit_code=6)
    (tiny / "taken").unlink()
    done = run("resume", str(tiny / "plan"), "--progress", "none")
    assert done.returncode == 0, done.stderr
    assert (tiny / "plan" / "report.md").is_file()


def test_a_folder_that_holds_no_plan(tmp_path: Path) -> None:
    refused(run("resume", str(tmp_path / "x"), "--progress", "none"), "FYC-L12", "job.json: No such file")
    for text, why in {
        "{}": "there is no key 'format'", "[1]": "job.json: ", "x": "job.json: Expecting value",
        '{"format": 99}': "its format is 99",
        '{"format": 1, "job": {}, "limits": {}, "calibration": null}': "model: Field required",
    }.items():  # fmt: skip
        (tmp_path / "job.json").write_text(text, encoding="utf-8")
        refused(run("resume", str(tmp_path), "--progress", "none"), "FYC-L12", why)


def test_a_plan_with_other_constraints_is_another_plan(tmp_path: Path) -> None:
    place = str(tmp_path / "plan")
    assert run(*ARGUMENTS, "--fix", "tp=8", "--trials", "1", "-o", place).returncode == 0
    refused(run(*ARGUMENTS, "-o", place, "--progress", "none"), "FYC-L12", "they differ in --fix")
    assert run("resume", place, "--trials", "3").returncode == 0
    data = json.loads((tmp_path / "plan" / "plan.json").read_text(encoding="utf-8"))
    assert data["limits"] == {"tp": [8]}
    assert data["best"]["layout"]["tp"] == data["outcome"]["expert"]["tp"] == 8
    assert "you asked for: `tp=8`" in (tmp_path / "plan" / "report.md").read_text(encoding="utf-8")


def test_a_calibration_is_kept_for_resume(tmp_path: Path) -> None:
    place, file = tmp_path / "plan", tmp_path / "calibration.json"
    file.write_text(json.dumps({"product": 1.5, "source": "mine.log"}), encoding="utf-8")
    assert run(*ARGUMENTS, "--calibration", str(file), "--trials", "1", "-o", str(place)).returncode == 0
    slow = json.loads((place / "plan.json").read_text(encoding="utf-8"))["best"]["iteration_s"]
    file.unlink()
    assert run("resume", str(place), "--trials", "1").returncode == 0
    assert json.loads((place / "plan.json").read_text(encoding="utf-8"))["best"]["iteration_s"] == slow
    assert "calibrated on `mine.log`" in (place / "report.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("content", "why"), [(b"", "empty"), (os.urandom(4096) + b"\x00" * 64, "binary")])
def test_a_log_that_is_no_log(content: bytes, why: str, tmp_path: Path) -> None:
    log = tmp_path / "train.log"
    log.write_bytes(content)
    refused(run("diagnose", str(log)), "FYC-L01", "train.log", why, "next: ")


def test_an_error_as_json_is_one_document(tmp_path: Path) -> None:
    done = run(*with_value("--backend", "x"), "-o", str(tmp_path / "plan"), "--json", "--progress", "none")
    assert json.loads(done.stdout)["error"]["code"] == "FYC-L03"
    assert done.returncode == 2


def test_what_an_error_quotes_cannot_drive_the_terminal(tmp_path: Path) -> None:
    place = tmp_path / "config.json"
    place.write_text(json.dumps(LLAMA | {"model_type": "x\x1b[2J\n  fake: line\u202e"}), encoding="utf-8")
    done = run(*with_value("--model", str(place)), "-o", str(tmp_path / "plan"), "--progress", "none")
    refused(done, "FYC-L06", "knows no model_type")
    assert "\x1b" not in done.stderr
    assert "\u202e" not in done.stderr
    assert not re.search(r"^\s*fake:", done.stderr, re.MULTILINE)

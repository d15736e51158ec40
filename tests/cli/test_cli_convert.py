"""`fyc convert` on a tiny random Llama, with a pass that came through an entry point."""

from __future__ import annotations

import json
import shlex
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

INTERRUPTS = """
import os, signal
import fyc

class Stop(fyc.Pass):
    name = "stop"
    summary = "presses Ctrl-C in the second block, once"

    def targets(self, model):
        return {path: 1 for path in model.graph.blocks}

    def run(self, block, ctx):
        flag = os.environ["STOP_FLAG"]
        if block.index == 1 and not os.path.exists(flag):
            open(flag, "w").close()
            # A shell that runs the suite in the background makes it ignore Ctrl-C.
            signal.signal(signal.SIGINT, signal.default_int_handler)
            os.kill(os.getpid(), signal.SIGINT)
        return fyc.PassResult([fyc.ModuleReport(block.path, "seen")])

@fyc.hookimpl
def fyc_register_passes(register):
    register(Stop)
"""


def test_convert_writes_an_artifact_and_prints_a_summary(fyc, recipe, tmp_path):
    result = fyc("convert", recipe)
    assert result.code == 0, result.err
    assert str(tmp_path / "out") in result.out
    assert "14 rounded" in result.out
    assert "keep-bits run: 2 blocks" in result.err
    assert (tmp_path / "out" / "fyc.json").is_file()


def test_json_is_one_document_and_progress_json_is_lines(fyc, recipe, tmp_path):
    result = fyc("convert", recipe, "--json", "--progress", "json", "-o", tmp_path / "other")
    assert result.json["output"] == str(tmp_path / "other")
    assert {"passes", "modules", "size_bytes", "source_bytes", "seconds", "peak_memory_bytes"} <= result.json.keys()
    events = [json.loads(line) for line in result.err.splitlines()]
    assert (events[0]["kind"], events[-1]["kind"]) == ("run", "done")


def test_progress_none_is_silent(fyc, recipe):
    assert fyc("convert", recipe, "--progress", "none").err == ""


def test_dry_run_computes_nothing(fyc, recipe, tmp_path):
    plan = fyc("convert", recipe, "--dry-run", "--json").json
    assert plan["passes"][0]["use"] == "keep-bits"
    assert len(plan["passes"][0]["modules"]) == 14
    assert plan["predicted_size_bytes"] > 0
    text = fyc("convert", recipe, "--dry-run").out
    assert "14 modules" in text
    assert not (tmp_path / "out").exists()


def test_options_of_the_line_replace_those_of_the_recipe(fyc, recipe, tmp_path):
    sets = ["--set", "passes.0.options.bits=3", "--set", "passes.0.include=[model.layers.1]"]
    plan = fyc("convert", recipe, "--dry-run", "--json", *sets, "-o", tmp_path / "x").json
    assert plan["passes"][0]["options"] == {"bits": 3}
    assert len(plan["passes"][0]["modules"]) == 7
    assert plan["output"] == str(tmp_path / "x")


@pytest.mark.parametrize(
    ("arguments", "code", "where"),
    [
        (["--set", "passes.0.options.bit=3"], "FYC-R02", "--set passes.0.options.bit=3"),
        (["--set", "passes.0.options.bits=99"], "FYC-R03", "--set passes.0.options.bits=99"),
        (["--set", "passes.0.use=keep-bit"], "FYC-P01", "--set passes.0.use=keep-bit"),
        (["--set", "passes.0.include=[nothing.*]"], "FYC-R04", "--set passes.0.include=[nothing.*]"),
        (["--set", "verify.samples=0"], "FYC-R03", "--set verify.samples=0"),
        (["--junit", "x.xml"], "FYC-R09", ""),
        (["--check", "--dry-run"], "FYC-R09", ""),
        (["--model", "/no/such/model"], "FYC-M01", ""),
        (["--calibration", "/no/such/text"], "FYC-R07", ""),
        (["--progress", "loud"], "FYC-R09", ""),
    ],
)
def test_what_the_user_got_wrong_exits_2_with_its_code(fyc, recipe, arguments, code, where):
    result = fyc("convert", recipe, "--json", *arguments)
    assert result.code == 2
    assert result.json["error"]["code"] == code
    if where:
        assert result.json["error"]["where"] == where


def test_without_an_output_folder_it_says_how_to_name_one(fyc, recipe):
    recipe.write_text(recipe.read_text(encoding="utf-8").split("output:")[0], encoding="utf-8")
    result = fyc("convert", recipe, "--json")
    assert result.json["error"]["code"] == "FYC-R09"
    assert "-o DIR" in result.json["error"]["next"]


def test_a_broken_plugin_fails_only_the_recipe_that_names_it(fyc, recipe, install):
    install("fyc-broken", {"broken": "import a_module_that_is_not_there"})
    assert fyc("convert", recipe, "--dry-run").code == 0
    result = fyc("convert", recipe, "--json", "--set", "passes.0.use=broken")
    assert result.code == 2
    assert result.json["error"]["code"] == "FYC-P02"
    assert "a_module_that_is_not_there" in result.json["error"]["why"]


def test_check_passes_writes_junit_and_leaves_no_output(fyc, recipe, tmp_path):
    report = tmp_path / "reports" / "junit.xml"
    result = fyc("convert", recipe, "--check", "--junit", report)
    assert result.code == 0, result.err
    assert [line.split()[:2] for line in result.out.splitlines()] == [
        ["passed", name] for name in ("recipe", "passes", "convert", "verify")
    ]
    assert not (tmp_path / "out").exists()
    (suite,) = ET.parse(report).getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("4", "0", "0")


def test_check_fails_at_the_gate(fyc, recipe, tmp_path):
    report = tmp_path / "junit.xml"
    sets = ["--set", "passes.0.options.bits=1", "--set", "verify.max_perplexity_increase=0"]
    result = fyc("convert", recipe, "--check", "--junit", report, "--json", *sets)
    assert result.code == 4
    assert result.json["error"]["code"] == "FYC-X02"
    (suite,) = ET.parse(report).getroot()
    cases = {case.get("name"): case.find("failure") for case in suite}
    assert cases["convert"] is None
    assert cases["verify"].get("type") == "FYC-X02"
    assert suite.get("failures") == "1"


def test_check_without_a_gate_skips_it(fyc, recipe, tmp_path):
    text = recipe.read_text(encoding="utf-8")
    recipe.write_text("\n".join(line for line in text.splitlines() if "verify" not in line), encoding="utf-8")
    result = fyc("convert", recipe, "--check", "--json", "-o", tmp_path / "kept")
    assert [case["outcome"] for case in result.json["cases"]] == ["passed", "passed", "passed", "skipped"]
    assert (tmp_path / "kept" / "fyc.json").is_file()


def test_check_reports_a_wrong_recipe_and_an_unforeseen_error(fyc, recipe, tmp_path, monkeypatch):
    report = tmp_path / "junit.xml"
    assert fyc("convert", recipe, "--check", "--junit", report, "--set", "sed=1").code == 2
    (suite,) = ET.parse(report).getroot()
    assert [case.get("name") for case in suite] == ["recipe"]
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("fyc.engine.convert", lambda *args, **kwargs: 1 / 0)
    assert fyc("convert", recipe, "--check", "--junit", report).code == 70
    (suite,) = ET.parse(report).getroot()
    assert suite[-1].find("failure").get("type") == "ZeroDivisionError"


def test_ctrl_c_shows_the_command_that_goes_on(fyc, recipe, install, tmp_path, monkeypatch):
    monkeypatch.setenv("STOP_FLAG", str(tmp_path / "flag"))
    install("fyc-stop", {"stop": INTERRUPTS})
    arguments = ["convert", recipe, "--set", "passes.0.use=stop", "--progress", "none"]
    result = fyc(*arguments, "--json")
    assert result.code == 130
    assert result.json["error"]["code"] == "FYC-I01"
    assert not (tmp_path / "out").exists()
    words = shlex.split(result.json["error"]["next"].partition("go on with: ")[2])
    assert words == ["fyc", *map(str, arguments), "--json", "--resume"]
    result = fyc(*words[1:])
    assert result.code == 0, result.err
    assert (tmp_path / "out" / "fyc.json").is_file()


def test_clean_drops_an_interrupted_run(fyc, recipe, install, tmp_path, monkeypatch):
    monkeypatch.setenv("STOP_FLAG", str(tmp_path / "flag"))
    install("fyc-stop", {"stop": INTERRUPTS})
    assert fyc("convert", recipe, "--set", "passes.0.use=stop").code == 130
    before = set(tmp_path.iterdir())
    removed = fyc("clean", tmp_path / "out", "--json").json["removed"]
    assert {Path(path) for path in removed} == before - set(tmp_path.iterdir())
    assert removed
    assert fyc("clean").code == 2


def test_inspect_verify_and_diff(fyc, recipe, tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    assert fyc("convert", recipe, "-o", a).code == 0
    assert fyc("convert", recipe, "-o", b, "--set", "passes.0.options.bits=3").code == 0
    content = fyc("inspect", a, "--json").json
    assert {"path", "bits", "expansion", "error"} <= content["modules"][0].keys()
    assert "model.layers.0.mlp.up_proj" in fyc("inspect", a).out
    assert fyc("verify", a).code == 0
    assert fyc("diff", a, a, "--json").json["identical"]
    assert fyc("diff", a, b, "--json").json["passes"] == {"0.bits": [8, 3]}
    assert "0.bits" in fyc("diff", a, b).out
    shard = next(a.glob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-1] + b"\x01")
    (a / "recipe.yaml").unlink()
    result = fyc("verify", a, "--json")
    assert result.code == 5
    assert {result.json["error"]["code"]} <= {"FYC-A02", "FYC-A03"}
    assert "recipe.yaml" in result.err
    assert shard.name in result.err


def test_ctrl_c_before_anything_is_computed_promises_nothing(fyc, recipe, monkeypatch):
    def interrupt(*arguments: object, **settings: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("fyc.engine.prepare", interrupt)
    result = fyc("convert", recipe, "--json")
    assert result.code == 130
    assert result.json["error"]["next"] == "repeat the command"


def test_ctrl_c_in_a_check_whose_output_is_dropped_promises_nothing(fyc, recipe, install, tmp_path, monkeypatch):
    monkeypatch.setenv("STOP_FLAG", str(tmp_path / "flag"))
    install("fyc-stop", {"stop": INTERRUPTS})
    result = fyc("convert", recipe, "--check", "--set", "passes.0.use=stop", "--json")
    assert result.code == 130
    assert "--resume" not in result.json["error"]["next"]

"""`fyc init`, `recipes`, `passes`, `assets`, `doctor`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fyc.cli.passes import describe
from fyc.plugins import load_plugins
from fyc.recipe import parse_recipe, resolve_passes, shipped_recipes


def test_init_writes_a_recipe_that_runs(fyc, keep_bits, tiny_model, tmp_path):
    path = tmp_path / "sub" / "mine.yaml"
    result = fyc("init", tiny_model, "--use", "keep-bits", "-o", path)
    assert result.code == 0
    sets = [f"calibration.text={tiny_model / 'text.txt'}", "calibration.length=32", "calibration.samples=4"]
    arguments = [word for assignment in sets for word in ("--set", assignment)]
    assert fyc("convert", path, "-o", tmp_path / "out", *arguments).code == 0
    again = fyc("init", tiny_model, "--use", "keep-bits", "-o", path)
    assert again.code == 2
    assert "FYC-R08" in again.err


def test_shipped_recipes_are_listed_shown_and_valid(fyc, tiny_model):
    host = load_plugins()
    listed = {row["name"]: row["summary"] for row in fyc("recipes", "list", "--json").json}
    assert listed.keys() == shipped_recipes().keys()
    assert {"flatten-w8a8", "flatten-mixed"} <= listed.keys()
    for name, summary in listed.items():
        assert summary
        assert summary in fyc("recipes", "list").out
        text = fyc("recipes", "show", name).out
        assert text == shipped_recipes()[name]
        recipe = parse_recipe(text, overrides=["model.source=m"])
        assert resolve_passes(recipe, host)
        assert recipe.calibration is not None
        assert recipe.calibration.text.startswith("asset:")
        assert recipe.verify is not None


@pytest.mark.parametrize("name", ["flatten-w8a8", "flatten-mixed"])
def test_shipped_recipes_convert_a_tiny_model(fyc, tiny_model, tmp_path, name):
    arguments = [
        "convert",
        name,
        "--model",
        tiny_model,
        "--calibration",
        tiny_model / "text.txt",
        "-o",
        tmp_path / "out",
    ]
    arguments += ["--set", "calibration.length=32", "--set", "calibration.samples=8"]
    arguments += ["--set", "verify.max_perplexity_increase=10", "--set", "verify.samples=2"]
    result = fyc(*arguments, "--json")
    assert result.code == 0, result.err
    assert result.json["modules"]


def test_an_unknown_shipped_recipe(fyc):
    result = fyc("recipes", "show", "flaten-w8a8")
    assert result.code == 2
    assert "`flatten-w8a8`" in result.err


def test_the_schema_is_json(fyc, keep_bits):
    schema = json.loads(fyc("recipes", "schema").out)
    assert "keep-bits" in schema["$defs"]["PassUse"]["properties"]["use"]["enum"]


def test_passes_are_listed_with_what_is_broken_and_disabled(fyc, keep_bits, install, monkeypatch):
    install("fyc-broken", {"broken": "import a_module_that_is_not_there", "off": ""})
    monkeypatch.setenv("FYC_DISABLE_PLUGINS", "off")
    content = fyc("passes", "list", "--json").json
    assert "keep-bits" in [row["pass"] for row in content["passes"]]
    assert [row["name"] for row in content["broken"]] == ["broken"]
    assert [row["name"] for row in content["disabled"]] == ["off"]
    out = fyc("passes", "list").out
    for text in ("keep-bits", "fyc-keep-bits 1.0", "a_module_that_is_not_there", "off"):
        assert text in out


def test_a_pass_is_explained(fyc, keep_bits):
    content = fyc("passes", "show", "keep-bits", "--json").json
    assert content["requires"] == ["float-weights"]
    assert content["options"] == [
        {
            "name": "bits",
            "type": "int, >= 1, <= 24",
            "default": 8,
            "required": False,
            "description": "Significant bits that every weight keeps.",
        }
    ]
    out = fyc("passes", "show", "keep-bits").out
    for text in ("int, >= 1, <= 24", "Significant bits that every weight keeps.", "float-weights"):
        assert text in out


def test_every_installed_pass_can_be_explained():
    for name, registered in load_plugins().passes.items():
        for option in describe(name, registered)["options"]:
            assert option["description"]
            assert option["type"] not in {"", "any"}


def test_new_writes_a_package_once(fyc, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = fyc("passes", "new", "my-pass").out.splitlines()
    assert {Path(file).name for file in files} == {
        "pyproject.toml",
        "fyc_my_pass.py",
        "test_fyc_my_pass.py",
        "README.md",
    }
    assert "$" not in "".join(Path(file).read_text(encoding="utf-8") for file in files)
    assert fyc("passes", "new", "my-pass").code == 2


@pytest.mark.parametrize("name", ["My Pass", "../x", "1st", "a_b", ""])
def test_new_refuses_names_that_cannot_be_used(fyc, tmp_path, name):
    result = fyc("passes", "new", name, "-o", tmp_path / "x")
    assert result.code == 2
    assert "FYC-R09" in result.err
    assert not (tmp_path / "x").exists()


def test_assets_are_listed_and_missing_ones_say_how_to_get_them(fyc, tmp_path, monkeypatch):
    monkeypatch.setenv("FYC_CACHE", str(tmp_path))
    rows = {row["name"]: row for row in fyc("assets", "list", "--json").json}
    assert rows["smollm2-135m"]["kind"] == "model"
    assert rows["wikipedia-calibration"]["path"] is None
    assert "smollm2-135m" in fyc("assets", "list").out
    missing = fyc("assets", "path", "wikipedia")
    assert missing.code == 8
    assert "fyc assets fetch wikipedia" in missing.err
    assert fyc("assets", "fetch", "wikipedia", "--offline").code == 8
    assert fyc("assets", "fetch", "wikipedai").code == 2
    assert fyc("assets", "fetch").code == 2


def test_doctor_is_content_here_and_not_with_a_broken_plugin(fyc, install):
    result = fyc("doctor", "--json")
    assert result.code == 0, result.out
    names = {check["name"] for check in result.json["checks"]}
    assert {"python", "torch", "transformers", "cpu", "free disk", "plugin flatten-quant", "gguf"} <= names
    extras = ("gguf", "av", "cv2", "ai_edge_litert")  # the development tools bring them
    assert {check["status"] for check in result.json["checks"] if check["name"] in extras} == {"ok"}
    assert set(extras) <= names
    install("fyc-broken", {"broken": "import a_module_that_is_not_there"})
    result = fyc("doctor")
    assert result.code == 2
    assert "a_module_that_is_not_there" in result.out


def test_doctor_shows_a_conflict_and_a_misspelt_disabled_name(fyc, install, monkeypatch):
    monkeypatch.setenv("FYC_DISABLE_PLUGINS", "flaten-quant")
    assert {"name": "plugin flaten-quant", "status": "warning"}.items() <= next(
        check for check in fyc("doctor", "--json").json["checks"] if "flaten" in check["name"]
    ).items()
    install("fyc-typo", {"typo": "import fyc\n@fyc.hookimpl\ndef fyc_register_pases(register): ..."})
    result = fyc("doctor", "--json")
    assert result.code == 2
    assert any("FYC-P04" in check["detail"] for check in result.json["checks"])

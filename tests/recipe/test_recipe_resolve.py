"""From a recipe to passes, the lock file, the JSON Schema and the starter recipe."""

from __future__ import annotations

import json
from typing import Annotated, Literal

import pluggy
import pytest
from pydantic import Field

import fyc
from fyc import hookspecs
from fyc.errors import FycError
from fyc.plugins import Plugin, PluginHost, RegisteredPass
from fyc.recipe import lock, parse_recipe, resolve_passes
from fyc.recipe.json_schema import recipe_schema
from fyc.recipe.starter import starter_recipe


class Options(fyc.PassOptions):
    bits: Annotated[int, Field(ge=1, le=8)] = 4
    """Bits of a weight."""
    mode: Literal["fast", "exact"] = "fast"
    """How it is done."""
    ratio: float | None = None
    """A share, or null."""
    names: tuple[str, ...] = ("a", "on")
    """Some names."""


class Toy(fyc.Pass[Options]):
    name = "toy"
    version = 3
    summary = "does nothing"
    Options = Options

    def targets(self, model):
        return {}

    def run(self, block, ctx):
        return fyc.PassResult()


class Leaves:
    @fyc.hookimpl
    def fyc_trace_leaf(self, module):
        return None


MANAGER = pluggy.PluginManager("fyc")
MANAGER.add_hookspecs(hookspecs)
MANAGER.register(Leaves(), "leaves")
PLUGINS = (Plugin("toy-plugin", "fyc-toy", "2.0"), Plugin("leaves", "fyc-leaves", "1.5"))
TOY = RegisteredPass(Toy, "fyc-toy", "2.0", "toy-plugin")
HOST = PluginHost({"toy": TOY}, (), PLUGINS, (), (), hook=MANAGER.hook)
TEXT = """\
schema: 1
model: {source: m}
seed: 5
passes:
  - use: toy
    include: [a.*]
    options: {bits: 3}
  - use: toy
"""


def refused(text: str) -> FycError:
    with pytest.raises(FycError) as caught:
        resolve_passes(parse_recipe(text, name="r.yaml"), HOST)
    return caught.value


def test_passes_get_their_options():
    first, second = resolve_passes(parse_recipe(TEXT), HOST)
    assert (first.options.bits, second.options.bits) == (3, 4)
    assert first.options.names == ("a", "on")


@pytest.mark.parametrize(
    ("old", "new", "code", "where", "hint"),
    [
        ("{bits: 3}", "{bit: 3}", "FYC-R02", "r.yaml:7:15", "`bits`"),
        ("{bits: 3}", "{bits: 9}", "FYC-R03", "r.yaml:7:21", ""),
        ("{bits: 3}", "{bits: '3'}", "FYC-R03", "r.yaml:7:21", ""),
        ("{bits: 3}", "{mode: slow}", "FYC-R03", "r.yaml:7:21", ""),
        ("{bits: 3}", "{names: [a, 1]}", "FYC-R03", "r.yaml:7:26", ""),
        ("  - use: toy\n    inc", "  - use: toi\n    inc", "FYC-P01", "r.yaml:5:10", "`toy`"),
    ],
)
def test_mistakes_in_passes_are_shown_with_their_place(old, new, code, where, hint):
    error = refused(TEXT.replace(old, new))
    assert error.code == code
    assert error.where == where
    assert hint in error.next


def test_the_lock_holds_what_decides_the_bytes():
    recipe = parse_recipe(TEXT)
    locked = lock(recipe, resolve_passes(recipe, HOST), HOST)
    assert locked["seed"] == 5
    assert locked["passes"][0] == {
        "use": "toy",
        "version": 3,
        "plugin": "toy-plugin",
        "distribution": "fyc-toy",
        "distribution_version": "2.0",
        "include": ["a.*"],
        "exclude": [],
        "options": {"bits": 3, "mode": "fast", "ratio": None, "names": ["a", "on"]},
    }
    assert locked["plugins"] == [{"name": "leaves", "distribution": "fyc-leaves", "version": "1.5"}]
    assert {"python", "fyc", "torch", "transformers", "safetensors"} <= locked["versions"].keys()
    assert json.loads(json.dumps(locked)) == locked


def test_the_schema_describes_every_key_and_the_options_of_every_pass():
    schema = recipe_schema(HOST)
    assert json.loads(json.dumps(schema)) == schema
    assert "model" not in schema["required"]
    assert {"schema", "passes"} <= set(schema["required"])
    assert schema["$defs"]["PassUse"]["properties"]["use"]["enum"] == ["toy"]
    assert schema["$defs"]["toy"]["properties"]["bits"]["maximum"] == 8
    for name, definition in [("Recipe", schema), *schema["$defs"].items()]:
        for key, value in definition["properties"].items():
            described = "description" in value or "description" in schema["$defs"][value["$ref"].split("/")[-1]]
            assert described, f"{name}.{key}"


def test_the_starter_recipe_is_valid_and_says_what_the_defaults_are():
    text = starter_recipe("org/some model.gguf", Toy)
    recipe = parse_recipe(text)
    assert recipe.model.source == "org/some model.gguf"
    assert recipe.output.dir == "out/some-model-toy"
    (made,) = resolve_passes(recipe, HOST)
    assert made.options == Options()
    assert recipe.passes[0].options.keys() == Options.model_fields.keys()
    bare = parse_recipe("schema: 1\nmodel: {source: m}\npasses: [{use: toy}]\n").to_data()
    plain = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#") or ": " not in line)
    assert parse_recipe(plain).to_data()["seed"] == bare["seed"]


def test_every_comment_of_the_starter_is_a_valid_setting():
    lines = []
    for line in starter_recipe("m", Toy).splitlines():
        body = line.lstrip()
        key = body.removeprefix("# ").partition(":")[0]
        setting = body.startswith("# ") and key.isidentifier() and key not in {"Globs"}
        lines.append(line.replace("# ", "", 1) if setting else line)
    text = "\n".join(lines)
    assert "shard_mb: 1024" in text
    assert "\n# shard_mb" not in text
    recipe = parse_recipe(text)
    assert recipe.to_data() == parse_recipe(starter_recipe("m", Toy)).to_data()


@pytest.mark.parametrize("model", ["m", "./a b", "yes", "1", "x: y", '"', "größe/modell"])
def test_any_model_name_survives_the_starter(model):
    assert parse_recipe(starter_recipe(model, Toy)).model.source == model

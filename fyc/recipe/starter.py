"""The commented recipe that `fyc init` writes: every key with its meaning, made from the schema itself."""

from __future__ import annotations

import json
import re
import textwrap
from typing import TYPE_CHECKING, Any

from pydantic.fields import FieldInfo
from pydantic_core import to_jsonable_python

from fyc.recipe.schema import CalibrationSpec, ModelSpec, OutputSpec, PassUse, Recipe, VerifySpec

if TYPE_CHECKING:
    from fyc.passes import Pass

CALIBRATION_TEXT = "asset:wikipedia-calibration"
MAX_INCREASE = 0.05


def starter_recipe(model: str, use: type[Pass[Any]]) -> str:
    """A recipe for `model` with one pass; defaults stand there as comments, to be changed or left."""
    folder = re.sub(r"[^A-Za-z0-9._-]+", "-", model.rstrip("/").rpartition("/")[2].removesuffix(".gguf")) or "model"
    lines = [
        "# A recipe for `fyc convert`. Look at the plan first: fyc convert THIS.yaml --dry-run",
        "schema: 1",
        "",
    ]
    lines += _section("model", ModelSpec, {"source": model}, Recipe.model_fields["model"])
    lines += [*_entry("seed", Recipe.model_fields["seed"], ""), ""]
    lines += _section("calibration", CalibrationSpec, {"text": CALIBRATION_TEXT}, Recipe.model_fields["calibration"])
    lines += [_comment(Recipe.model_fields["passes"].description, ""), "passes:", f"  - use: {use.name}"]
    lines += [_comment(use.summary, "    ")]
    for key in ("include", "exclude"):
        lines += _entry(key, PassUse.model_fields[key], "    ")
    lines += [*_options(use), ""]
    verify = {"max_perplexity_increase": MAX_INCREASE}
    lines += _section("verify", VerifySpec, verify, Recipe.model_fields["verify"])
    lines += _section("output", OutputSpec, {"dir": f"out/{folder}-{use.name}"}, Recipe.model_fields["output"])
    return "\n".join(lines).rstrip() + "\n"


def _options(use: type[Pass[Any]]) -> list[str]:
    """Every option with its default, written out; one that has none is left to be filled in."""
    lines = ["    options:"] if use.Options.model_fields else []
    for key, field in use.Options.model_fields.items():
        value = "# must be given" if field.is_required() else _plain(field.get_default(call_default_factory=True))
        lines += [_comment(field.description, "      "), f"      {key}: {value}"]
    return lines


def _section(name: str, part: Any, values: dict[str, Any], about: FieldInfo) -> list[str]:
    lines = [_comment(about.description, ""), f"{name}:"]
    for key, field in part.model_fields.items():
        if key in values:
            lines += [_comment(field.description, "  "), f"  {key}: {_plain(values[key])}"]
        else:
            lines += _entry(key, field, "  ")
    return [*lines, ""]


def _entry(key: str, field: FieldInfo, indent: str) -> list[str]:
    """A key that keeps its default: description, then the default, commented out."""
    default = field.get_default(call_default_factory=True)
    return [_comment(field.description, indent), f"{indent}# {key}: {_plain(default)}"]


def _comment(text: str | None, indent: str) -> str:
    lines = textwrap.wrap(text or "", width=100 - len(indent))
    return "\n".join(f"{indent}# {line}" for line in lines)


def _plain(value: Any) -> str:
    """A value as one line of YAML: JSON is YAML, and simple words need no quotes."""
    value = to_jsonable_python(value)
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z./][\w./:-]*\w", value):
        return value if value.lower() not in {"true", "false", "null", "yes", "no", "on", "off"} else json.dumps(value)
    return json.dumps(value)

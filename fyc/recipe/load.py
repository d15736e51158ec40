"""Reads a recipe from a file or by a shipped name, applies overrides, and points every error at its place."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from fyc.errors import RecipeError
from fyc.recipe.schema import Recipe
from fyc.recipe.source import Path as KeyPath
from fyc.recipe.source import RecipeSource, parse, parse_value
from fyc.ui.text import closest, did_you_mean

MAX_BYTES = 1_000_000


@dataclass(frozen=True)
class Override:
    """A value that replaces what the recipe says.

    Attributes:
        path: keys and indexes from the root of the recipe.
        value: plain data.
        origin: the command-line text, shown in errors in place of file:line:column.
    """

    path: KeyPath
    value: Any
    origin: str

    @classmethod
    def parse(cls, assignment: str) -> Override:
        """Read `passes.0.options.KEY=VALUE`, the argument of `--set`; VALUE is YAML.

        Raises:
            RecipeError: FYC-R09 when there is no `=`, FYC-R01 when VALUE is not YAML.
        """
        origin = f"--set {assignment}"
        key, equals, value = assignment.partition("=")
        parts = [part.strip() for part in key.split(".")]
        if not equals or not all(parts):
            raise RecipeError(
                "FYC-R09",
                "an assignment needs the form KEY=VALUE",
                where=origin,
                next="for example --set passes.0.options.expansion=0.02",
            )
        path = tuple(int(part) if part.isdecimal() else part for part in parts)
        return cls(path, parse_value(value, origin), origin)


def load_recipe(recipe: str | Path, overrides: Iterable[Override | str] = ()) -> Recipe:
    """Read and validate a recipe; pass names and options are checked later, by `resolve_passes`.

    Args:
        recipe: a YAML file, or the name of a shipped recipe (`fyc recipes list`).
        overrides: `Override`s, or texts of the form `passes.0.options.KEY=VALUE`, applied in order.

    Raises:
        RecipeError: FYC-R01 to FYC-R03, FYC-R06, FYC-R09, each with file:line:column.
    """
    name, text = _read(recipe)
    return parse_recipe(text, name=name, overrides=overrides)


def parse_recipe(text: str, *, name: str = "recipe", overrides: Iterable[Override | str] = ()) -> Recipe:
    """Like `load_recipe`, for a text; `name` stands for the file in errors."""
    source = RecipeSource(name)
    data = parse(text, source)
    if not isinstance(data, dict):
        what = "the recipe is empty" if data is None else "a recipe is a mapping of keys to values"
        raise RecipeError(
            "FYC-R03", what, where=source.where(()), next="`fyc init MODEL` writes a recipe to start from"
        )
    return _build(data, overrides, source)


def override_recipe(recipe: Recipe, overrides: Iterable[Override | str]) -> Recipe:
    """A copy of a recipe with overrides applied; the arguments and errors are those of `load_recipe`."""
    known = recipe.source or RecipeSource(recipe.name)
    source = RecipeSource(known.name, dict(known.keys), dict(known.values), dict(known.overrides))
    return _build(recipe.to_data(), overrides, source)


def shipped_recipes() -> dict[str, str]:
    """Name and text of every recipe that comes with fyc."""
    folder = resources.files("fyc_recipes")
    files = sorted((f for f in folder.iterdir() if f.name.endswith(".yaml")), key=lambda file: file.name)
    return {file.name.removesuffix(".yaml"): file.read_text(encoding="utf-8") for file in files}


def _build(data: dict[str, Any], overrides: Iterable[Override | str], source: RecipeSource) -> Recipe:
    for override in overrides:
        _apply(data, Override.parse(override) if isinstance(override, str) else override, source)
    recipe: Recipe = validate(Recipe, data, source, ())
    recipe._source = source
    return recipe


def _read(recipe: str | Path) -> tuple[str, str]:
    path = Path(recipe)
    if path.is_file():
        return str(recipe), _read_file(path)
    shipped = shipped_recipes()
    if str(recipe) in shipped:
        return f"{recipe}.yaml", shipped[str(recipe)]
    if path.is_dir():
        raise RecipeError(
            "FYC-R06",
            f"`{recipe}` is a folder, not a recipe",
            next=f"name a file, for example {path / 'recipe.yaml'}",
        )
    near = closest(path.name.removesuffix(".yaml"), shipped)
    hint = f"; did you mean `{near}`?" if near else ""
    raise RecipeError(
        "FYC-R06",
        f"there is no recipe `{recipe}`",
        why="no such file, and no recipe of this name is shipped",
        next=f"shipped: {', '.join(shipped)}{hint}",
    )


def _read_file(path: Path) -> str:
    if path.stat().st_size > MAX_BYTES:
        raise RecipeError("FYC-R01", "this file is too large for a recipe", where=str(path), next="is it a model?")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise RecipeError("FYC-R01", "the recipe is not UTF-8 text", where=str(path), why=str(error)) from error
    except OSError as error:
        raise RecipeError("FYC-R06", "the recipe cannot be read", where=str(path), why=str(error)) from error


def _apply(data: dict[str, Any], override: Override, source: RecipeSource) -> None:
    """Put the override's value into the data; mappings that are missing on the way are made."""
    node: Any = data
    for depth, key in enumerate(override.path):
        last = depth == len(override.path) - 1
        at = ".".join(map(str, override.path[:depth])) or "the recipe"
        if isinstance(node, list):
            if not isinstance(key, int) or key >= len(node):
                raise RecipeError(
                    "FYC-R09",
                    f"`{at}` is a list of length {len(node)}, counted from 0, and has no `{key}`",
                    where=override.origin,
                )
        elif isinstance(node, dict):
            if not last and node.get(str(key)) is None:
                node[str(key)] = {}
        else:
            raise RecipeError("FYC-R09", f"`{at}` is a single value and has no `{key}`", where=override.origin)
        index = key if isinstance(node, list) else str(key)
        if last:
            node[index] = override.value
        else:
            node = node[index]
    path = override.path
    for known in [p for p in source.overrides if p[: len(path)] == path]:
        del source.overrides[known]
    source.overrides[path] = override.origin


def validate(model: type[BaseModel], data: Any, source: RecipeSource, prefix: KeyPath) -> Any:
    """Validate plain data strictly (no text for numbers) and turn pydantic's errors into one RecipeError.

    Args:
        model: the pydantic model.
        data: what the recipe says at `prefix`.
        source: where the data came from.
        prefix: path of `data` in the recipe.

    Raises:
        RecipeError: FYC-R02 for the first unknown key, else FYC-R03 for the first error; `why` counts the others.
    """
    try:
        return model.model_validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        found = [_describe(model, item, source, prefix) for item in error.errors(include_url=False)]
    # A misspelt key is also a missing one: what the reader has to see first is the misspelling.
    found.sort(key=lambda pair: (pair[1].code != "FYC-R02", pair[0]))
    first = found[0][1]
    if len(found) > 1:
        others = "; ".join(f"{error.where}: {error.what}" for _, error in found[1:])
        first.why = "; ".join(filter(None, [first.why, f"and {len(found) - 1} more: {others}"]))
    raise first from None


def _describe(
    model: type[BaseModel], item: Any, source: RecipeSource, prefix: KeyPath
) -> tuple[tuple[int, int], RecipeError]:
    path: KeyPath = (*prefix, *item["loc"])
    dotted = ".".join(map(str, path))
    kind = item["type"]
    if kind == "extra_forbidden":
        hint = did_you_mean(str(path[-1]), _keys_at(model, item["loc"][:-1]))
        error = RecipeError(
            "FYC-R02",
            f"`{path[-1]}` is not a key of {_parent(path)}",
            where=source.where(path, key=True),
            next=hint,
        )
    elif kind == "missing":
        error = RecipeError(
            "FYC-R03", f"`{dotted}` is missing", where=source.where(path[:-1]), next=_missing_advice(path)
        )
    else:
        message = item["msg"].removeprefix("Value error, ").removeprefix("Input ")
        scalar = item["input"] is None or isinstance(item["input"], (str, int, float))
        given = "" if not scalar else f", not {json.dumps(item['input'])}"
        what = f"`{dotted}` {message}{given}" if dotted else message
        error = RecipeError("FYC-R03", what, where=source.where(path))
    return source.order(path), error


def _parent(path: KeyPath) -> str:
    return f"`{'.'.join(map(str, path[:-1]))}`" if len(path) > 1 else "a recipe"


def _missing_advice(path: KeyPath) -> str:
    if path in {("model",), ("model", "source")}:
        return "name a model with --model, or write `model: {source: ...}` into the recipe"
    return "write `schema: 1` as the first line" if path == ("schema",) else ""


def _keys_at(model: type[BaseModel], loc: Sequence[str | int]) -> list[str]:
    """The keys that the part of `model` at `loc` knows."""
    part: Any = model
    for key in loc:
        if isinstance(key, int):
            continue
        fields = {info.alias or name: info for name, info in part.model_fields.items()}
        part = _model_in(fields[key].annotation) if key in fields else None
        if part is None:
            return []
    return [info.alias or name for name, info in part.model_fields.items()]


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The pydantic model inside an annotation such as `tuple[Model, ...]` or `Model | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        if (found := _model_in(argument)) is not None:
            return found
    return None

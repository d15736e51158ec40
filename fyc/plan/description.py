"""Files in which a user describes a cluster or a GPU: YAML, with errors that name the line and what would do."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from fyc.errors import PlanError
from fyc.ui.text import did_you_mean

MOST_BYTES = 2**20
Described = TypeVar("Described", bound=BaseModel)


def read_description(
    path: Path, kind: type[Described], code: str, name: str, example: str, beside: tuple[str, ...] = ()
) -> Described:
    """A description from its file.

    Args:
        path: of the YAML file.
        kind: what it describes.
        code: of the errors.
        name: what errors call the file, such as "cluster file".
        example: how to get a good one.
        beside: fields that may name another YAML file, which is looked for in the folder of this one.

    Raises:
        PlanError: with this code, what is wrong, and the line.
    """
    text = _text(path, code, name, example)
    data = _load(path, text, code, name, example)
    known = kind.model_fields
    if not isinstance(data, dict) or not data.keys() & known.keys():
        why = (
            f"it holds {_kind(data)}"
            if not isinstance(data, dict)
            else f"none of its keys is one of {', '.join(known)}"
        )
        raise PlanError(code, f"the {name} describes nothing", where=str(path), why=why, next=example)
    for field in beside:
        if isinstance(value := data.get(field), str) and value.endswith((".yaml", ".yml")):
            data[field] = str(path.parent / value)
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise _explained(error, kind, path, text, code, name, example) from error


def _text(path: Path, code: str, name: str, example: str) -> str:
    try:
        if path.exists() and not path.is_file():
            why = "it is a folder" if path.is_dir() else "it is no regular file"
            raise PlanError(code, f"the {name} cannot be read", where=str(path), why=why, next=example)
        if path.stat().st_size > MOST_BYTES:
            why = f"it has {path.stat().st_size} bytes; a description has a few hundred"
            raise PlanError(code, f"the {name} cannot be read", where=str(path), why=why, next=example)
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        why = f"it is no text: byte {error.start} is no UTF-8"
        raise PlanError(code, f"the {name} cannot be read", where=str(path), why=why, next=example) from error
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise PlanError(code, f"the {name} cannot be read", where=str(path)[:300], why=why, next=example) from error


def _load(path: Path, text: str, code: str, name: str, example: str) -> Any:
    try:
        return YAML(typ="safe", pure=True).load(text)
    except RecursionError as error:
        why = "it is nested too deeply"
        raise PlanError(code, f"the {name} is not YAML", where=str(path), why=why, next=example) from error
    except YAMLError as error:
        mark = error.problem_mark if isinstance(error, MarkedYAMLError) else None
        where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark is not None else str(path)
        problem = error.problem if isinstance(error, MarkedYAMLError) else None
        why = " ".join((problem or str(error)).split())[:200]
        raise PlanError(code, f"the {name} is not YAML", where=where, why=why, next=example) from error


def _explained(
    error: ValidationError, kind: type[BaseModel], path: Path, text: str, code: str, name: str, example: str
) -> PlanError:
    """The first thing that is wrong; of what is missing, everything."""
    found = error.errors(include_url=False)
    unknown = next((item for item in found if item["type"] == "extra_forbidden"), None)
    if unknown is not None:
        *above, key = unknown["loc"]
        fields = _fields(kind, above)
        hint = did_you_mean(str(key), fields) if fields else example
        return PlanError(code, f"the {name} has no field `{key}`", where=_place(path, text, key), next=hint)
    missing = [".".join(map(str, item["loc"])) for item in found if item["type"] == "missing"]
    if missing:
        what = f"the {name} does not say {', '.join(f'`{field}`' for field in missing)}"
        first = kind.model_fields.get(missing[0])
        meaning = f"{missing[0]}: {first.description}" if first is not None and first.description else ""
        return PlanError(code, what, where=str(path), why=meaning, next=f"add what is missing: {example}")
    item = found[0]
    field = ".".join(str(part) for part in item["loc"])
    rule = item["msg"].removeprefix("Value error, ").removeprefix("Input ")
    rule = "should be a name or a mapping" if "instance of" in rule else rule[:1].lower() + rule[1:]
    if not field:
        return PlanError(code, f"the {name} is not valid", where=str(path), why=rule, next=example)
    meaning = getattr(kind.model_fields.get(field.partition(".")[0]), "description", None) or ""
    what = f"`{field}` in the {name} {rule.partition(', ')[0]}, not {_shown(item['input'])}"
    why = f"{field}: {meaning}" if meaning else ""
    return PlanError(code, what, where=_place(path, text, item["loc"][-1]), why=why, next="correct the value")


def _fields(kind: type[BaseModel], above: list[Any]) -> Mapping[str, Any]:
    """The fields that may stand at a place; empty where it is not a field of the description itself."""
    return kind.model_fields if not above else {}


def _place(path: Path, text: str, key: Any) -> str:
    match = re.search(rf"^\s*[\"']?{re.escape(str(key))}[\"']?\s*:", text, re.MULTILINE)
    return f"{path}:{text.count(chr(10), 0, match.end()) + 1}" if match else str(path)


def _shown(value: Any) -> str:
    """A value as an error repeats it: scalars only, and never long."""
    if value is None:
        return "empty"
    return f"{value!r}"[:60] if isinstance(value, (bool, int, float, str)) else _kind(value)


def _kind(value: Any) -> str:
    kinds = {dict: "a mapping", list: "a list", str: "a text", type(None): "nothing"}
    return kinds.get(type(value), f"a {type(value).__name__}")

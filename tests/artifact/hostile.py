"""Artifacts made with bad intentions: refused with an error of fyc, nothing executed, whatever they hold.

Whoever can write `fyc.json` can also put the right hashes into it, so these tests do (`toys.rehash`).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import transformers

import fyc
from fyc.errors import ArtifactError

ROWS = "model.layers.0.mlp.down_proj"


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


def nested(depth: int) -> Any:
    value: Any = {"value": 1}
    for _ in range(depth):
        value = {"tuple": [value]}
    return value


RAW = {
    "not JSON": (b"import os", "FYC-A07"),
    "not an object": (b"[]", "FYC-A01"),
    "a bomb of brackets": (b"[" * 200_000, "FYC-A07"),
    "not UTF-8": (b'{"schema": 1, "x": "\xff\xfe"}', "FYC-A07"),
    "a number of a million digits": (b'{"schema": 1, "x": ' + b"9" * 1_000_000 + b"}", "FYC-A07"),
    "100 MB": (b'{"schema": 1, "x": "' + b"A" * 100_000_000 + b'"}', "FYC-A07"),
}

"""Random changes of an artifact's JSON: it loads, or fyc refuses it."""

from __future__ import annotations

import copy
import json
import random
from pathlib import Path
from typing import Any

import pytest
import toys
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fyc
from fyc.errors import FycError

pytestmark = pytest.mark.usefixtures("traced_once")


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


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), value=JSON, times=st.integers(1, 3))
def test_any_change_of_the_manifest_loads_or_is_refused(seed: int, value: Any, times: int, tmp_path: Path) -> None:
    _mutated(tmp_path, "fyc.json", seed, value, times)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
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

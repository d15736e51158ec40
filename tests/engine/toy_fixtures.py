"""Fixtures that the tests of engine, artifact and loading share: the toy passes are installed, for children too."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import toys

from fyc import ir


@pytest.fixture(autouse=True)
def _toy_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(toys.site()))
    paths = [str(toys.site()), str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path for path in paths if path))


@pytest.fixture
def traced_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal skeletons are traced once a process: for tests that convert and load often and are about something else."""
    monkeypatch.setattr(ir, "trace_model", _trace_cached)


_TRACES: dict[tuple[str, ...], ir.ModelGraph] = {}
_TRACE = ir.trace_model


def _trace_cached(model: Any, **options: Any) -> ir.ModelGraph:
    key = (type(model).__name__, str(model.dtype), model.config.to_json_string(), str(options["opaque"]))
    if key not in _TRACES:
        _TRACES[key] = _TRACE(model, **options)
    return _TRACES[key]

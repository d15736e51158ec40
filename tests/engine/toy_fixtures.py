"""Fixtures that the tests of engine, artifact and loading share: the toy passes are installed, for children too."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import toys


@pytest.fixture(autouse=True)
def _toy_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(toys.site()))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(toys.site()), str(Path(__file__).parent)]))

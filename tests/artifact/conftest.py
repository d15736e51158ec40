"""The toy passes of the engine's tests are installed here too."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "engine"))

import toys
from toy_fixtures import _toy_plugins, traced_once  # noqa: F401


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An artifact of its own for a test to damage."""
    return toys.copied(toys.artifact(), tmp_path / "artifact")

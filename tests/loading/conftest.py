"""The toy passes of the engine's tests are installed here too."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "engine"))

from toy_fixtures import _toy_plugins, traced_once  # noqa: F401

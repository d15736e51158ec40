"""The toy passes are installed in every test of the engine."""

from toy_fixtures import _toy_plugins, traced_once  # noqa: F401

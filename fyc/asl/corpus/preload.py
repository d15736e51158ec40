"""Importing this imports what a worker needs, plugins too: the server from which workers are forked does it once."""

from __future__ import annotations

import importlib
from contextlib import suppress

from fyc.asl.tracker import trackers
from fyc.errors import FycError
from fyc.plugins import load_plugins

for name in ("fyc.asl.run", "av", "ai_edge_litert.interpreter", "cv2"):
    with suppress(ImportError):  # the worker that needs it says it
        importlib.import_module(name)
with suppress(FycError):
    trackers(load_plugins())

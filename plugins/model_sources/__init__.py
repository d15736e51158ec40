"""Where models come from: a demo asset, a GGUF file, a folder, the Hugging Face hub."""

from __future__ import annotations

from collections.abc import Callable

from fyc_plugins.model_sources.asset import AssetSource
from fyc_plugins.model_sources.folder import FolderSource
from fyc_plugins.model_sources.gguf import GgufSource
from fyc_plugins.model_sources.hub import HubSource

from fyc.hookspecs import hookimpl
from fyc.models import ModelSource

__all__ = ["AssetSource", "FolderSource", "GgufSource", "HubSource", "fyc_register_model_sources"]


@hookimpl
def fyc_register_model_sources(register: Callable[[ModelSource], None]) -> None:
    """Register the built-in sources."""
    register(AssetSource())
    register(GgufSource())
    register(FolderSource())
    register(HubSource())

"""fyc converts Hugging Face models through torch.fx graphs.

Everything public stands here and is imported on first use: `import fyc` is quick and does not import torch.
After `import fyc`, transformers' own `from_pretrained` loads fyc artifacts too.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from fyc import _transformers_hook

if TYPE_CHECKING:
    from fyc import ir as ir
    from fyc.api import convert as convert
    from fyc.errors import ArtifactError as ArtifactError
    from fyc.errors import AssetError as AssetError
    from fyc.errors import ElanError as ElanError
    from fyc.errors import EndpointError as EndpointError
    from fyc.errors import FycError as FycError
    from fyc.errors import InternalError as InternalError
    from fyc.errors import Interrupted as Interrupted
    from fyc.errors import ModelError as ModelError
    from fyc.errors import NoFaceError as NoFaceError
    from fyc.errors import NothingFitsError as NothingFitsError
    from fyc.errors import PassError as PassError
    from fyc.errors import PlanError as PlanError
    from fyc.errors import PluginError as PluginError
    from fyc.errors import RecipeError as RecipeError
    from fyc.errors import ResourceError as ResourceError
    from fyc.errors import TraceError as TraceError
    from fyc.errors import UserError as UserError
    from fyc.errors import VideoError as VideoError
    from fyc.evaluation import evaluate as evaluate
    from fyc.generation import generate as generate
    from fyc.hookspecs import hookimpl as hookimpl
    from fyc.loading.load import load as load
    from fyc.passes import Block as Block
    from fyc.passes import Finding as Finding
    from fyc.passes import FycModule as FycModule
    from fyc.passes import Json as Json
    from fyc.passes import ModelView as ModelView
    from fyc.passes import ModuleReport as ModuleReport
    from fyc.passes import Outer as Outer
    from fyc.passes import Pass as Pass
    from fyc.passes import PassContext as PassContext
    from fyc.passes import PassOptions as PassOptions
    from fyc.passes import PassResult as PassResult
    from fyc.passes import Survey as Survey
    from fyc.recipe import Recipe as Recipe
    from fyc.recipe import load_recipe as load_recipe

_HOME = {
    "ArtifactError": "fyc.errors",
    "AssetError": "fyc.errors",
    "Block": "fyc.passes",
    "Finding": "fyc.passes",
    "ElanError": "fyc.errors",
    "EndpointError": "fyc.errors",
    "FycError": "fyc.errors",
    "InternalError": "fyc.errors",
    "FycModule": "fyc.passes",
    "Interrupted": "fyc.errors",
    "Json": "fyc.passes",
    "ModelError": "fyc.errors",
    "NoFaceError": "fyc.errors",
    "NothingFitsError": "fyc.errors",
    "ModelView": "fyc.passes",
    "ModuleReport": "fyc.passes",
    "Outer": "fyc.passes",
    "Pass": "fyc.passes",
    "PassContext": "fyc.passes",
    "PassError": "fyc.errors",
    "PassOptions": "fyc.passes",
    "PassResult": "fyc.passes",
    "PlanError": "fyc.errors",
    "PluginError": "fyc.errors",
    "Recipe": "fyc.recipe",
    "RecipeError": "fyc.errors",
    "ResourceError": "fyc.errors",
    "Survey": "fyc.passes",
    "TraceError": "fyc.errors",
    "UserError": "fyc.errors",
    "VideoError": "fyc.errors",
    "convert": "fyc.api",
    "evaluate": "fyc.evaluation",
    "generate": "fyc.generation",
    "hookimpl": "fyc.hookspecs",
    "load": "fyc.loading",
    "load_recipe": "fyc.recipe",
}

__all__ = sorted([*_HOME, "__version__", "ir"])  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("fyc")
    if name == "ir":
        return importlib.import_module("fyc.ir")
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'fyc' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(__all__)


_transformers_hook.install()

"""The lock file: everything outside the recipe that decides the bytes of an artifact."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fyc.passes import Pass
    from fyc.plugins import PluginHost
    from fyc.recipe.schema import Recipe

PACKAGES = ("fyc", "torch", "transformers", "safetensors", "tokenizers")
#: Draws the pictures of the report, where it is installed.
OPTIONAL = ("matplotlib",)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide an artifact's bytes; imports none of them."""
    found = {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}
    for name in OPTIONAL:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def lock(recipe: Recipe, passes: Sequence[Pass[Any]], host: PluginHost) -> dict[str, Any]:
    """The content of `recipe.lock.json`: resolved options, plugins that change graphs, versions and the seed.

    Args:
        recipe: the recipe.
        passes: what `resolve_passes` made of it.
        host: where the passes came from.
    """
    return {
        "schema": 1,
        "seed": recipe.seed,
        "passes": [
            {
                "use": use.use,
                "version": pass_.version,
                "plugin": host.passes[use.use].plugin,
                "distribution": host.passes[use.use].distribution,
                "distribution_version": host.passes[use.use].version,
                "include": list(use.include),
                "exclude": list(use.exclude),
                "options": pass_.options.model_dump(mode="json"),
            }
            for use, pass_ in zip(recipe.passes, passes, strict=True)
        ],
        "plugins": [vars(plugin) for plugin in host.implementing("fyc_trace_leaf")],
        "versions": versions(),
    }

"""From the recipe's `passes:` to pass objects with validated options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fyc.errors import FycError, PassError
from fyc.recipe.load import validate
from fyc.recipe.source import RecipeSource

if TYPE_CHECKING:
    from fyc.passes import Pass
    from fyc.plugins import PluginHost
    from fyc.recipe.schema import Recipe


def resolve_passes(recipe: Recipe, host: PluginHost) -> list[Pass[Any]]:
    """Build the passes of a recipe, in order, with their options validated.

    Raises:
        PluginError: FYC-P01 or FYC-P02 for a pass that does not exist or cannot be imported.
        RecipeError: FYC-R02 or FYC-R03 for its options; both carry file:line:column.
        PassError: FYC-X01 when the pass raises while it is built.
    """
    source = recipe.source or RecipeSource(recipe.name)
    passes: list[Pass[Any]] = []
    for index, use in enumerate(recipe.passes):
        cls = host.pass_class(use.use, where=source.where(("passes", index, "use")))
        try:
            options = validate(cls.Options, use.options, source, ("passes", index, "options"))
            passes.append(cls(options))
        except FycError:
            raise
        except Exception as error:
            raise PassError(
                "FYC-X01",
                f"the pass {use.use!r} failed",
                where=source.where(("passes", index)),
                why=f"{type(error).__name__}: {error}",
                next="--debug shows the traceback",
            ) from error
    return passes

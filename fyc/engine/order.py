"""The legal order of passes: facts that hold, are required, produced, removed or excluded."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fyc.errors import RecipeError
from fyc.passes import Fact, Pass
from fyc.recipe import Recipe


def initial_facts(recipe: Recipe) -> frozenset[Fact]:
    """What holds before the first pass."""
    facts = {"graph", "float-weights"}
    if recipe.calibration is not None:
        facts.add("calibration")
    return frozenset(facts)


def check_order(recipe: Recipe, passes: Sequence[Pass[Any]]) -> frozenset[Fact]:
    """Check every pass's `requires` and `conflicts` against what the passes before it leave; returns the last facts.

    Raises:
        RecipeError: FYC-R05, at the place in the recipe.
    """
    facts = initial_facts(recipe)
    for index, pass_ in enumerate(passes):
        where = recipe.where("passes", index, "use")
        missing = sorted(pass_.requires - facts)
        if missing:
            raise RecipeError(
                "FYC-R05",
                f"the pass {pass_.name!r} cannot run here",
                where=where,
                why=f"it requires {', '.join(missing)}; here holds: {', '.join(sorted(facts)) or 'nothing'}",
                next=_advice(missing, passes, index),
            )
        clash = sorted(pass_.conflicts & facts)
        if clash:
            raise RecipeError(
                "FYC-R05",
                f"the pass {pass_.name!r} cannot run here",
                where=where,
                why=f"it conflicts with {', '.join(clash)}, which an earlier pass left",
                next="take one of the two passes out of the recipe, or change their order",
            )
        facts = (facts - pass_.removes) | pass_.produces
    return facts


def _advice(missing: Sequence[Fact], passes: Sequence[Pass[Any]], index: int) -> str:
    if "calibration" in missing:
        return "add a `calibration:` section with a text, or give one with --calibration FILE"
    later = [other.name for other in passes[index + 1 :] if other.produces & set(missing)]
    if later:
        return f"move it after {later[0]!r}"
    return "put a pass that produces it before this one"

"""Recipes: the YAML file that says which model, which passes, which checks."""

from fyc.recipe.load import Override, load_recipe, override_recipe, parse_recipe, shipped_recipes
from fyc.recipe.lockfile import lock, versions
from fyc.recipe.patterns import ModulePatterns
from fyc.recipe.resolve import resolve_passes
from fyc.recipe.schema import CalibrationSpec, ModelSpec, OutputSpec, PassUse, Recipe, VerifySpec

__all__ = [
    "CalibrationSpec",
    "ModelSpec",
    "ModulePatterns",
    "OutputSpec",
    "Override",
    "PassUse",
    "Recipe",
    "VerifySpec",
    "load_recipe",
    "lock",
    "override_recipe",
    "parse_recipe",
    "resolve_passes",
    "shipped_recipes",
    "versions",
]

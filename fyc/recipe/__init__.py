"""Recipes: the YAML file that says which model, which passes, which checks."""

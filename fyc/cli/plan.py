"""`fyc plan`: the command, and those below it."""

from __future__ import annotations

import typer

from fyc.cli import plan_cost, plan_diagnose, plan_make

plan = typer.Typer(name="plan", rich_markup_mode=None)
plan_make.add_to(plan)
plan_cost.add_to(plan)
plan_diagnose.add_to(plan)


def add_to(app: typer.Typer) -> None:
    """Add `fyc plan`."""
    app.add_typer(plan)

"""`fyc plan`: commands about distributed training."""

from __future__ import annotations

import typer

from fyc.cli import plan_cost

plan = typer.Typer(
    name="plan",
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Plan distributed training: what a configuration costs, how good the predictions are.",
)
plan_cost.add_to(plan)


def add_to(app: typer.Typer) -> None:
    """Add `fyc plan`."""
    app.add_typer(plan)

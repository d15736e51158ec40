"""`fyc eval` and `fyc generate`: what a model or an artifact is worth, and what it says."""

from __future__ import annotations

import typer


def add_to(app: typer.Typer) -> None:
    """Register the commands."""

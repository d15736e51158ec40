"""The top-level command group: built-in commands, and commands of plugins, imported when they are invoked.

A plugin brings a command through an entry point in the group `fyc.commands`: its name is the command's name,
its value a typer app or a function. Its line in `fyc --help` is the `Summary` of the distribution, so that help
imports nothing.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from fyc.errors import PluginError
from fyc.ui.text import closest

GROUP = "fyc.commands"


class PluginGroup(TyperGroup):
    """A command group whose plugin commands stay unimported until one is invoked."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Built-in commands in their order, then those of plugins."""
        own = list(super().list_commands(ctx))
        return own + [name for name in sorted(_installed()) if name not in own]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command, or for one of a plugin its name and help line only."""
        command = super().get_command(ctx, cmd_name)
        if command is None and (entry := _installed().get(cmd_name)) is not None:
            return TyperCommand(cmd_name, help=_summary(entry), rich_markup_mode=None)
        return command

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command to run; here a plugin's command is imported."""
        name = args[0]
        if name in self.commands or name.startswith("-"):
            return super().resolve_command(ctx, args)
        entry = _installed().get(name)
        if entry is not None:
            return name, _load(entry), args[1:]
        near = closest(name, self.list_commands(ctx))
        advice = f"did you mean `fyc {near}`?" if near else "`fyc --help` lists the commands"
        raise PluginError("FYC-P01", f"there is no command `{name}`", next=advice)


def _installed() -> dict[str, EntryPoint]:
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=GROUP):
        if entry.name in found:
            raise PluginError(
                "FYC-P03",
                f"two plugins bring the command `{entry.name}`",
                where=f"{_distribution(found[entry.name])}, {_distribution(entry)}",
                next="uninstall one of them",
            )
        found[entry.name] = entry
    return found


def _distribution(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else "an unknown distribution"


def _summary(entry: EntryPoint) -> str:
    if entry.dist is not None and "Summary" in entry.dist.metadata:
        return entry.dist.metadata["Summary"]
    return f"Command of {_distribution(entry)}."


def _load(entry: EntryPoint) -> Any:
    try:
        target = entry.load()
    except (Exception, SystemExit) as error:
        raise PluginError(
            "FYC-P02",
            f"the command `{entry.name}` of {_distribution(entry)} cannot be imported",
            why=f"{type(error).__name__}: {error}",
            next="install what is missing, or repair or remove the distribution",
        ) from error
    app = target
    if not isinstance(target, typer.Typer):
        app = typer.Typer(rich_markup_mode=None, add_completion=False)
        app.command(entry.name)(target)
    command = typer.main.get_command(app)
    command.name = entry.name
    return command

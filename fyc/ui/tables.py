"""Tables for stdout: plain columns with a head line, as rich renderables."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fyc.ui.console import console

if TYPE_CHECKING:
    from rich.table import Table

_GAP = 2


def show_table(columns: Sequence[str], rows: Iterable[Sequence[Any]], *, title: str = "") -> None:
    """Write a table to stdout; numbers are aligned right, None is a dash.

    Args:
        columns: head line.
        rows: one cell a column.
        title: line above the table.
    """
    from rich.table import Table
    from rich.text import Text

    cells = [list(row) for row in rows]
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, _GAP, 0, 0))
    for index, name in enumerate(columns):
        numeric = bool(cells) and all(isinstance(row[index], (int, float)) or row[index] is None for row in cells)
        table.add_column(name, justify="right" if numeric else "left", overflow="fold")
    for row in cells:
        table.add_row(*(Text(cell_text(cell)) for cell in row))
    _print(table, title)


def columns_that_fit(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, least: int) -> int:
    """How many columns, from the left, fit on a line of the terminal; at least `least`."""
    room = console(sys.stdout).width
    for index, name in enumerate(columns):
        room -= max(map(len, (name, *(cell_text(row[index]) for row in rows)))) + _GAP
        if room + _GAP < 0:
            return max(least, index)
    return len(columns)


def show_pairs(pairs: Mapping[str, Any], *, title: str = "") -> None:
    """Write `name  value` lines to stdout."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, _GAP, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in pairs.items():
        table.add_row(Text(name), Text(cell_text(value)))
    _print(table, title)


def option_text(value: Any) -> str:
    """An option's value as a recipe spells it: `true`, `null`, `[a, b]`."""
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(option_text, value))}]"
    return str(value) if isinstance(value, str) else json.dumps(value)


def _print(table: Table, title: str) -> None:
    out = console(sys.stdout)
    with out.capture() as captured:
        if title:
            out.print(title, style="bold", markup=False)
        out.print(table)
    sys.stdout.write("".join(f"{line.rstrip()}\n" for line in captured.get().splitlines()))


def cell_text(value: Any) -> str:
    """A cell as text: four digits of a float, a dash for None, commas between the items of a list."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, (list, tuple, set, frozenset)):
        return ", ".join(map(cell_text, value)) or "-"
    return str(value)

"""`--dump-ir`: the graph of every block before and after a pass, and the difference, as text."""

from __future__ import annotations

import difflib
from pathlib import Path

from fyc.engine.units import Unit


def dump_block(folder: Path, position: int, pass_name: str, unit: Unit, before: str, after: str) -> None:
    """Write `NN-pass/block-NNNN.{before,after}.txt` and `.diff`; equal graphs give an empty difference."""
    target = folder / f"{position:02d}-{pass_name}"
    target.mkdir(parents=True, exist_ok=True)
    name = f"block-{unit.index:04d}"
    (target / f"{name}.before.txt").write_text(f"# {unit.path}\n{before}\n", encoding="utf-8")
    (target / f"{name}.after.txt").write_text(f"# {unit.path}\n{after}\n", encoding="utf-8")
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), "before", "after", lineterm="")
    (target / f"{name}.diff").write_text("\n".join(lines) + "\n", encoding="utf-8")

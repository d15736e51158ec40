"""Who may import what."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = [file for folder in ("fyc", "passes", "kernels", "plugins") for file in sorted((ROOT / folder).rglob("*.py"))]


def test_the_layers_hold():
    code = "from importlinter.cli import lint_imports_command as main; main()"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def private_fx(source: str) -> Iterator[str]:
    """Names with a leading underscore that are taken from torch.fx."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("torch.fx"):
            names = [*str(node.module).split("."), *(alias.name for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [
                part for alias in node.names if alias.name.startswith("torch.fx") for part in alias.name.split(".")
            ]
        elif isinstance(node, ast.Attribute):
            text = ast.unparse(node)
            names = text.split(".") if text.startswith(("fx.", "torch.fx.")) else []
        else:
            continue
        yield from (name for name in names if name.startswith("_"))


def test_private_names_of_fx_are_recognized():
    assert list(private_fx("from torch.fx._symbolic_trace import x")) == ["_symbolic_trace"]
    assert list(private_fx("from torch.fx.graph import _Namespace")) == ["_Namespace"]
    assert list(private_fx("import torch.fx._pytree")) == ["_pytree"]
    assert list(private_fx("import torch\ntorch.fx.graph._x()")) == ["_x"]
    assert not list(private_fx("from torch import fx\nfx.Graph()\nself._graph"))


def test_only_the_ir_touches_private_parts_of_fx():
    outside = [file for file in SOURCES if ROOT / "fyc" / "ir" not in file.parents]
    assert outside
    found = {str(file): list(private_fx(file.read_text(encoding="utf-8"))) for file in outside}
    assert not {file: names for file, names in found.items() if names}


def test_library_code_does_not_print():
    programs = ROOT / "plugins" / "launchers" / "scripts"  # stand alone in the folder of a plan
    for file in (file for file in SOURCES if programs not in file.parents):
        calls = [node for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]
        printing = [call.lineno for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"]
        assert not printing, f"{file}:{printing}"

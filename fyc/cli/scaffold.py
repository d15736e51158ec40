"""Writes the plugin package of `fyc passes new` from the templates beside this file."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path
from string import Template

from fyc.errors import RecipeError

#: Template to path in the new package; both may use $package.
_FILES = {
    "pyproject.toml.txt": "pyproject.toml",
    "pass.py.txt": "$package.py",
    "test_pass.py.txt": "test_$package.py",
    "README.md.txt": "README.md",
}
_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def write_package(name: str, folder: Path) -> list[Path]:
    """Write the package; returns the files.

    Args:
        name: name of the pass.
        folder: must not exist, or be empty.

    Raises:
        RecipeError: FYC-R09 for a name that cannot be used, FYC-R08 when the folder is not empty.
    """
    if not _NAME.fullmatch(name):
        suggestion = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-0123456789") or "my-pass"
        raise RecipeError(
            "FYC-R09",
            f"`{name}` cannot be the name of a pass",
            why="a name is lower-case words joined by hyphens",
            next=f"for example: fyc passes new {suggestion}",
        )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise RecipeError("FYC-R08", f"`{folder}` is not empty", next="choose another folder with -o")
    words = name.split("-")
    values = {
        "name": name,
        "package": f"fyc_{'_'.join(words)}",
        "cls": "".join(word.capitalize() for word in words),
    }
    templates = resources.files("fyc.cli") / "templates"
    written = []
    for template, target in _FILES.items():
        path = folder / Template(target).substitute(values)
        path.parent.mkdir(parents=True, exist_ok=True)
        text = Template((templates / template).read_text(encoding="utf-8")).substitute(values)
        path.write_text(text, encoding="utf-8")
        written.append(path)
    return written

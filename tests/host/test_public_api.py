"""What `import fyc` offers."""

from __future__ import annotations

import importlib
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import fyc
from fyc import errors

ROOT = Path(__file__).parents[2]


def test_type_checkers_are_told_that_fyc_is_typed():
    """Without this file, mypy takes everything from fyc for Any in somebody's plugin."""
    assert (ROOT / "fyc" / "py.typed").is_file()


def test_all_names_are_sorted_and_exist():
    assert fyc.__all__ == sorted(fyc.__all__)
    for name in fyc.__all__:
        assert getattr(fyc, name) is not None
    assert dir(fyc) == fyc.__all__


def test_every_error_class_is_public():
    classes = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}
    assert classes <= set(fyc.__all__)


def test_unknown_names_raise():
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = fyc.no_such_name


def test_functions_are_not_hidden_by_modules_of_the_same_name():
    for name in fyc.__all__:
        if callable(getattr(fyc, name)):
            assert importlib.util.find_spec(f"fyc.{name}") is None, f"fyc.{name} is a module and a function"


def test_type_checkers_see_the_same_names():
    text = (ROOT / "fyc" / "__init__.py").read_text(encoding="utf-8")
    block = text[text.index("if TYPE_CHECKING:") : text.index("_HOME = {")]
    declared = {line.split(" as ")[-1].strip() for line in block.splitlines() if " import " in line}
    assert declared == set(fyc.__all__) - {"__version__"}


def test_the_version_is_the_distributions():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert fyc.__version__ == project["version"]


def test_every_package_is_part_of_the_distribution():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    folders = {"fyc": "fyc", **{folder: package for package, folder in settings["package-dir"].items()}}
    found = set()
    for folder, package in folders.items():
        for file in (ROOT / folder).rglob("__init__.py"):
            parts = file.parent.relative_to(ROOT / folder).parts
            found.add(".".join([package, *parts]))
    assert found == set(settings["packages"])


@pytest.mark.parametrize("module", ["fyc.recipe", "fyc.plugins", "fyc.errors", "fyc.ui.progress", "fyc.cli.main"])
def test_light_modules_do_not_import_torch(module):
    code = f"import sys, {module}; assert not {{'torch', 'transformers'}} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)

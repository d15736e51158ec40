"""Runs the command line in this process, and installs a pass for it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fyc.cli.main import main
from fyc.cli.scaffold import write_package


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def fyc(capfd: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    def run(*arguments: object) -> Result:
        capfd.readouterr()
        with pytest.raises(SystemExit) as left:
            main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return Result(left.value.code, out, err)

    return run


@pytest.fixture
def keep_bits(install: Callable[..., Path], tmp_path: Path) -> Path:
    """The pass of `fyc passes new keep-bits`, installed; returns the folder of its package."""
    folder = tmp_path / "keep-bits"
    write_package("keep-bits", folder)
    install("fyc-keep-bits", {"keep-bits": (folder / "fyc_keep_bits.py").read_text(encoding="utf-8")})
    return folder


@pytest.fixture
def recipe(keep_bits: Path, tiny_model: Path, tmp_path: Path) -> Path:
    """A recipe with the installed pass, the tiny model and a gate that it passes."""
    path = tmp_path / "r.yaml"
    path.write_text(
        f"""\
schema: 1
model: {{source: {tiny_model}}}
calibration: {{text: {tiny_model / "text.txt"}, samples: 4, length: 32}}
passes:
  - use: keep-bits
verify: {{max_perplexity_increase: 0.5, samples: 2}}
output: {{dir: {tmp_path / "out"}}}
""",
        encoding="utf-8",
    )
    return path

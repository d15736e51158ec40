"""The real command in a real process: interrupted with Ctrl-C, killed, and resumed to the same bytes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import toys

from fyc.artifact import open_artifact
from fyc.engine.workspace import work_folder

pytestmark = pytest.mark.slow


def command(recipe: Path, output: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "fyc", "convert", str(recipe), "-o", str(output), "--progress", "json", *more]


def stopped(recipe: Path, output: Path, how: signal.Signals, *more: str) -> tuple[int, str]:
    """Start a conversion, send a signal after its second finished block; returns exit code and standard error."""
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    child = subprocess.Popen(command(recipe, output, *more), stderr=subprocess.PIPE, text=True, env=env)
    assert child.stderr is not None
    lines = []
    for line in child.stderr:
        lines.append(line)
        if '"block"' in line and sum('"block"' in seen for seen in lines) == 2:
            child.send_signal(how)
    return child.wait(timeout=60), "".join(lines)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_stopped_and_resumed(how: signal.Signals, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(toys.recipe_text(toys.model(), "toy-rows"), encoding="utf-8")
    output = tmp_path / "out"
    code, errors = stopped(recipe, output, how)
    assert code == (130 if how == signal.SIGINT else -signal.SIGKILL), errors
    if how == signal.SIGINT:
        assert "FYC-I01" in errors
        assert "--resume" in errors
        assert "Traceback" not in errors
    assert not output.exists()
    assert work_folder(output).is_dir()
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    again = subprocess.run(command(recipe, output), capture_output=True, text=True, env=env, check=False)
    assert again.returncode == 2
    assert "FYC-R11" in again.stderr
    resumed = subprocess.run(command(recipe, output, "--resume"), capture_output=True, text=True, env=env, check=False)
    assert resumed.returncode == 0, resumed.stderr
    calm = subprocess.run(command(recipe, tmp_path / "calm"), capture_output=True, text=True, env=env, check=False)
    assert calm.returncode == 0, calm.stderr
    assert toys.files_of(output) == toys.files_of(tmp_path / "calm")
    open_artifact(output).verify()
    assert json.loads((output / "run.json").read_text())["threads"] >= 1

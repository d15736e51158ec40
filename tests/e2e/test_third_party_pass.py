"""A pass from a separate distribution, installed into a fresh virtual environment, drives `fyc convert`."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from fyc.artifact import open_artifact

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Environment:
    """A virtual environment on top of the one that runs the tests."""

    folder: Path

    @property
    def python(self) -> str:
        return str(self.folder / "bin" / "python")

    def install(self, package: Path) -> None:
        source = self.folder / "source" / package.name
        shutil.copytree(package, source, ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__"))
        pip = [
            sys.executable,
            "-m",
            "pip",
            "--python",
            self.python,
            "--disable-pip-version-check",
            "install",
            "--quiet",
        ]
        run([*pip, "--no-deps", "--no-build-isolation", "--no-index", str(source)])

    def fyc(self, *arguments: object) -> Any:
        """Run the command and read its JSON."""
        return json.loads(run([self.python, "-m", "fyc", *map(str, arguments), "--json"], cwd=self.folder))


def run(command: list[str], **settings: Any) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, **settings)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    folder = tmp_path_factory.mktemp("e2e") / "venv"
    run([sys.executable, "-m", "venv", "--without-pip", str(folder)])
    (site,) = folder.glob("lib/python*/site-packages")
    below = sysconfig.get_paths()["purelib"]
    (site / "below.pth").write_text(f"import site; site.addsitedir({below!r})\n", encoding="utf-8")
    return Environment(folder)


@pytest.fixture(scope="module")
def with_example(environment: Environment) -> Environment:
    environment.install(ROOT / "examples" / "third-party-pass")
    return environment


def test_the_example_is_found_explained_and_used(with_example, tiny_model, tmp_path):
    environment = with_example
    described = environment.fyc("passes", "show", "wanda")
    assert described["brought by"] == "fyc-wanda 0.1.0"
    assert [option["name"] for option in described["options"]] == ["sparsity"]

    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        f"""\
schema: 1
model: {{source: {tiny_model}}}
calibration: {{text: {tiny_model / "text.txt"}, samples: 4, length: 32}}
passes:
  - use: wanda
    exclude: [model.layers.0.self_attn]
    options: {{sparsity: 0.25}}
verify: {{max_perplexity_increase: 0.5, samples: 2}}
output: {{dir: {tmp_path / "out"}}}
""",
        encoding="utf-8",
    )
    made = environment.fyc("convert", recipe)
    assert [entry["action"] for entry in made["modules"]] == ["pruned"] * 10
    lock = json.loads((tmp_path / "out" / "recipe.lock.json").read_text(encoding="utf-8"))
    assert lock["passes"][0]["distribution"] == "fyc-wanda"
    open_artifact(tmp_path / "out").verify()

    weights: dict[str, torch.Tensor] = {}
    for shard in (tmp_path / "out").glob("*.safetensors"):
        weights |= load_file(shard)
    source = load_file(tiny_model / "model.safetensors")
    pruned = weights["model.layers.1.mlp.down_proj.weight"]
    assert (pruned == 0).sum(dim=1).tolist() == [12] * 32
    kept = pruned != 0
    assert torch.equal(pruned[kept], source["model.layers.1.mlp.down_proj.weight"][kept])
    untouched = "model.layers.0.self_attn.q_proj.weight"
    assert torch.equal(weights[untouched], source[untouched])


def test_the_examples_own_tests_pass(with_example):
    source = with_example.folder / "source" / "third-party-pass"
    run([with_example.python, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(source)], cwd=with_example.folder)


def test_what_passes_new_writes_installs_and_passes_its_test(environment):
    package = environment.folder / "written"
    run([environment.python, "-m", "fyc", "passes", "new", "keep-bits", "-o", str(package)])
    environment.install(package)
    source = environment.folder / "source" / "written"
    run([environment.python, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(source)], cwd=environment.folder)

"""`fyc plan` names the launch files it wrote, and `fyc plan resume` writes them again."""

import json
from pathlib import Path
from typing import Any

import pytest
from fyc_plugins.launchers.torchtitan import TorchtitanLauncher
from typer.testing import CliRunner

from fyc.cli.main import app
from fyc.errors import PlanError

EXAMPLES = Path(__file__).parents[3] / "examples" / "plan"


def _plan(plan: Path, backend: str, *more: str) -> Any:
    return CliRunner().invoke(
        app,
        ["plan", "--model", str(EXAMPLES / "llama-3.1-8b" / "config.json"), "--cluster",
         str(EXAMPLES / "h100x512.yaml"), "--seq", "8192", "--global-batch", "512", "--backend", backend,
         "--trials", "1", "--reasoner", "rules", "-o", str(plan), *more],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("backend", "beside"),
    [("megatron", ()), ("torchtitan", ("config.toml", "model.json")), ("deepspeed", ("ds_config.json",))],
)
def test_the_plan_ends_with_its_launch_files(backend: str, beside: tuple[str, ...], tmp_path: Path) -> None:
    plan = tmp_path / "plan"
    found = _plan(plan, backend)
    assert found.exit_code == 0, found.output
    assert all(name in found.output and (plan / name).is_file() for name in (*beside, "launch.sh", "launch.sbatch"))
    (plan / "launch.sh").unlink()
    again = CliRunner().invoke(app, ["plan", "resume", str(plan), "--trials", "1", "--reasoner", "rules"])
    assert again.exit_code == 0, again.output
    assert (plan / "launch.sh").is_file()


def test_json_names_the_launch_files(tmp_path: Path) -> None:
    found = _plan(tmp_path / "plan", "torchtitan", "--json")
    assert found.exit_code == 0, found.output
    names = {Path(path).name for path in json.loads(found.stdout)["launch_files"]}
    scripts = {"train_torchtitan.py", "torchtitan_main.py"}
    assert names == {"launch.sh", "launch.sbatch", "config.toml", "model.json", *scripts}
    assert all(Path(path).is_file() for path in json.loads(found.stdout)["launch_files"])


def test_a_plan_that_its_backend_refuses_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TorchtitanLauncher, "refusal", lambda self, target: "it is Tuesday")
    plan = tmp_path / "plan"
    found = _plan(plan, "torchtitan", "--json")
    assert isinstance(found.exception, PlanError)
    assert found.exception.code == "FYC-L14"
    assert found.stdout == ""  # the error is the one document that --json prints
    assert json.loads((plan / "plan.json").read_text())["best"] is not None
    assert (plan / "report.md").is_file()
    assert not (plan / "launch.sh").exists()

"""`fyc plan` names the launch files it wrote, and `fyc plan resume` writes them again."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from fyc.cli.main import app

EXAMPLES = Path(__file__).parents[3] / "examples" / "plan"


@pytest.mark.parametrize(
    ("backend", "beside"),
    [("megatron", ()), ("torchtitan", ("config.toml", "model.json")), ("deepspeed", ("ds_config.json",))],
)
def test_the_plan_ends_with_its_launch_files(backend: str, beside: tuple[str, ...], tmp_path: Path) -> None:
    plan = tmp_path / "plan"
    found = CliRunner().invoke(
        app,
        ["plan", "--model", str(EXAMPLES / "llama-3.1-8b" / "config.json"), "--cluster",
         str(EXAMPLES / "h100x512.yaml"), "--seq", "8192", "--global-batch", "512", "--backend", backend,
         "--trials", "1", "--reasoner", "rules", "-o", str(plan)],
    )  # fmt: skip
    assert found.exit_code == 0, found.output
    assert all(name in found.output and (plan / name).is_file() for name in (*beside, "launch.sh", "launch.sbatch"))
    (plan / "launch.sh").unlink()
    again = CliRunner().invoke(app, ["plan", "resume", str(plan), "--trials", "1", "--reasoner", "rules"])
    assert again.exit_code == 0, again.output
    assert (plan / "launch.sh").is_file()

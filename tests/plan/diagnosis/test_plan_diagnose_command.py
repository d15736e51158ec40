"""`fyc plan diagnose` as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from fyc.plan.diagnosis import Diagnosis
from tests.plan.diagnosis.logs import OOM, interleave, megatron, remote_error, torchrun_report, traceback

FYC = str(Path(sys.executable).with_name("fyc"))


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [FYC, "plan", "diagnose", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def failed(tmp_path: Path) -> Path:
    mixed = interleave(0, traceback(5, OOM.format(gpu=5)), remote_error(2), remote_error(3))
    path = tmp_path / "train.log"
    path.write_text("\n".join([*megatron(range(1, 13)), *mixed, *torchrun_report((5, 1))]), encoding="utf-8")
    return path


def test_a_person_reads_what_happened(failed):
    done = run(failed)
    assert (done.returncode, done.stderr) == (0, "")
    for part in (
        "gpu-memory", "first rank      5", "1.96 GiB were wanted", "micro_batch: lower", "nccl-network", "5.401 s",
        "layers.py", "after step      12",
    ):  # fmt: skip
        assert part in done.stdout
    assert "\x1b" not in done.stdout


def test_json_is_one_document(failed):
    done = run(failed, "--json")
    assert done.returncode == 0
    found = Diagnosis.model_validate_json(done.stdout)
    assert (found.status, found.kind, found.rank, found.after_step) == ("failed", "gpu-memory", 5, 12)
    assert found.progress is not None
    assert json.loads(done.stdout)["allowed_edits"][0] == {"field": "micro_batch", "change": "lower", "values": []}


def test_a_run_that_went_well(tmp_path):
    path = tmp_path / "train.log"
    path.write_text("\n".join(megatron(range(1, 101))), encoding="utf-8")
    done = run(path)
    assert done.returncode == 0
    assert "status  ok" in done.stdout
    assert "97 lines measured" in done.stdout


def test_what_is_no_log_exits_2(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes((300).to_bytes(8, "little") + b'{"a":' + b" " * 400)
    done = run(path, "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["code"] == "FYC-L01"
    assert "safetensors" in done.stderr
    assert run(tmp_path / "none").returncode == 2


def test_a_log_that_says_nothing_exits_7(tmp_path):
    path = tmp_path / "train.log"
    path.write_text("hello\n", encoding="utf-8")
    done = run(path)
    assert done.returncode == 7
    assert "neither a failure" in done.stdout
    assert json.loads(run(path, "--json").stdout)["status"] == "unfinished"


def test_markup_in_a_log_is_text(tmp_path):
    path = tmp_path / "train.log"
    path.write_text("[rank0]: ValueError: [red]x[/red] [link=evil]y\x1b[2J\u202e", encoding="utf-8")
    done = run(path)
    assert "ValueError: [red]x[/red] [link=evil]y\n" in done.stdout


def test_help_needs_neither_torch_nor_numpy():
    code = (
        "import sys\nfrom fyc.cli.main import main\ntry:\n    main(['plan', 'diagnose', '--help'])\n"
        "except SystemExit as left:\n    assert left.code == 0\n"
        "assert not {'torch', 'numpy', 'rich', 'fyc.plan'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_a_diagnosis_needs_no_torch(failed):
    code = (
        "import sys\nfrom fyc.plan.diagnosis import diagnose\ndiagnose(sys.argv[1])\nassert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, failed], check=True, capture_output=True)

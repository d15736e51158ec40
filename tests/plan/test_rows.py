"""Measured rows: what is read, what is refused, and why."""

from pathlib import Path

import pytest

from fyc.errors import PlanError
from fyc.plan.rows import COLUMNS, Case, case_of, read_rows, read_sources

LLAMA = {
    "source": "pytorch/torchtitan:x", "model": "LLAMA3-8B", "params_B": "8.03", "hidden": "4096.0", "layers": "32",
    "heads": "32", "kv_heads": "8", "ffn": "14336", "vocab": "128256", "seq": "8192", "gpus": "8", "gpu_type": "h100",
    "tp": "1", "pp": "1", "dp": "8", "cp": "1", "ep": "1", "mbs": "2", "gbs": "16", "precision": "bf16",
    "recompute": "selective", "zero_or_fsdp": "fsdp2", "metric": "tokens_s_gpu", "value": "5762", "notes": "",
}  # fmt: skip


def _file(folder: Path, *rows: dict[str, str]) -> Path:
    path = folder / "rows.csv"
    lines = [",".join(COLUMNS), *(",".join(row.get(name, "") for name in COLUMNS) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _only(folder: Path, **changes: str) -> Case | str:
    return case_of(read_rows(_file(folder, LLAMA | changes))[0], read_sources())


def test_a_row_becomes_a_job_and_a_layout(tmp_path: Path) -> None:
    case = _only(tmp_path)
    assert isinstance(case, Case)
    assert case.seconds == pytest.approx(16 * 8192 / 5762 / 8)
    assert (case.layout.zero, case.layout.dp, case.layout.recompute) == (3, 8, "selective")
    assert case.job.model.gated
    assert case.job.model.formula_parameters == pytest.approx(8.03e9, rel=1e-3)
    assert case.job.stack.name == "torchtitan"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"hidden": ""}, "architecture not stated"),
        ({"gbs": ""}, "batch or sequence not stated"),
        ({"gpu_type": "tpu"}, "GPU type unknown"),
        ({"dp": "4"}, "degrees not stated or inconsistent"),
        ({"tp": ""}, "degrees not stated or inconsistent"),
        ({"notes": "task=LoRA"}, "not full training (LoRA)"),
        ({"metric": "joules"}, "metric not predicted"),
    ],
)
def test_what_cannot_be_predicted_has_a_reason(tmp_path: Path, changes: dict[str, str], reason: str) -> None:
    assert _only(tmp_path, **changes) == reason


def test_hardware_flops_count_the_recomputation(tmp_path: Path) -> None:
    gpt = {"model": "GPT", "metric": "tflops_per_gpu", "value": "100"}
    model = _only(tmp_path, **gpt)
    hardware = _only(tmp_path, **gpt, notes="HARDWARE flops")
    assert isinstance(model, Case)
    assert isinstance(hardware, Case)
    assert model.seconds is not None
    assert hardware.seconds is not None
    assert 1.2 < hardware.seconds / model.seconds < 1.7


@pytest.mark.parametrize("value", ["x", "", "-1", "nan", "inf"])
def test_a_value_that_is_no_measurement_is_refused_with_its_line(tmp_path: Path, value: str) -> None:
    path = _file(tmp_path, LLAMA, LLAMA | {"value": value})
    with pytest.raises(PlanError) as info:
        read_rows(path)
    assert info.value.code == "FYC-L05"
    assert ":3" in info.value.where


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("source,model\na,b\n", encoding="utf-8")
    with pytest.raises(PlanError, match="FYC-L05") as info:
        read_rows(path)
    assert "zero_or_fsdp" in info.value.why


def test_a_wrong_file_of_sources_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "sources.yaml"
    path.write_text("- {match: a, stack: b, network_gbs: 1, colour: red}\n", encoding="utf-8")
    with pytest.raises(PlanError, match="FYC-L04"):
        read_sources(path)

"""Judging the model: on the ten published rows of arXiv 2104.04473, Table 1, and on rows made to be right or wrong."""

import csv
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from fyc.plan.estimate import estimate
from fyc.plan.layout import Layouts
from fyc.plan.rows import Case, case_of, read_rows, read_sources
from fyc.plan.validate import choice_regret, choose_rows, short_source, validate

SC21 = Path(__file__).parent / "sc21_table1.csv"


def _rewrite(path: Path, **changes: object) -> Path:
    rows = list(csv.DictReader(SC21.open(encoding="utf-8")))
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, rows[0].keys())
        writer.writeheader()
        for i, row in enumerate(rows):
            writer.writerow(row | {name: value(i, row) for name, value in changes.items()})  # type: ignore[operator]
    return path


def _predicted() -> list[float]:
    cases = [case_of(row, read_sources()) for row in read_rows(SC21)]
    good = [case for case in cases if isinstance(case, Case)]
    return [float(estimate(c.job, Layouts.of([c.layout])).seconds[0]) for c in good]


def test_the_published_table_is_predicted_within_five_percent() -> None:
    found = validate(SC21, read_sources())
    score = next(s for s in found.scores if s.name != "all")
    assert (found.predicted, score.rows) == (10, 10)
    assert score.mape < 0.05
    assert score.mape < score.constant_mfu  # type: ignore[operator]
    assert score.spearman > 0.9  # type: ignore[operator]


def test_rows_that_are_the_prediction_have_no_error(tmp_path: Path) -> None:
    seconds = _predicted()
    path = _rewrite(tmp_path / "exact.csv", metric=lambda *_: "iter_s", value=lambda i, _: seconds[i])
    score = validate(path, read_sources()).scores[0]
    assert (score.mape, score.bias, score.inside) == (pytest.approx(0), pytest.approx(0), 1.0)


def test_calibration_finds_a_cluster_that_is_slower_throughout(tmp_path: Path) -> None:
    seconds = _predicted()
    path = _rewrite(tmp_path / "slow.csv", metric=lambda *_: "iter_s", value=lambda i, _: 1.25 * seconds[i])
    plain = validate(path, read_sources())
    calibrated = validate(path, read_sources(), calibration_rows=4)
    assert plain.scores[0].mape == pytest.approx(0.2, abs=0.01)
    assert calibrated.scores[0].mape < 0.06
    assert calibrated.predicted == 6
    used = {p.line for p in plain.predictions} - {p.line for p in calibrated.predictions}
    assert len(used) == 4


def test_a_step_stated_in_two_units_does_not_judge_its_own_calibration(tmp_path: Path) -> None:
    """The ten steps once as seconds and once as TFLOP/s: what one of them calibrates, neither row judges."""
    seconds = _predicted()
    slow = _rewrite(tmp_path / "slow.csv", metric=lambda *_: "iter_s", value=lambda i, _: 1.25 * seconds[i])
    twins = SC21.read_text(encoding="utf-8").splitlines()[1:6]
    slow.write_text(slow.read_text(encoding="utf-8") + "\n".join(twins) + "\n", encoding="utf-8")
    plain = {p.line for p in validate(slow, read_sources()).predictions}
    kept = {p.line for p in validate(slow, read_sources(), calibration_rows=5).predictions}
    used = {line for line in plain - kept if line <= 11}
    assert len(used) == 5
    assert plain - kept - used == {line + 10 for line in used if line <= 6}


def test_rows_to_calibrate_on_differ() -> None:
    cases = [case for row in read_rows(SC21) if isinstance(case := case_of(row, read_sources()), Case)]
    chosen = choose_rows(cases, 4)
    assert len(set(chosen)) == 4


def test_regret_counts_the_loss_of_the_choice(tmp_path: Path) -> None:
    """Four layouts of one job; measured times that turn the predicted order round."""
    degrees = [(8, 1, 8), (4, 2, 8), (2, 4, 8), (1, 8, 8)]
    same = {
        "hidden": 4096, "layers": 32, "heads": 32, "kv_heads": 32, "ffn": 16384, "gpus": 64, "vpp": 1, "mbs": 1,
        "gbs": 512, "dp": 8, "metric": "iter_s",
    }  # fmt: skip
    constant = {name: (lambda _, __, v=value: v) for name, value in same.items()}
    path = _rewrite(
        tmp_path / "rows.csv", **constant, tp=lambda i, _: degrees[i % 4][0], pp=lambda i, _: degrees[i % 4][1],
        value=lambda i, _: 1.0,
    )  # fmt: skip
    order = [p.predicted for p in validate(path, read_sources()).predictions[:4]]
    best = order.index(min(order))
    path = _rewrite(path, **constant, tp=lambda i, _: degrees[i % 4][0], pp=lambda i, _: degrees[i % 4][1],
                    value=lambda i, _: 2.0 if i % 4 == best else 1.6)  # fmt: skip
    regret = validate(path, read_sources()).regrets[0]
    assert (regret.groups, regret.exact) == (1, 0)
    assert regret.mean == pytest.approx(0.25)


def test_a_layout_measured_twice_counts_by_its_median() -> None:
    cases = [case for row in read_rows(SC21) if isinstance(case := case_of(row, read_sources()), Case)]
    one, other = cases[0], cases[1]
    members = [(replace(one, seconds=1.0), 5.0), (replace(one, seconds=3.0), 5.0), (replace(other, seconds=1.6), 6.0)]
    assert choice_regret(members) == pytest.approx(2.0 / 1.6 - 1)


def test_a_row_that_ran_out_of_memory_is_not_called_feasible(tmp_path: Path) -> None:
    path = _rewrite(tmp_path / "oom.csv", metric=lambda *_: "oom", value=lambda *_: 1, mbs=lambda *_: 64)
    rows = list(csv.DictReader(path.open(encoding="utf-8")))
    assert rows
    found = validate(path, read_sources())
    assert found.oom_rows > 0
    assert found.oom_called_feasible == 0


@pytest.mark.parametrize(
    ("source", "short"),
    [
        ("VIA-Research/vTrain:data/ground_truth_multi.csv@f8dda84", "vTrain/ground_truth_multi"),
        ("arXiv 2104.04473 Table 1", "arXiv"),
    ],
)
def test_short_names(source: str, short: str) -> None:
    assert short_source(source) == short


def test_the_command_prints_one_document() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fyc", "plan", "validate", str(SC21), "--json"], capture_output=True, check=True
    )
    data = json.loads(done.stdout)
    assert data["predicted"] == 10
    assert {"measured", "predicted", "error", "inside", "fits"} <= data["predictions"][0].keys()
    shown = subprocess.run(
        [sys.executable, "-m", "fyc", "plan", "validate", str(SC21)], capture_output=True, check=True
    )
    assert b"10 of 10 rows predicted" in shown.stdout

"""Calibration: the factors of a cluster are found again, and a log calibrates through the command."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fyc.plan.calibrate import Observation, calibrate
from fyc.plan.cost.rates import Correction
from fyc.plan.estimate import estimate
from fyc.plan.job import Job
from fyc.plan.layout import Layout, Layouts
from tests.plan.jobs import make_job

LAYOUTS = [
    Layout(tp=8, dp=64, zero=1, sequence_parallel=True),
    Layout(tp=4, pp=4, dp=32, zero=1, sequence_parallel=True),
    Layout(tp=2, pp=8, dp=32, zero=1, recompute="full", sequence_parallel=True),
    Layout(tp=8, pp=2, dp=32, zero=1, micro_batch=2, recompute="full", sequence_parallel=True),
    Layout(tp=1, pp=16, dp=32, zero=1, recompute="selective"),
]


def seconds(job: Job, layout: Layout, by: Correction | None = None) -> float:
    return float(estimate(job, Layouts.of([layout]), by).seconds[0])


@pytest.mark.parametrize(
    "truth", [Correction(product=1.2), Correction(product=0.9, data=1.8), Correction(streaming=1.3)]
)
def test_a_calibrated_model_predicts_a_layout_it_has_not_seen(truth: Correction) -> None:
    job = make_job()
    found = calibrate([Observation(job, layout, seconds(job, layout, truth)) for layout in LAYOUTS[:4]], check=False)
    measured = seconds(job, LAYOUTS[4], truth)
    before = abs(seconds(job, LAYOUTS[4]) / measured - 1)
    after = abs(seconds(job, LAYOUTS[4], found) / measured - 1)
    assert after < max(before / 2, 0.02)


def test_measurements_that_are_only_noise_change_nothing() -> None:
    job, rng = make_job(), np.random.default_rng(7)
    noisy = [Observation(job, x, seconds(job, x) * float(np.exp(rng.normal(0, 0.05)))) for x in LAYOUTS]
    assert calibrate(noisy) == Correction()


def test_one_wrong_measurement_does_not_decide() -> None:
    job = make_job()
    seen = [Observation(job, x, seconds(job, x) * (3.0 if i == 2 else 1.0)) for i, x in enumerate(LAYOUTS)]
    found = calibrate(seen, check=False)
    assert seconds(job, LAYOUTS[0], found) == pytest.approx(seconds(job, LAYOUTS[0]), rel=0.05)


def test_memory_is_calibrated_too() -> None:
    job, truth = make_job(), Correction(memory=1.15, memory_gib=1.0)
    peaks = [float(estimate(job, Layouts.of([x]), truth).memory.device[0]) for x in LAYOUTS]
    seen = [Observation(job, x, memory_gib=peak) for x, peak in zip(LAYOUTS, peaks, strict=True)]
    found = calibrate(seen)
    assert found.memory == pytest.approx(1.15, abs=0.02)
    assert found.memory_gib == pytest.approx(1.0, abs=0.5)
    assert (found.product, found.data) == (1.0, 1.0)


def _plan(folder: Path, job: Job, layout: Layout) -> Path:
    path = folder / "plan.json"
    path.write_text(json.dumps({"job": job.model_dump(), "best": {"layout": layout.model_dump()}}), encoding="utf-8")
    return path


def _log(folder: Path, step: float) -> Path:
    path = folder / "train.log"
    lines = [f" iteration {i}/ 100 | elapsed time per iteration (ms): {1000 * step:.1f} |" for i in range(1, 21)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_log_calibrates_an_estimate(tmp_path: Path) -> None:
    job, layout = make_job(), LAYOUTS[1]
    slow = 1.1 * seconds(job, layout)
    output = tmp_path / "mine.json"
    command = [sys.executable, "-m", "fyc", "plan", "calibrate", "--log", str(_log(tmp_path, slow))]
    command += ["--plan", str(_plan(tmp_path, job, layout)), "-o", str(output), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = Correction.model_validate_json(output.read_text(encoding="utf-8"))
    assert json.loads(done.stdout) == found.model_dump()
    assert seconds(job, layout) < 0.96 * slow < seconds(job, layout, found) < slow


@pytest.mark.parametrize(
    ("log", "plan", "code"),
    [("loss is fine\n" * 9, None, "FYC-L10"), (None, "{}", "FYC-L12"), (None, "no json", "FYC-L12")],
)
def test_what_cannot_be_calibrated_is_said(log: str | None, plan: str | None, code: str, tmp_path: Path) -> None:
    job, layout = make_job(), LAYOUTS[1]
    paths = _log(tmp_path, 1.0), _plan(tmp_path, job, layout)
    for path, text in zip(paths, (log, plan), strict=True):
        if text is not None:
            path.write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "fyc", "plan", "calibrate", "--log", str(paths[0]), "--plan", str(paths[1])]
    done = subprocess.run([*command, "-o", str(tmp_path / "c.json")], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert code in done.stderr
    assert not (tmp_path / "c.json").exists()

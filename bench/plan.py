"""How good the predictions of `fyc plan` are: the tables of docs/plan.md.

    python bench/plan.py ROWS.csv [ROWS.csv ...]      # `make bench-plan ROWS="..."`

Uncalibrated: the constants that come with fyc. Calibrated: factors from five rows of the same source and GPU type,
which are then left out. Constant MFU: the median MFU of the very rows it is judged on. The column "other half" holds
the rows that the constants were not fitted on (odd lines).
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path

import numpy as np

from fyc.plan.rows import MEMORY_METRICS, TIME_METRICS, read_sources
from fyc.plan.validate import Prediction, Validation, validate

TIME, MEMORY = tuple(TIME_METRICS), tuple(MEMORY_METRICS)
# name, part of the source, metrics, precisions (low: fp8 and below), target uncalibrated and calibrated
SETS = (
    ("SC'21 Table 1", "cases_april2021", TIME, None, 0.05, 0.03),
    ("arXiv 2205.05198 Table 5", "2205.05198", TIME, None, 0.05, 0.03),
    ("vTrain multi-node A100", "ground_truth_multi", TIME, None, 0.10, 0.07),
    ("llm-foundry A100, H100 bf16", "llm-foundry", TIME, False, 0.09, 0.06),
    ("BLOOM step times", "chronicles-prequel", TIME, None, 0.10, 0.07),
    ("BLOOM memory", "chronicles-prequel", MEMORY, None, 0.12, 0.08),
    ("torchtitan bf16 throughput", "torchtitan", TIME, False, 0.07, 0.05),
    ("torchtitan bf16 memory", "torchtitan", MEMORY, False, 0.08, 0.05),
    ("torchtitan fp8 throughput", "torchtitan", TIME, True, None, None),
    ("torchtitan fp8 memory", "torchtitan", MEMORY, True, None, None),
    ("Megatron-Bridge", "Megatron-Bridge", TIME, None, 0.15, 0.10),
    ("vTrain single-node", "ground_truth_single", TIME, None, 0.15, 0.10),
)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="+", type=Path)
    parser.add_argument("--clusters", type=Path, help="instead of the facts about sources that come with fyc")
    options = parser.parse_args()
    sources = read_sources(options.clusters)
    plain = [validate(path, sources) for path in options.rows]
    calibrated = [validate(path, sources, calibration_rows=5) for path in options.rows]
    print("| set | rows | uncalibrated | other half | bias | calibrated | target | constant MFU |")
    print("|---|---|---|---|---|---|---|---|")
    for name, source, metrics, low, target, target_calibrated in SETS:
        mine = _of(plain, source, metrics, low)
        if not mine:
            continue
        after = _of(calibrated, source, metrics, low)
        goal = "" if target is None else f"{target:.0%} / {target_calibrated:.0%}"
        mfu = _constant_mfu(plain, source) if metrics == TIME else ""
        half = _mape([p for p in mine if p.line % 2 == 1])
        bias = np.mean([p.error for p in mine])
        print(f"| {name} | {len(mine)} | {_mape(mine)} | {half} | {bias:+.1%} | {_mape(after)} | {goal} | {mfu} |")
    _print_rest(plain)


def _of(results: list[Validation], source: str, metrics: tuple[str, ...], low: bool | None) -> list[Prediction]:
    return [
        p
        for result in results
        for p in result.predictions
        if source in p.source and p.metric in metrics and (low is None or p.low_precision == low)
    ]


def _mape(rows: list[Prediction]) -> str:
    return f"{np.mean([abs(p.error) for p in rows]):.1%}" if rows else "no rows"


def _constant_mfu(results: list[Validation], source: str) -> str:
    """Of the scores of the set's GPU types, weighted by rows: a constant for each."""
    scores = [s for r in results for s in r.scores if s.kind == "time" and s.source is not None and source in s.source]
    rows = sum(s.rows for s in scores)
    return f"{sum((s.constant_mfu or 0) * s.rows for s in scores) / rows:.1%}" if rows else ""


def _print_rest(results: list[Validation]) -> None:
    print("\n| choosing by prediction | groups | best one chosen | mean loss | worst |\n|---|---|---|---|---|")
    for r in (r for result in results for r in result.regrets):
        print(f"| {r.name} | {r.groups} | {r.exact} | {r.mean:.2%} | {r.worst:.1%} |")
    times = [p for result in results for p in result.predictions if p.inside is not None]
    print(f"\n80 % intervals hold {np.mean([p.inside for p in times]):.0%} of {len(times)} times.")
    oom = sum(result.oom_rows for result in results)
    print(f"{sum(result.oom_called_feasible for result in results)} of {oom} out-of-memory rows are called feasible.")
    skipped: Counter[str] = Counter()
    for result in results:
        skipped.update(result.skipped)
    print(f"{sum(r.predicted for r in results)} of {sum(r.rows for r in results)} rows predicted; not predicted:")
    for reason, count in skipped.items():
        print(f"- {count}: {reason}")


if __name__ == "__main__":
    main()

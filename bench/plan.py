"""How good the predictions of `fyc plan` are: the tables of docs/plan.md.

    python bench/plan.py ROWS.csv [ROWS.csv ...]      # `make bench-plan ROWS="..."`
    python bench/plan.py ROWS.csv --calculon DIR      # beside calculon, from a checkout of it, on the same rows

Uncalibrated: the constants that come with fyc. Calibrated: factors from five rows of the same source and GPU type,
which are then left out. Constant MFU: the median MFU of the very rows it is judged on. The column "other half" holds
the rows that the constants were not fitted on (odd lines). calculon is judged on the rows that it can express; where
these are not all, their number stands beside it, and its choices are compared on groups that it can express whole.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from plan_calculon import Calculon

from fyc.plan.rows import MEMORY_METRICS, TIME_METRICS, Case, Source, read_rows, read_sources
from fyc.plan.validate import (
    MIN_GROUP,
    Prediction,
    Validation,
    choice_regret,
    job_key,
    short_source,
    split_cases,
    validate,
)

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
    parser.add_argument("--calculon", type=Path, help="checkout of github.com/calculon-ai/calculon")
    options = parser.parse_args()
    sources = read_sources(options.clusters)
    peer = _peer(options.rows, sources, options.calculon) if options.calculon else {}
    plain = [validate(path, sources) for path in options.rows]
    calibrated = [validate(path, sources, calibration_rows=5) for path in options.rows]
    print("| set | rows | uncalibrated | other half | bias | calibrated | target | constant MFU | calculon stock |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name, source, metrics, low, target, target_calibrated in SETS:
        mine = _of(plain, source, metrics, low)
        if not mine:
            continue
        after = _of(calibrated, source, metrics, low)
        goal = "" if target is None else f"{target:.0%} / {target_calibrated:.0%}"
        mfu = _constant_mfu(plain, source) if metrics == TIME else ""
        half = _mape([p.error for p in mine if p.line % 2 == 1])
        bias = np.mean([p.error for p in mine])
        mape = _mape([p.error for p in mine])
        cells = (mape, half, f"{bias:+.1%}", _mape([p.error for p in after]), goal, mfu, _peer_cell(mine, peer))
        print("|", " | ".join((name, str(len(mine)), *cells)), "|")
    _print_rest(plain)


def _peer(paths: list[Path], sources: Sequence[Source], checkout: Path) -> dict[tuple[str, int], float]:
    """Errors of calculon by source and line, and a table of what choosing by its prediction costs."""
    calculon = Calculon(checkout)
    errors: dict[tuple[str, int], float] = {}
    groups: dict[tuple[object, ...], list[tuple[Case, float | None]]] = {}
    for path in paths:
        for case in split_cases(read_rows(path), sources)[0]:
            if case.seconds is None:
                continue
            seconds = calculon.seconds(case)
            groups.setdefault(job_key(case), []).append((case, seconds))
            if seconds is not None:
                errors[case.row.source, case.row.line] = seconds / case.seconds - 1
    losses: dict[str, list[float]] = {}
    for key, members in groups.items():
        found = [(case, seconds) for case, seconds in members if seconds is not None]
        if len(found) == len(members) and len({case.layout.key() for case, _ in members}) >= MIN_GROUP:
            losses.setdefault(short_source(str(key[0])), []).append(choice_regret(found))
    print("| choosing by calculon | groups | best one chosen | mean loss | worst |\n|---|---|---|---|---|")
    for name, v in losses.items():
        print(f"| {name} | {len(v)} | {sum(r == 0 for r in v)} | {np.mean(v):.2%} | {max(v):.1%} |")
    print()
    return errors


def _peer_cell(rows: list[Prediction], peer: dict[tuple[str, int], float]) -> str:
    found = [peer[p.source, p.line] for p in rows if (p.source, p.line) in peer]
    if not found:
        return ""
    return _mape(found) + ("" if len(found) == len(rows) else f" ({len(found)} rows)")


def _of(results: list[Validation], source: str, metrics: tuple[str, ...], low: bool | None) -> list[Prediction]:
    return [
        p
        for result in results
        for p in result.predictions
        if source in p.source and p.metric in metrics and (low is None or p.low_precision == low)
    ]


def _mape(errors: Sequence[float]) -> str:
    return f"{np.mean(np.abs(errors)):.1%}" if errors else "no rows"


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

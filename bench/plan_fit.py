"""Fit the constants of the cost model on measured rows, and say how well they carry over.

    python bench/plan_fit.py ROWS.csv [ROWS.csv ...]                  # fit on every second row, show both halves
    python bench/plan_fit.py ROWS.csv --leave-out source              # once without each source, judged on it
    python bench/plan_fit.py ROWS.csv --leave-out gpu                 # once without each GPU generation
    python bench/plan_fit.py ROWS.csv --write                         # and write them into fyc/plan

Rows in even lines of the file are fitted, those in odd lines only looked at. Every constant has a prior: it may move
from its start, but each per cent costs. Sources weigh the same however many rows they have; a row that is far off
counts less.
"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fyc.plan.cost import kernels
from fyc.plan.cost.rates import Rates
from fyc.plan.cost.step import step_time
from fyc.plan.job import Job
from fyc.plan.layout import Layouts
from fyc.plan.rows import Case, read_rows, read_sources
from fyc.plan.validate import score_name, short_source, split_cases

DATA = Path(__file__).parent.parent / "fyc" / "plan" / "data"
GENERATIONS = {"a": "ampere", "h": "hopper", "b": "blackwell", "g": "blackwell"}
HUBER = 0.1  # errors beyond this count in proportion, not squared
PRIOR_WEIGHT = 0.02


@dataclass(frozen=True)
class Constant:
    """A constant that is fitted: where it stands, where it starts, and how far it may go (of its logarithm)."""

    place: str  # generation, stack, or `kernels`, `network`
    name: str
    start: float
    spread: float

    def __str__(self) -> str:
        return f"{self.place}.{self.name}"


def constants() -> list[Constant]:
    """Everything that is fitted, from where it stands now."""
    from fyc.plan.hardware import gpu
    from fyc.plan.stack import stack

    found = []
    for generation, name in (("ampere", "a100-80gb"), ("hopper", "h100-sxm"), ("blackwell", "b200")):
        g = gpu(name)
        spreads = {"gemm_16": 0.1, "gemm_8": 0.15, "hbm_share": 0.1, "nvlink_share": 0.1, "kernel_us": 0.3}
        spreads["nvlink_latency_us"] = 0.3
        found += [
            Constant(generation, n, getattr(g, n).value, s) for n, s in spreads.items() if getattr(g, n) is not None
        ]
        found += [Constant(generation, f"attention.{n}", 1.0, 0.15) for n in g.attention]
    fields = {"elementwise": 0.2, "logit_traffic": 0.2, "host_us": 0.2, "reduce_bytes": 0.3, "overlap_expert": 0.3}
    of_stack = {
        "megatron-2021": ("elementwise", "logit_traffic"),
        "megatron-deepspeed": ("elementwise", "logit_traffic", "host_us", "reduce_bytes"),
        "llm-foundry": ("elementwise", "logit_traffic"),
        "torchtitan": ("elementwise",),
        "torchtitan-eager": ("elementwise",),
        "megatron-core": ("elementwise", "overlap_expert"),
        "megatron-bridge-2026": ("elementwise", "overlap_expert"),
    }
    for name, wanted in of_stack.items():
        found += [Constant(name, field, getattr(stack(name), field), fields[field]) for field in wanted]
    found += [Constant("kernels", n, getattr(kernels, n), 0.2) for n in ("PROLOGUE", "UNEVEN", "MISALIGNED")]
    return found


class Fit:
    """Rows with what is needed to predict them again and again."""

    def __init__(self, cases: list[Case], names: list[Constant]) -> None:
        self.cases = [case for case in cases if case.seconds is not None]
        self.constants = names
        self.layouts = [Layouts.of([case.layout]) for case in self.cases]
        self.measured = np.log([case.seconds for case in self.cases if case.seconds is not None])
        self.fitted = np.array([case.row.line % 2 == 0 for case in self.cases])
        self.sets = [score_name(case) for case in self.cases]

    def predict(self, logs: np.ndarray, which: np.ndarray) -> np.ndarray:
        """Logarithm of the predicted times of some rows."""
        values = {str(c): float(np.exp(x)) for c, x in zip(self.constants, logs, strict=True)}
        for name in ("PROLOGUE", "UNEVEN", "MISALIGNED"):
            setattr(kernels, name, values[f"kernels.{name}"])
        times = []
        for i in which:
            job = _with(self.cases[i].job, values)
            rates = Rates.of(job.cluster, job.stack, job.precision)
            times.append(float(step_time(job, self.layouts[i], rates).total[0]))
        return np.log(times)

    def run(self, use: np.ndarray, iterations: int) -> np.ndarray:
        """The constants that fit the rows where `use` is true."""
        start = np.log([c.start for c in self.constants])
        spread = np.array([c.spread for c in self.constants])
        which = np.flatnonzero(use)
        counts = Counter(self.sets[i] for i in which)
        weight = np.array([np.sqrt(2 / counts[self.sets[i]]) for i in which])

        def residuals(logs: np.ndarray) -> np.ndarray:
            off = self.predict(logs, which) - self.measured[which]
            size = np.abs(off)
            robust = np.where(size < HUBER, size, np.sqrt(np.maximum(2 * HUBER * size - HUBER**2, 0)))
            return np.r_[np.sign(off) * robust * weight, (logs - start) / spread * PRIOR_WEIGHT]

        logs = start.copy()
        for _ in range(iterations):
            here = residuals(logs)
            slopes = np.stack([(residuals(logs + 0.02 * unit) - here) / 0.02 for unit in np.eye(len(logs))], axis=1)
            change = np.clip(np.linalg.lstsq(slopes, -here, rcond=None)[0], -0.2, 0.2)
            loss = float((here**2).sum())
            step = next((s for s in (1.0, 0.5, 0.25) if float((residuals(logs + s * change) ** 2).sum()) < loss), 0.0)
            logs = logs + step * change
            if step == 0.0:
                break
        return logs

    def table(self, logs: np.ndarray, title: str, rows: np.ndarray | None = None) -> None:
        """Errors by set, on the rows that were fitted and on the others."""
        which = np.arange(len(self.cases)) if rows is None else np.flatnonzero(rows)
        off = np.expm1(self.predict(logs, which) - self.measured[which])
        print(f"\n| {title} | rows | fitted half | bias | other half | bias |\n|---|---|---|---|---|---|")
        for name in dict.fromkeys(self.sets[i] for i in which):
            at = np.array([self.sets[i] == name for i in which])
            parts = [off[at & self.fitted[which]], off[at & ~self.fitted[which]]]
            cells = [f"{np.abs(p).mean():.1%} | {p.mean():+.1%}" if len(p) else " | " for p in parts]
            print(f"| {name} | {at.sum()} | {cells[0]} | {cells[1]} |")


def generation(case: Case) -> str:
    """Ampere, Hopper or Blackwell."""
    return GENERATIONS[case.job.cluster.gpu.name[0]]


def _with(job: Job, values: dict[str, float]) -> Job:
    """The job with other constants."""
    kind = GENERATIONS[job.cluster.gpu.name[0]]
    g = job.cluster.gpu
    changes = {}
    for name in ("gemm_16", "gemm_8", "hbm_share", "nvlink_share", "nvlink_latency_us", "kernel_us"):
        if f"{kind}.{name}" in values and getattr(g, name) is not None:
            changes[name] = getattr(g, name).model_copy(update={"value": values[f"{kind}.{name}"]})
    attention = {}
    for name, rates in g.attention.items():
        factor = values.get(f"{kind}.attention.{name}", 1.0)
        scaled = {way: c.model_copy(update={"value": c.value * factor}) for way, c in rates}
        attention[name] = rates.model_copy(update=scaled)
    gpu = g.model_copy(update={**changes, "attention": attention})
    fields = {key.rpartition(".")[2]: v for key, v in values.items() if key.rpartition(".")[0] == job.stack.name}
    fields = {key: min(v, 1.0) if key.startswith("overlap") else v for key, v in fields.items()}
    return job.model_copy(
        update={
            "cluster": job.cluster.model_copy(update={"gpu": gpu}),
            "stack": job.stack.model_copy(update=fields),
        }
    )


def write(names: list[Constant], logs: np.ndarray) -> None:
    """Put the constants where they belong."""
    values = {str(c): float(np.exp(x)) for c, x in zip(names, logs, strict=True)}
    for path in (DATA / "gpus").glob("*.yaml"):
        kind, section, lines = GENERATIONS[path.stem[0]], "", []
        for line in path.read_text(encoding="utf-8").splitlines():
            head = re.match(r"  (\w+):$", line)
            section = head[1] if head else section
            found = re.match(r"(\s*)(\w+): \{value: ([\d.]+)(.*)", line)
            if found and found[2] in ("forward", "backward"):
                value = float(found[3]) * values.get(f"{kind}.attention.{section}", 1.0)
                line = f"{found[1]}{found[2]}: {{value: {value:.3g}{found[4]}"  # noqa: PLW2901
            elif found and f"{kind}.{found[2]}" in values:
                line = f"{found[1]}{found[2]}: {{value: {values[f'{kind}.{found[2]}']:.3g}{found[4]}"  # noqa: PLW2901
            lines.append(line)
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    _rewrite_stacks(values)
    source = Path(kernels.__file__)
    text = source.read_text(encoding="utf-8")
    for name in ("PROLOGUE", "UNEVEN", "MISALIGNED"):
        text = re.sub(rf"(?m)^{name} = [\d.]+", f"{name} = {values[f'kernels.{name}']:.3g}", text)
    source.write_text(text, encoding="utf-8")


def _rewrite_stacks(values: dict[str, float]) -> None:
    path, section, lines = DATA / "stacks.yaml", "", []
    for line in path.read_text(encoding="utf-8").splitlines():
        head = re.match(r"([\w-]+):$", line)
        section = head[1] if head else section
        found = re.match(r"  (\w+): [\d.]+(.*)", line)
        if found and f"{section}.{found[1]}" in values:
            line = f"  {found[1]}: {values[f'{section}.{found[1]}']:.3g}{found[2]}"  # noqa: PLW2901
        lines.append(line)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    """Fit and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="+", type=Path)
    parser.add_argument("--iterations", type=int, default=4)
    parser.add_argument("--leave-out", choices=["source", "gpu"])
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    rows = [row for path in options.rows for row in read_rows(path)]
    cases, _ = split_cases(rows, read_sources())
    names = constants()
    fit = Fit(cases, names)
    if options.leave_out:
        of = (lambda case: short_source(case.row.source)) if options.leave_out == "source" else generation
        labels = np.array([of(case) for case in fit.cases])
        for label in dict.fromkeys(labels.tolist()):
            logs = fit.run(labels != label, options.iterations)
            fit.table(logs, f"fitted without {label}", labels == label)
        return
    logs = fit.run(fit.fitted, options.iterations)
    fit.table(logs, "set")
    print("\n| constant | start | fitted |\n|---|---|---|")
    for c, x in zip(names, logs, strict=True):
        print(f"| {c} | {c.start:.4g} | {np.exp(x):.4g} |")
    if options.write:
        write(names, logs)


if __name__ == "__main__":
    main()

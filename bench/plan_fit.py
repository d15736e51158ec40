"""Fit the constants of the cost model on measured rows, and say how well they carry over.

    python bench/plan_fit.py ROWS.csv [ROWS.csv ...]                  # fit on every second row, show both halves
    python bench/plan_fit.py ROWS.csv --leave-out source              # once without each source: half an hour
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
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fyc.plan.cluster import Cluster
from fyc.plan.cost import kernels
from fyc.plan.cost.rates import Rates
from fyc.plan.cost.step import step_time
from fyc.plan.estimate import estimate
from fyc.plan.hardware import gpu
from fyc.plan.job import Job
from fyc.plan.layout import Layouts
from fyc.plan.rows import Case, read_rows, read_sources
from fyc.plan.validate import score_name, split_cases

DATA = Path(__file__).parent.parent / "fyc" / "plan" / "data"
GENERATIONS = {"a": "ampere", "h": "hopper", "b": "blackwell", "g": "blackwell"}
MOST = 80  # rows of a set that are fitted when something is left out
HUBER = 0.1  # errors beyond this count in proportion, not squared
PRIOR_WEIGHT = 0.001  # of one spread of one constant, beside the squared errors of a set


@dataclass(frozen=True)
class Constant:
    """A constant that is fitted: where it stands, where it starts, and how far it may go (of its logarithm)."""

    place: str  # generation, stack, or `kernels`, `network`
    name: str
    start: float
    spread: float

    def __str__(self) -> str:
        return f"{self.place}.{self.name}"


#: What is assumed before any row is looked at, with how far off it may be (of its logarithm): round numbers of
#: documents and micro-benchmarks of each generation, and the same for every framework.
GPU_STARTS = {
    "ampere": {"gemm_16": 0.75, "hbm_share": 0.8, "nvlink_share": 0.75},
    "hopper": {"gemm_16": 0.65, "gemm_8": 0.5, "hbm_share": 0.8, "nvlink_share": 0.75},
    "blackwell": {"gemm_16": 0.65, "gemm_8": 0.5, "hbm_share": 0.8, "nvlink_share": 0.75},
}
LATENCY_STARTS = {"nvlink_latency_us": 10.0, "kernel_us": 5.0}
#: Share of the peak that attention's forward reaches: FlashAttention 1 and 2 (arXiv 2307.08691), 3 (arXiv 2407.08608).
ATTENTION_STARTS = {
    ("ampere", "flash1"): 0.33, ("ampere", "flash2"): 0.5, ("hopper", "flash1"): 0.2, ("hopper", "flash2"): 0.35,
    ("hopper", "flash3"): 0.55, ("blackwell", "flash2"): 0.25, ("blackwell", "flash3"): 0.55,
}  # fmt: skip
STACK_STARTS = {"elementwise": 1.5, "logit_traffic": 30.0, "host_us": 700.0, "reduce_bytes": 3.0, "overlap_expert": 0.3}
KERNEL_STARTS = {"PROLOGUE": 128.0, "UNEVEN": 1.3, "MISALIGNED": 4.0}
SPREADS = {"gemm_16": 0.15, "gemm_8": 0.25, "hbm_share": 0.15, "nvlink_share": 0.2, "attention": 0.3}
OF_STACK = {
    "megatron-2021": ("elementwise", "logit_traffic"),
    "megatron-deepspeed": ("elementwise", "logit_traffic", "host_us", "reduce_bytes"),
    "llm-foundry": ("elementwise", "logit_traffic"),
    "torchtitan": ("elementwise",),
    "torchtitan-eager": ("elementwise",),
    "megatron-core": ("elementwise", "overlap_expert"),
    "megatron-bridge-2026": ("elementwise", "overlap_expert"),
}


def constants() -> list[Constant]:
    """Everything that is fitted, from where it would stand if no row had been seen."""
    found = []
    for generation, name in (("ampere", "a100-80gb"), ("hopper", "h100-sxm"), ("blackwell", "b200")):
        starts = GPU_STARTS[generation] | LATENCY_STARTS
        found += [Constant(generation, n, start, SPREADS.get(n, 0.4)) for n, start in starts.items()]
        for n, rates in gpu(name).attention.items():
            factor = ATTENTION_STARTS[generation, n] / rates.forward.value
            found.append(Constant(generation, f"attention.{n}", factor, SPREADS["attention"]))
    for name, fields in OF_STACK.items():
        found += [Constant(name, field, STACK_STARTS[field], 0.5) for field in fields]
    return found + [Constant("kernels", n, start, 0.4) for n, start in KERNEL_STARTS.items()]


class Fit:
    """Rows with what is needed to predict them again and again."""

    def __init__(self, cases: list[Case], names: list[Constant]) -> None:
        self.cases = [case for case in cases if case.seconds is not None]
        self.constants = names
        jobs: dict[str, list[int]] = {}
        for i, case in enumerate(self.cases):
            jobs.setdefault(case.job.model_dump_json(), []).append(i)
        self.batches = [np.array(rows) for rows in jobs.values()]  # one evaluation predicts all layouts of a job
        self.measured = np.log([case.seconds for case in self.cases if case.seconds is not None])
        self.fitted = np.array([case.row.line % 2 == 0 for case in self.cases])
        self.sets = [score_name(case) for case in self.cases]

    def thinned(self, most: int) -> np.ndarray:
        """Evenly spread rows of every set, not more than so many: large sets weigh no more than small ones anyway."""
        keep = np.zeros(len(self.cases), dtype=bool)
        for name in set(self.sets):
            rows = np.array([i for i, own in enumerate(self.sets) if own == name])
            keep[rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int)]] = True
        return keep

    def predict(self, logs: np.ndarray, which: np.ndarray) -> np.ndarray:
        """Logarithm of the predicted times of some rows."""
        values = {str(c): float(np.exp(x)) for c, x in zip(self.constants, logs, strict=True)}
        for name in ("PROLOGUE", "UNEVEN", "MISALIGNED"):
            setattr(kernels, name, values[f"kernels.{name}"])
        times = np.full(len(self.cases), np.nan)
        for batch in self.batches:
            rows = batch[np.isin(batch, which)]
            if len(rows):
                job = _with(self.cases[rows[0]].job, values)
                layouts = Layouts.of([self.cases[i].layout for i in rows])
                times[rows] = step_time(job, layouts, Rates.of(job.cluster, job.stack, job.precision)).total
        return np.asarray(np.log(times[which]))

    def run(self, use: np.ndarray, iterations: int) -> np.ndarray:
        """The constants that fit the rows where `use` is true."""
        start = np.log([c.start for c in self.constants])
        spread = np.array([c.spread for c in self.constants])
        which = np.flatnonzero(use)
        counts = Counter(self.sets[i] for i in which)
        weight = np.array([1 / counts[self.sets[i]] for i in which])

        def off(logs: np.ndarray) -> np.ndarray:
            return self.predict(logs, which) - self.measured[which]

        def loss(errors: np.ndarray, logs: np.ndarray) -> float:
            size = np.abs(errors)
            huber = np.where(size < HUBER, size**2, 2 * HUBER * size - HUBER**2)
            return float((weight * huber).sum() + (((logs - start) / spread) ** 2).sum() * PRIOR_WEIGHT)

        logs, errors, damping = start.copy(), off(start), 1e-3
        best = loss(errors, logs)
        for _ in range(iterations):  # Levenberg-Marquardt, far errors weighted down
            slopes = np.stack([(off(logs + 0.02 * unit) - errors) / 0.02 for unit in np.eye(len(logs))], axis=1)
            pull = weight * np.minimum(1.0, HUBER / np.maximum(np.abs(errors), 1e-9))
            normal = slopes.T @ (pull[:, None] * slopes) + np.diag(PRIOR_WEIGHT / spread**2)
            gradient = slopes.T @ (pull * errors) + PRIOR_WEIGHT * (logs - start) / spread**2
            before = best
            while damping < 1e6:
                change = np.linalg.solve(normal + damping * np.diag(np.diag(normal)), -gradient)
                new = logs + np.clip(change, -0.3, 0.3)
                there = off(new)
                if loss(there, new) < best:
                    logs, errors, best, damping = new, there, loss(there, new), damping / 4
                    break
                damping *= 4
            if before - best < 1e-5 * before:
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


def leave_out(cases: list[Case], what: str, iterations: int) -> None:
    """Fit from the starts without one source, or one GPU generation, and predict it: as if nobody had measured it."""
    fit = Fit([without_share(case) for case in cases], constants())
    thinned = fit.thinned(MOST)
    shipped = np.array([np.log(estimate(c.job, Layouts.of([c.layout])).seconds[0]) for c in cases if c.seconds])
    labels = np.array([(run_of(case) if what == "source" else generation(case)) for case in fit.cases])
    print("| left out | rows | error | bias | median error | error of the constants that saw it |")
    print("|---|---|---|---|---|---|")
    for label in dict.fromkeys(labels.tolist()):
        out = np.flatnonzero(labels == label)
        logs = fit.run((labels != label) & thinned, iterations)
        off = np.expm1(fit.predict(logs, out) - fit.measured[out])
        seen = np.abs(np.expm1(shipped[out] - fit.measured[out])).mean()
        size = np.abs(off)
        print(
            f"| {label} | {len(out)} | {size.mean():.1%} | {off.mean():+.1%} | {np.median(size):.1%} | {seen:.1%} |",
            flush=True,
        )


def run_of(case: Case) -> str:
    """The entry of the file of sources that a row belongs to."""
    return next(source.match for source in read_sources() if source.match in case.row.source)


def without_share(case: Case) -> Case:
    """A row whose cluster has the usual share of the network's bandwidth, not one that its own source determined."""
    usual = Cluster.model_fields["network_share"].default
    cluster = case.job.cluster.model_copy(update={"network_share": usual})
    return replace(case, job=case.job.model_copy(update={"cluster": cluster}))


def main() -> None:
    """Fit and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="+", type=Path)
    parser.add_argument("--iterations", type=int, default=25)
    parser.add_argument("--leave-out", choices=["source", "gpu"])
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    rows = [row for path in options.rows for row in read_rows(path)]
    cases, _ = split_cases(rows, read_sources())
    names = constants()
    fit = Fit(cases, names)
    if options.leave_out:
        leave_out(cases, options.leave_out, options.iterations)
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

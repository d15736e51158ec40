"""What the team of `fyc plan` gains over the customary setting within 20 trials, beside random and grid search.

    python bench/plan_agents.py ROWS.csv [ROWS.csv ...]

Replay: every group of measured rows with four or more configurations of one job; only these can be tried, the answer is
what was published. Simulated: jobs on a cluster whose factors are drawn at random, so that the cost model is as wrong
about it as about real ones, with 1 % noise on every trial; times are judged without the noise. The starting point is
either the setting that somebody published for this very job (up to six jobs of a source), or the customary setting of
`fyc.plan.expert`: fixed rules that look at memory only. The second table has the gain after fewer trials. No language
model takes part: `bench/plan_llm.py` measures them.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from fyc_plugins.executors.replay import ReplayExecutor
from fyc_plugins.executors.simulate import ModelExecutor

from fyc.plan.agents.coordinator import Coordinator
from fyc.plan.agents.space import Space
from fyc.plan.cluster import Cluster
from fyc.plan.cost.rates import Correction
from fyc.plan.executor import Executor
from fyc.plan.expert import expert_layout
from fyc.plan.job import Job
from fyc.plan.known_models import DEEPSEEK_V3, MIXTRAL_8X7B, QWEN3_30B, QWEN3_235B
from fyc.plan.layout import Layout
from fyc.plan.legal import Limits, violations
from fyc.plan.model import ModelShape
from fyc.plan.pool import MessagePool
from fyc.plan.reasoner import Reasoner, RuleReasoner
from fyc.plan.rows import Case, read_rows, read_sources
from fyc.plan.stack import stack
from fyc.plan.validate import MIN_GROUP, job_key, short_source, split_cases

TRIALS = 20
FEWER = (3, 5, 10)  # budgets of the second table
CONFIRM = 4
FROM_A_SOURCE = 6  # jobs whose published setting is a starting point
SWEEPS = ("VIA-Research/vTrain", "bigscience-workshop")  # tried this and that: their rows are nobody's recommendation
NOISE = 0.01
# How far a real cluster may be from the hardware files: standard deviations of the factors' logarithms.
TRUTH = {"product": 0.08, "streaming": 0.12, "tensor": 0.25, "data": 0.35, "host": 0.25}
_LLAMA = {
    "gated": True,
    "tied": False,
    "rms_norm": True,
    "bias": False,
    "head_dim": 128,
    "kv_heads": 8,
    "vocab": 128256,
}
LLAMA_8B = ModelShape(name="Llama-3.1-8B", hidden=4096, layers=32, heads=32, ffn=14336, **_LLAMA)
LLAMA_70B = ModelShape(name="Llama-3.1-70B", hidden=8192, layers=80, heads=64, ffn=28672, **_LLAMA)
LLAMA_405B = ModelShape(name="Llama-3.1-405B", hidden=16384, layers=126, heads=128, ffn=53248, **_LLAMA)
GPT_175B = ModelShape(
    name="GPT-175B", hidden=12288, layers=96, heads=96, kv_heads=96, head_dim=128, ffn=49152, vocab=51200, gated=False,
    tied=True, rms_norm=False, bias=True, positions=2048,
)  # fmt: skip
# GPU, machines of eight, model, sequence, batch, stack
SIMULATED = (
    ("a100-40gb", 1, LLAMA_8B, 2048, 64, "torchtitan"),
    ("a100-80gb", 8, LLAMA_70B, 4096, 256, "megatron-core"),
    ("a100-80gb", 48, GPT_175B, 2048, 1536, "megatron-core"),
    ("h100-sxm", 1, LLAMA_8B, 8192, 64, "fsdp2"),
    ("h100-sxm", 1, LLAMA_8B, 8192, 64, "torchtitan"),
    ("h100-sxm", 16, LLAMA_70B, 8192, 128, "torchtitan"),
    ("h100-sxm", 64, LLAMA_70B, 8192, 512, "megatron-core"),
    ("h100-sxm", 32, MIXTRAL_8X7B, 4096, 512, "megatron-core"),
    ("h100-sxm", 4, QWEN3_30B, 4096, 256, "megatron-core"),
    ("h100-sxm", 2048, LLAMA_405B, 8192, 2048, "megatron-core"),
    ("h200", 8, LLAMA_8B, 32768, 64, "torchtitan"),
    ("h200", 32, LLAMA_70B, 8192, 512, "megatron-core"),
    ("b200", 16, QWEN3_235B, 4096, 1024, "megatron-core"),
    ("b200", 32, DEEPSEEK_V3, 4096, 2048, "megatron-core"),
    ("b200", 256, LLAMA_405B, 8192, 1024, "megatron-core"),
)

#: Space, executor, expert's layout and budget of trials to the best layout found.
Search = Callable[[Space, Executor, Layout, int], Layout | None]


@dataclass(frozen=True)
class Trip:
    """One job: where it starts, what can be tried, and the true time of a layout."""

    kind: str
    name: str
    space: Space
    executor: Executor
    expert: Layout
    truth: Executor

    def gain(self, search: Search, trials: int = TRIALS) -> float:
        """Throughput of what a search ends with over the expert's, less 1."""
        best = search(self.space, self.executor, self.expert, trials) or self.expert
        start, end = (self.truth.run(self.space.job, layout).iteration_s for layout in (self.expert, best))
        assert start is not None
        assert end is not None
        return start / end - 1


def team(reasoner: Reasoner) -> Search:
    """The team with a reasoner."""

    def run(space: Space, executor: Executor, expert: Layout, trials: int) -> Layout | None:
        with tempfile.TemporaryDirectory() as folder, MessagePool(Path(folder) / "pool.jsonl") as pool:
            confirm = 0 if executor.name == "replay" else min(CONFIRM, trials // 5)
            return Coordinator(space, executor, reasoner, pool, budget=trials, confirm=confirm).run(expert).best

    return run


def drawn(seed: int) -> Search:
    """Random search: layouts of the space in random order."""

    def run(space: Space, executor: Executor, expert: Layout, trials: int) -> Layout | None:
        order = np.random.default_rng(seed).permutation(len(space.estimates.layouts))
        return _fastest(
            space, executor, expert, [space.estimates.layouts[int(i)] for i in order[: 20 * trials]], trials
        )

    return run


def grid(space: Space, executor: Executor, expert: Layout, trials: int) -> Layout | None:
    """Grid search: evenly spread over the list of the layouts that fit."""
    fits = np.flatnonzero(space.estimates.fits) if not space.measured else np.arange(len(space.estimates.layouts))
    at = fits[np.linspace(0, len(fits) - 1, trials).astype(int)] if len(fits) else []
    return _fastest(space, executor, expert, [space.estimates.layouts[int(i)] for i in dict.fromkeys(at)], trials)


def _fastest(space: Space, executor: Executor, expert: Layout, order: list[Layout], trials: int) -> Layout | None:
    """The fastest of the first layouts that the validator approves."""
    times: dict[Layout, float] = {}
    for layout in [expert, *(x for x in order if x != expert and not space.approve(x))][:trials]:
        found = executor.run(space.job, layout).iteration_s
        if found is not None:
            times[layout] = found
    return min(times, key=times.__getitem__) if times else None


def replayed(paths: list[Path]) -> list[Trip]:
    """A trip for every group of measured configurations of one job."""
    rows = [row for path in paths for row in read_rows(path)]
    groups: dict[tuple[object, ...], list[Case]] = {}
    for case in split_cases(rows, read_sources())[0]:
        if case.seconds is not None or case.row.metric == "oom":
            groups.setdefault(job_key(case), []).append(case)
    trips = []
    for key, cases in groups.items():
        ran = {case.layout.key(): case.layout for case in cases if case.seconds is not None}
        if len(ran) < MIN_GROUP:
            continue
        executor, job = ReplayExecutor(cases), cases[0].job
        expert = expert_layout(job, list(ran.values()))
        assert expert is not None
        nodes = "multi-node" if job.cluster.nodes > 1 else "single-node"
        space = Space.of(job, executor.candidates(job))
        trips.append(Trip(f"replay, {nodes}", short_source(str(key[0])), space, executor, expert, executor))
    return trips


def simulated() -> list[Trip]:
    """A trip from the customary setting for each job of the list."""
    rng = np.random.default_rng(20261124)
    trips = []
    for seed, (gpu, nodes, model, sequence, batch, name) in enumerate(SIMULATED):
        network = 25 if gpu.startswith("a100") else 50
        cluster = Cluster.model_validate({"gpu": gpu, "nodes": nodes, "network_gbs": network})
        job = Job(model=model, cluster=cluster, stack=stack(name), sequence=sequence, global_batch=batch)
        expert = expert_layout(job)
        assert expert is not None
        trips.append(_simulation("simulated, from the customary setting", job, expert, seed, rng))
    return trips


def published(paths: list[Path]) -> list[Trip]:
    """A trip from the published setting for jobs of which few configurations were measured, evenly over each source.

    The search recomputes as the publisher did: what software could recompute changed over the years.
    """
    rows = [row for path in paths for row in read_rows(path)]
    jobs: dict[tuple[object, ...], list[Case]] = {}
    for case in split_cases(rows, read_sources())[0]:
        if case.seconds is not None and not violations(case.job, case.layout):
            jobs.setdefault(job_key(case), []).append(case)
    sources: dict[str, list[Case]] = {}
    for key, cases in jobs.items():
        source = str(key[0]).split(":", maxsplit=1)[0]
        if len({case.layout.key() for case in cases}) < MIN_GROUP and source not in SWEEPS:
            sources.setdefault(source, []).append(min(cases, key=lambda case: case.seconds or 0.0))
    rng = np.random.default_rng(20261126)
    trips = []
    for cases in sources.values():
        for i in np.unique(np.linspace(0, len(cases) - 1, min(FROM_A_SOURCE, len(cases))).astype(int)):
            case, kind = cases[int(i)], "simulated, from the published setting"
            limits = Limits(recompute=(case.layout.recompute,))
            trips.append(_simulation(kind, case.job, case.layout, 1000 + len(trips), rng, limits))
    return [trip for trip in trips if trip.truth.run(trip.space.job, trip.expert).iteration_s is not None]


def _simulation(
    kind: str, job: Job, expert: Layout, seed: int, rng: np.random.Generator, limits: Limits | None = None
) -> Trip:
    """A job on a cluster that differs from the cost model by factors drawn at random."""
    truth = Correction(**{part: float(np.exp(rng.normal(0, spread))) for part, spread in TRUTH.items()})
    name = f"{job.model.name}, {job.cluster.gpus} x {job.cluster.gpu.name}, {job.stack.name}"
    executor = ModelExecutor(noise=NOISE, seed=seed, truth=truth)
    return Trip(kind, name, Space.of(job, limits=limits), executor, expert, ModelExecutor(truth=truth))


def interval(values: list[float]) -> str:
    """Mean with its 95 % bootstrap interval, and the median."""
    rng = np.random.default_rng(0)
    sample = np.array(values)
    means = [rng.choice(sample, len(sample)).mean() for _ in range(5000)]
    low, high = np.percentile(means, [2.5, 97.5])
    return f"{sample.mean():+.2%} ({low:+.2%} to {high:+.2%}), median {np.median(sample):+.2%}"


def main() -> None:
    """Run everything and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", type=Path)
    options = parser.parse_args()
    searches: dict[str, Search] = {"team, rules": team(RuleReasoner()), "random": drawn(1), "grid": grid}
    trips = [*replayed(options.rows), *published(options.rows), *simulated()]
    gains = {name: [trip.gain(search) for trip in trips] for name, search in searches.items()}
    print_gains(trips, gains)
    print("\n| trials | jobs |" + "".join(f" {name} |" for name in searches))
    print("|---|---|" + "---|" * len(searches))
    chosen = [i for i, trip in enumerate(trips) if trip.kind.startswith("simulated")]
    for trials in (*FEWER, TRIALS):
        few = {name: [trips[i].gain(search, trials) for i in chosen] for name, search in searches.items()}
        print(f"| {trials} | {len(chosen)} |" + "".join(f" {interval(few[n])} |" for n in searches), flush=True)
    print("\n| job | from | team, rules | random | grid |\n|---|---|---|---|---|")
    for i in chosen:
        cells = " | ".join(f"{gains[name][i]:+.1%}" for name in ("team, rules", "random", "grid"))
        print(f"| {trips[i].name} | {trips[i].expert} | {cells} |")


def print_gains(trips: list[Trip], gains: dict[str, list[float]]) -> None:
    """Mean gains by kind of job, and the worst job of every search."""
    print("| jobs | n |" + "".join(f" {name} |" for name in gains))
    print("|---|---|" + "---|" * len(gains))
    for kind in (*dict.fromkeys(trip.kind for trip in trips), "all"):
        at = [i for i, trip in enumerate(trips) if kind in (trip.kind, "all")]
        print(f"| {kind} | {len(at)} |" + "".join(f" {interval([gains[n][i] for i in at])} |" for n in gains))
    print("\nworst: " + ", ".join(f"{name} {min(values):+.2%}" for name, values in gains.items()), flush=True)


if __name__ == "__main__":
    main()

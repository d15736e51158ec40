"""What the team of `fyc plan` gains over the customary setting within 20 trials, beside random and grid search.

    python bench/plan_agents.py ROWS.csv [ROWS.csv ...]

Replay: every group of measured rows with four or more configurations of one job; only these can be tried, the answer is
what was published. Simulated: jobs on a cluster whose factors are drawn at random, so that the cost model is as wrong
about it as about real ones, with 1 % noise on every trial; times are judged without the noise. The starting point is
`fyc.plan.expert`: fixed rules that look at memory only. No language model takes part unless the environment names one.
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
from fyc.plan.llm.client import LLMClient
from fyc.plan.llm.endpoint import endpoint_from_environment
from fyc.plan.model import ModelShape
from fyc.plan.pool import MessagePool
from fyc.plan.reasoner import LLMReasoner, Reasoner, RuleReasoner
from fyc.plan.rows import Case, read_rows, read_sources
from fyc.plan.stack import stack
from fyc.plan.validate import MIN_GROUP, job_key, short_source, split_cases

TRIALS = 20
CONFIRM = 4
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

Search = Callable[[Space, Executor, Layout], Layout | None]


@dataclass(frozen=True)
class Trip:
    """One job: where it starts, what can be tried, and the true time of a layout."""

    kind: str
    name: str
    space: Space
    executor: Executor
    expert: Layout
    truth: Executor

    def gain(self, search: Search) -> float:
        """Throughput of what a search ends with over the expert's, less 1."""
        best = search(self.space, self.executor, self.expert) or self.expert
        start, end = (self.truth.run(self.space.job, layout).iteration_s for layout in (self.expert, best))
        assert start is not None
        assert end is not None
        return start / end - 1


def team(reasoner: Reasoner) -> Search:
    """The team with a reasoner."""

    def run(space: Space, executor: Executor, expert: Layout) -> Layout | None:
        with tempfile.TemporaryDirectory() as folder, MessagePool(Path(folder) / "pool.jsonl") as pool:
            confirm = 0 if executor.name == "replay" else CONFIRM
            return Coordinator(space, executor, reasoner, pool, budget=TRIALS, confirm=confirm).run(expert).best

    return run


def drawn(seed: int) -> Search:
    """Random search: layouts of the space in random order."""

    def run(space: Space, executor: Executor, expert: Layout) -> Layout | None:
        order = np.random.default_rng(seed).permutation(len(space.estimates.layouts))
        return _fastest(space, executor, expert, [space.estimates.layouts[int(i)] for i in order[: 20 * TRIALS]])

    return run


def grid(space: Space, executor: Executor, expert: Layout) -> Layout | None:
    """Grid search: evenly spread over the list of legal layouts."""
    at = np.linspace(0, len(space.estimates.layouts) - 1, 20 * TRIALS).astype(int)
    return _fastest(space, executor, expert, [space.estimates.layouts[int(i)] for i in dict.fromkeys(at.tolist())])


def _fastest(space: Space, executor: Executor, expert: Layout, order: list[Layout]) -> Layout | None:
    """The fastest of the first layouts that the validator approves."""
    times: dict[Layout, float] = {}
    for layout in [expert, *(x for x in order if x != expert and not space.approve(x))][:TRIALS]:
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
    """A trip for every simulated job."""
    rng = np.random.default_rng(20261124)
    trips = []
    for seed, (gpu, nodes, model, sequence, batch, name) in enumerate(SIMULATED):
        network = 25 if gpu.startswith("a100") else 50
        cluster = Cluster.model_validate({"gpu": gpu, "nodes": nodes, "network_gbs": network})
        job = Job(model=model, cluster=cluster, stack=stack(name), sequence=sequence, global_batch=batch)
        truth = Correction(**{part: float(np.exp(rng.normal(0, spread))) for part, spread in TRUTH.items()})
        expert = expert_layout(job)
        assert expert is not None
        label = f"{model.name}, {8 * nodes} x {gpu}, {name}"
        executor = ModelExecutor(noise=NOISE, seed=seed, truth=truth)
        trips.append(Trip("simulated", label, Space.of(job), executor, expert, ModelExecutor(truth=truth)))
    return trips


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
    endpoint = endpoint_from_environment()
    if endpoint is not None:
        searches[f"team, {endpoint.model}"] = team(LLMReasoner(LLMClient(endpoint)))
    trips = [*replayed(options.rows), *simulated()]
    gains = {name: [trip.gain(search) for trip in trips] for name, search in searches.items()}
    print("| jobs | n |" + "".join(f" {name} |" for name in searches))
    print("|---|---|" + "---|" * len(searches))
    kinds = dict.fromkeys(trip.kind for trip in trips)
    for kind in (*kinds, "all"):
        at = [i for i, trip in enumerate(trips) if kind in (trip.kind, "all")]
        print(f"| {kind} | {len(at)} |" + "".join(f" {interval([gains[n][i] for i in at])} |" for n in searches))
    worst = {name: min(values) for name, values in gains.items()}
    print("\nworst: " + ", ".join(f"{name} {value:+.2%}" for name, value in worst.items()))
    print("\n| job | from | team, rules | random | grid |\n|---|---|---|---|---|")
    for i, trip in enumerate(trips):
        if trip.kind == "simulated":
            cells = " | ".join(f"{gains[name][i]:+.1%}" for name in ("team, rules", "random", "grid"))
            print(f"| {trip.name} | {trip.expert} | {cells} |")


if __name__ == "__main__":
    main()

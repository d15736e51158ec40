"""What `fyc plan` gains where trials really run: two CPU processes of this machine train a small Llama with FSDP2.

    python bench/plan_local.py [--folder DIR] [--trials 20] [--repeats 7]

The team starts from what a user of FSDP2 gets without tuning: everything sharded over all processes (ZeRO-3),
micro-batch 1, no recomputation. Then its choice and the default are measured again, in alternation, in runs that the
choice was not made on. Where the team keeps the default, the fastest other layout takes the place of its choice. Gain
is throughput over the default, less 1; the interval is a bootstrap of both medians.
"""

from __future__ import annotations

import argparse
import os
import platform
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch
from fyc_plugins.executors.local import LocalExecutor
from fyc_plugins.launchers.fsdp2 import Fsdp2Launcher

from fyc.plan.agents.coordinator import Coordinator, Outcome
from fyc.plan.agents.space import Space
from fyc.plan.executor import Executor, Trials
from fyc.plan.inputs import make_job
from fyc.plan.job import Job
from fyc.plan.layout import Layout
from fyc.plan.messages import Message, Trial
from fyc.plan.pool import MessagePool, replay
from fyc.plan.read_model import read_config
from fyc.plan.reasoner import RuleReasoner

EXAMPLE = Path("examples/plan/cpu")
DEFAULT = Layout(dp=2, zero=3, micro_batch=1, recompute="none")
CONFIRM = 4
STEPS = 8


def interval(default: list[float], chosen: list[float], draws: int = 10_000) -> tuple[float, float]:
    """95 % interval of the gain: medians of both, resampled."""
    rng = np.random.default_rng(0)
    first, second = (np.median(rng.choice(np.array(x), (draws, len(x))), axis=1) for x in (default, chosen))
    low, high = np.quantile(first / second - 1, (0.025, 0.975))
    return float(low), float(high)


def search(job: Job, executor: Executor, folder: Path, trials: int) -> Outcome:
    """The team, from the framework's default."""

    def watch(message: Message) -> None:
        if isinstance(message.payload, Trial):
            print(f"  {message.id} {message.payload.status} {message.payload.iteration_s or 0:.3f} s", flush=True)

    with MessagePool(folder / "pool.jsonl") as pool:
        space = Space.of(job, executor.candidates(job))
        team = Coordinator(space, executor, RuleReasoner(), pool, budget=trials, confirm=CONFIRM, watch=watch)
        return team.run(DEFAULT)


def fastest(folder: Path) -> Layout | None:
    """The layout with the shortest trial, the default left out."""
    content = replay(folder / "pool.jsonl")
    layouts = (content.layout_of(message) for message in content.best_trials(len(content)))
    return next((layout for layout in layouts if layout is not None and layout != DEFAULT), None)


def measure(job: Job, executor: Executor, layouts: list[Layout], repeats: int) -> dict[str, list[float]]:
    """Seconds of a step, the layouts in turn, the order reversed every time."""
    times: dict[str, list[float]] = {str(layout): [] for layout in layouts}
    for repeat in range(repeats):
        for layout in layouts if repeat % 2 == 0 else layouts[::-1]:
            result = executor.run(job, layout, repeat)
            if result.iteration_s is None:
                raise SystemExit(f"{layout}: {result.status}\n{result.log}")
            times[str(layout)].append(result.iteration_s)
            print(f"  {layout}: {result.iteration_s:.3f} s", flush=True)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="where trials go; a new temporary folder if not given")
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="plan-local-"))
    folder.mkdir(parents=True, exist_ok=True)
    job = make_job(str(EXAMPLE / "tiny-llama"), EXAMPLE / "two.yaml", 128, 16, "fsdp2", "bf16", offline=True)
    config = read_config(str(EXAMPLE / "tiny-llama"), offline=True)
    executor = LocalExecutor().prepare(job, Trials(folder.absolute(), config, Fsdp2Launcher(), STEPS, 300))
    load, start = os.getloadavg()[0], time.monotonic()
    print(f"{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}; load before the run {load:.1f}")
    outcome = search(job, executor, folder, options.trials)
    print(f"{outcome.trials} trials in {time.monotonic() - start:.0f} s: {outcome.reason}; best {outcome.best}")
    best = fastest(folder) if outcome.best in (None, DEFAULT) else outcome.best
    if best is None:
        raise SystemExit("no trial but the default's ran")
    if best != outcome.best:
        print(f"the team keeps the default; the fastest other layout of its trials is measured all the same: {best}")
    times = measure(job, executor, [DEFAULT, best], options.repeats)
    default, chosen = times[str(DEFAULT)], times[str(best)]
    low, high = interval(default, chosen)
    print(f"load after the run {os.getloadavg()[0]:.1f}, {time.monotonic() - start:.0f} s in all")
    print("\n| layout | runs | median | range |\n|---|---|---|---|")
    for name, values in times.items():
        print(f"| {name} | {len(values)} | {median(values):.3f} s | {min(values):.3f} to {max(values):.3f} s |")
    print(f"\ngain of the median {median(default) / median(chosen) - 1:+.1%}, 95 % interval {low:+.1%} to {high:+.1%}")


if __name__ == "__main__":
    main()

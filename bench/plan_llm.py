"""What a language model adds to the team of `fyc plan`, beside rules, chance, and the cost model's favourite.

    python bench/plan_llm.py ROWS.csv [ROWS.csv ...] -o results.jsonl --minutes 35

The jobs are those of `plan_agents.py`, in an order drawn once. Every job is done with all reasoners before the next one
begins, and its results are appended to the file; a run that was cut off goes on where it stopped, and the table is
about the jobs that are complete. The language model is SmolLM2-135M-Instruct behind two servers of llama-cpp-python
with a thread each, or, where the environment names one, the endpoint of OPENAI_BASE_URL and FYC_PLAN_MODEL. So that a
small model on a CPU gets through, there are 10 trials instead of 20, it sees the best and the last of them, and
where only one option is left it is taken without asking.

`chance` takes one of the approved options at random, `favourite` the one that the cost model expects to be fastest:
what a language model does not do better than these is due to the options, not to it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import mean, median

import numpy as np
from plan_agents import Trip, replayed, simulated

from fyc.assets import fetch
from fyc.errors import EndpointError
from fyc.plan.agents.coordinator import Coordinator
from fyc.plan.edits import Edit, Task
from fyc.plan.llm import Budget, Endpoint, LLMClient, PromptStyle, endpoint_from_environment
from fyc.plan.messages import Trial
from fyc.plan.pool import MessagePool
from fyc.plan.reasoner import Choice, LLMReasoner, RankingReasoner, Reasoner, RuleReasoner
from fyc.plan.view import SUBSCRIPTIONS, View, ViewBudget, view

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.plan.llm.servers import llama_cpp

TRIALS, CONFIRM = 10, 2
SEEN = ViewBudget(best=1, last=1, characters=2_000)
EARLY = 4  # trials, the customary setting included, after which a good chooser should be ahead
DRAWS = 10  # runs of `chance`, whose mean counts


@dataclass
class Result:
    """One job with one reasoner. Gains are throughput over the customary setting, less 1."""

    job: str
    kind: str
    reasoner: str
    gain: float = 0.0
    early: float = 0.0
    decisions: int = 0  # with two options or more
    own: int = 0  # of these, those that the reasoner made itself
    firsts: int = 0  # of these, those that took the cost model's favourite
    declined: int = 0
    failures: list[str] = field(default_factory=list)
    regrets: list[float] = field(default_factory=list)  # time of the choice over that of the best option, less 1
    tokens: int = 0
    seconds: float = 0.0


class Drawn:
    """Takes an option at random."""

    name = "deterministic"

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def choose(self, role: str, task: Task, view: View, options: Sequence[Edit]) -> Choice:
        """Any option."""
        del role, view
        return Choice(int(self._rng.integers(len(options))), "drawn", task.refs, self.name)


class Favourite:
    """Takes what the cost model expects to be fastest, which stands first."""

    name = "deterministic"

    def choose(self, role: str, task: Task, view: View, options: Sequence[Edit]) -> Choice:
        """The first option."""
        del role, view, options
        return Choice(0, "first", task.refs, self.name)


class Watched:
    """A reasoner whose choices are judged by the true times of the options."""

    def __init__(self, reasoner: Reasoner, trip: Trip, pool: MessagePool, result: Result) -> None:
        self._reasoner, self._trip, self._pool, self._result = reasoner, trip, pool, result

    @property
    def name(self) -> str:
        """The name of the reasoner."""
        return self._reasoner.name

    def choose(self, role: str, task: Task, seen: View, options: Sequence[Edit]) -> Choice:
        """What the reasoner chooses, with a view that a small model can read."""
        if len(options) == 1:
            return Choice(0, "there is nothing else", task.refs, "deterministic")
        seen = view(self._pool.content, SUBSCRIPTIONS[role], SEEN)
        result, begun = self._result, time.monotonic()
        result.decisions += 1
        try:
            choice = self._reasoner.choose(role, task, seen, options)
        except EndpointError as error:
            result.failures.append(error.code)
            raise
        finally:
            result.seconds += time.monotonic() - begun
        result.tokens += choice.tokens
        if choice.index is None:
            result.declined += 1
        result.own += 1
        result.firsts += choice.index == 0
        times = [self._trip.truth.run(self._trip.space.job, edit.layout).iteration_s for edit in options]
        ran = [seconds for seconds in times if seconds is not None]
        chosen = None if choice.index is None else times[choice.index]
        if chosen is not None:
            result.regrets.append(chosen / min(ran) - 1)
        return choice


def run(trip: Trip, job: str, name: str, reasoner: Reasoner) -> Result:
    """One job with one reasoner."""
    result = Result(job, trip.kind, name)
    confirm = 0 if trip.executor.name == "replay" else CONFIRM
    with tempfile.TemporaryDirectory() as folder, MessagePool(Path(folder) / "pool.jsonl") as pool:
        watched = Watched(reasoner, trip, pool, result)
        team = Coordinator(trip.space, trip.executor, watched, pool, budget=TRIALS, confirm=confirm)
        outcome = team.run(trip.expert)
        early: dict[str, float] = {}
        for message in pool.content.of_type("trial")[:EARLY]:
            layout = pool.content.layout_of(message)
            if isinstance(message.payload, Trial) and message.payload.iteration_s and layout:
                early[layout.model_dump_json()] = message.payload.iteration_s
        best = min(early, key=early.__getitem__, default=None)
    start = _true(trip, trip.expert)
    result.gain = start / _true(trip, outcome.best or trip.expert) - 1
    result.early = start / _true(trip, type(trip.expert).model_validate_json(best) if best else trip.expert) - 1
    return result


def _true(trip: Trip, layout: object) -> float:
    seconds = trip.truth.run(trip.space.job, layout).iteration_s  # type: ignore[arg-type]
    assert seconds is not None
    return seconds


def by_chance(trip: Trip, job: str) -> Result:
    """The mean of several runs that draw."""
    runs = [run(trip, job, "chance", Drawn(seed)) for seed in range(DRAWS)]
    total = Result(job, trip.kind, "chance")
    for one in runs:
        total.decisions, total.own, total.firsts = (
            total.decisions + one.decisions, total.own + one.own, total.firsts + one.firsts,
        )  # fmt: skip
        total.regrets += one.regrets
    total.gain, total.early = mean(one.gain for one in runs), mean(one.early for one in runs)
    return total


Make = Callable[[], Reasoner]


@contextmanager
def reasoners(folder: Path) -> Iterator[dict[str, Make]]:
    """The reasoners of the table, each made anew for every job."""
    with ExitStack() as stack:
        named = endpoint_from_environment()
        if named is None:
            gguf = fetch("smollm2-135m")
            servers = [
                stack.enter_context(llama_cpp(gguf, folder / f"server-{ranks}.log", key="sk-bench", logprobs=ranks))
                for ranks in (False, True)
            ]
            writes, ranks = (Endpoint(server.url, server.model, "sk-bench") for server in servers)
        else:
            writes = ranks = named

        def client(endpoint: Endpoint) -> LLMClient:
            made = LLMClient(endpoint, budget=Budget(10**9, 10**6), timeout=300, max_tokens=500)
            return stack.enter_context(made)

        def choosing(**style: bool) -> Make:
            return lambda: LLMReasoner(client(writes), PromptStyle(**style))

        yield {
            "rules": RuleReasoner,
            "favourite": Favourite,
            "LLM": choosing(),
            "LLM, no inception prompt": choosing(inception=False),
            "LLM, no chain of thought": choosing(chain_of_thought=False),
            "LLM, no pool": choosing(pool=False),
            "LLM, ranking": lambda: RankingReasoner(client(ranks)),
        }


def interval(values: Sequence[float]) -> str:
    """Mean and its 95 % bootstrap interval over jobs."""
    rng, sample = np.random.default_rng(0), np.array(values)
    means = rng.choice(sample, (5000, len(sample))).mean(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return f"{sample.mean():+.2%} ({low:+.2%} to {high:+.2%})"


def table(results: list[Result], names: Sequence[str]) -> None:
    """Print the table of the jobs that every reasoner has done."""
    done = {job for job in {r.job for r in results} if {r.reasoner for r in results if r.job == job} >= set(names)}
    found = {name: {r.job: r for r in results if r.job in done and r.reasoner == name} for name in names}
    jobs = sorted(done)
    kinds = [found[names[0]][job].kind for job in jobs]
    print(f"{len(jobs)} jobs: " + ", ".join(f"{kinds.count(kind)} {kind}" for kind in sorted(set(kinds))))
    print(
        "\n| reasoner | gain (95 %) | median | worst | less chance (95 %) "
        f"| after {EARLY} trials | less chance (95 %) | behind |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for name in names:
        own = [found[name][job] for job in jobs]
        chance = [found["chance"][job] for job in jobs]
        gains, behind = [r.gain for r in own], [x for r in own for x in r.regrets]
        pairs = list(zip(own, chance, strict=True))
        late, early = (
            ("", "")
            if name == "chance"
            else (interval([r.gain - c.gain for r, c in pairs]), interval([r.early - c.early for r, c in pairs]))
        )
        print(
            f"| {name} | {interval(gains)} | {median(gains):+.2%} | {min(gains):+.2%} | {late} "
            f"| {mean(r.early for r in own):+.2%} | {early} | {mean(behind or [0.0]):.2%} |"
        )
    print("\n| reasoner | decisions | its own | the favourite | declined | failed calls | tokens | seconds |")
    print("|---|---|---|---|---|---|---|---|")
    for name in names:
        own = [found[name][job] for job in jobs]
        count = sum(r.decisions for r in own)
        made = sum(r.own for r in own)
        failures = [code for r in own for code in r.failures]
        codes = ", ".join(f"{failures.count(code)} {code}" for code in sorted(set(failures)))
        print(
            f"| {name} | {count} | {made / max(1, count):.0%} | {sum(r.firsts for r in own) / max(1, made):.0%} "
            f"| {sum(r.declined for r in own)} | {codes or 0} | {sum(r.tokens for r in own) / max(1, count):.0f} "
            f"| {sum(r.seconds for r in own) / max(1, count):.1f} |"
        )
    print(
        "\nBehind: how much slower the chosen option is than the best of those offered. Decisions are those with two "
        "options or more; tokens and seconds are those of one."
    )


def main() -> None:
    """Run what is missing while there is time, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True, help="results, one a line; appended to")
    parser.add_argument("--minutes", type=float, default=35, help="no job begins after this time")
    options = parser.parse_args()
    deadline = time.monotonic() + 60 * options.minutes
    trips = [*replayed(options.rows), *simulated()]
    order = np.random.default_rng(20261126).permutation(len(trips))
    results = [Result(**json.loads(line)) for line in options.output.open()] if options.output.exists() else []
    with (
        tempfile.TemporaryDirectory() as folder,
        reasoners(Path(folder)) as made,
        ThreadPoolExecutor(2) as workers,
        options.output.open("a") as out,
    ):
        names = ["chance", *made]
        halves = [[n for n in names if (n == "LLM, ranking") == ranks] for ranks in (False, True)]

        def do(trip: Trip, job: str, own: list[str]) -> None:
            for name in own:
                if time.monotonic() > deadline or any(r.job == job and r.reasoner == name for r in results):
                    continue
                result = by_chance(trip, job) if name == "chance" else run(trip, job, name, made[name]())
                results.append(result)
                out.write(json.dumps(asdict(result)) + "\n")
                out.flush()
                print(f"{job}, {name}: {result.gain:+.2%}, {result.seconds:.0f} s", file=sys.stderr, flush=True)

        for i in (int(index) for index in order):
            for future in [workers.submit(do, trips[i], f"{i}: {trips[i].name}", half) for half in halves]:
                future.result()
    table(results, names)


if __name__ == "__main__":
    main()

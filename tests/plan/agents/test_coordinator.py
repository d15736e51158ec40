"""The team: it never leaves what the validator approves, learns from trials, and ends no worse than the expert."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from fyc_plugins.executors.replay import ReplayExecutor
from fyc_plugins.executors.simulate import ModelExecutor

from fyc.errors import EndpointError, PlanError
from fyc.plan.agents.coordinator import Coordinator
from fyc.plan.agents.space import Space
from fyc.plan.cost.rates import Correction
from fyc.plan.edits import Edit, Task
from fyc.plan.executor import TrialResult
from fyc.plan.expert import expert_layout
from fyc.plan.job import Job
from fyc.plan.layout import Layout
from fyc.plan.legal import violations
from fyc.plan.messages import Failure, Trial, Validation
from fyc.plan.pool import MessagePool, replay
from fyc.plan.reasoner import Choice, RuleReasoner
from fyc.plan.rows import Case, case_of, read_rows, read_sources
from fyc.plan.view import View
from tests.plan.jobs import LLAMA_8B, make_job

TRUTH = Correction(product=1.1, tensor=1.4, data=1.6, streaming=0.85)
SC21 = Path(__file__).parents[1] / "sc21_table1.csv"


class FailingReasoner:
    """A language model that is never there."""

    name = "llm:broken"

    def choose(self, role: str, task: Task, view: View, options: Sequence[Edit]) -> Choice:
        raise EndpointError("FYC-L20", "the endpoint is down")


class LastReasoner:
    """Takes the last option, whatever it is."""

    name = "rules"

    def choose(self, role: str, task: Task, view: View, options: Sequence[Edit]) -> Choice:
        return Choice(len(options) - 1, "the last", task.refs, "rules")


def _team(job: Job, pool: MessagePool, executor: ModelExecutor | None = None, **options: object) -> Coordinator:
    return Coordinator(
        Space.of(job), executor or ModelExecutor(noise=0.01, truth=TRUTH), options.pop("reasoner", RuleReasoner()),
        pool,
        **options,  # type: ignore[arg-type]
    )  # fmt: skip


@pytest.fixture
def small_job() -> Job:
    return make_job(LLAMA_8B, nodes=4, batch=128)


def test_the_best_is_not_worse_than_the_expert_and_every_trial_was_approved(job_70b: Job, tmp_path: Path) -> None:
    expert = expert_layout(job_70b)
    assert expert is not None
    with MessagePool(tmp_path / "pool.jsonl") as pool:
        outcome = _team(job_70b, pool, confirm=4).run(expert)
    assert outcome.gain is not None
    assert outcome.gain > 0.01
    assert outcome.trials <= 20
    content = replay(tmp_path / "pool.jsonl")
    for trial in content.of_type("trial"):
        layout = content.layout_of(trial)
        assert layout is not None
        assert violations(job_70b, layout) == []
        checks = [m.payload for m in content.of_type("validation") if m.subject == trial.subject]
        assert [c.ok for c in checks if isinstance(c, Validation)] == [True]


def test_the_same_run_is_the_same(small_job: Job, tmp_path: Path) -> None:
    outcomes = []
    for name in ("a", "b"):
        with MessagePool(tmp_path / name / "pool.jsonl") as pool:
            outcomes.append(_team(small_job, pool, budget=6).run(Layout(tp=8, dp=4, zero=1, sequence_parallel=True)))
    assert outcomes[0] == outcomes[1]


def test_where_nothing_is_noisy_the_best_of_all_is_found_at_once(small_job: Job, tmp_path: Path) -> None:
    with MessagePool(tmp_path / "pool.jsonl") as pool:
        team = _team(small_job, pool, ModelExecutor())
        outcome = team.run(Layout(tp=8, dp=4, zero=1, sequence_parallel=True))
    best = Space.of(small_job).best(1)[0]
    assert outcome.best_s == pytest.approx(Space.of(small_job).expected(best).iteration_s)
    assert outcome.reason == "nothing is left that may be faster"


def test_a_reasoner_that_fails_is_replaced_and_it_is_said(small_job: Job, tmp_path: Path) -> None:
    with MessagePool(tmp_path / "pool.jsonl") as pool:
        team = _team(small_job, pool, reasoner=FailingReasoner(), budget=3)
        outcome = team.run(Layout(tp=8, dp=4, zero=1, sequence_parallel=True))
        failures = [m.payload for m in pool.content.of_type("error")]
        decisions = pool.content.of_type("decision")
    assert outcome.trials > 1
    assert {(f.attempted_by, f.fallback) for f in failures if isinstance(f, Failure)} == {("llm:broken", "rules")}
    assert {m.reasoner for m in decisions} == {"rules"}


def test_bad_choices_do_not_lose_the_best(small_job: Job, tmp_path: Path) -> None:
    expert = expert_layout(small_job)
    assert expert is not None
    with MessagePool(tmp_path / "pool.jsonl") as pool:
        outcome = _team(small_job, pool, reasoner=LastReasoner(), budget=8).run(expert)
    assert outcome.best_s is not None
    assert outcome.expert_s is not None
    assert outcome.best_s <= outcome.expert_s


class CoinExecutor:
    """Every layout takes a second, give or take: whatever looks faster is luck."""

    name = "coin"

    def candidates(self, job: Job) -> list[Layout] | None:
        return None

    def run(self, job: Job, layout: Layout, repeat: int = 0) -> TrialResult:
        noise = np.random.default_rng([int(layout.key(), 16), repeat]).normal(0, 0.03)
        return TrialResult(status="ok", simulated=True, iteration_s=float(np.exp(noise)))


def test_what_is_faster_by_luck_does_not_replace_the_expert(small_job: Job, tmp_path: Path) -> None:
    expert = expert_layout(small_job)
    assert expert is not None
    with MessagePool(tmp_path / "pool.jsonl") as pool:
        team = Coordinator(Space.of(small_job), CoinExecutor(), RuleReasoner(), pool, budget=12, confirm=4)
        outcome = team.run(expert)
        times = [m.payload.iteration_s for m in pool.content.of_type("trial") if isinstance(m.payload, Trial)]
    assert min(time for time in times if time) < outcome.expert_s * 0.98  # type: ignore[operator]
    assert outcome.best == expert
    assert "by more than trials differ" in outcome.reason


def test_a_run_goes_on_where_it_was_stopped(job_70b: Job, tmp_path: Path) -> None:
    expert = expert_layout(job_70b)
    assert expert is not None
    path = tmp_path / "pool.jsonl"
    with MessagePool(path) as pool:
        assert _team(job_70b, pool, budget=3).run(expert).trials == 3
    with MessagePool(path) as pool:
        outcome = _team(job_70b, pool, budget=6).run(expert)
    content = replay(path)
    layouts = [str(content.layout_of(m)) for m in content.of_type("trial")]
    assert outcome.trials == len(layouts) == len(set(layouts))
    assert len(content.of_type("fact")) == 12


def test_a_layout_that_runs_out_of_memory_is_diagnosed_and_left(small_job: Job, tmp_path: Path) -> None:
    tight = small_job.model_copy(update={"cluster": small_job.cluster.model_copy(update={"reserve_gib": 0.0})})
    executor = ModelExecutor(truth=Correction(memory=3.0, memory_gib=10))
    with MessagePool(tmp_path / "pool.jsonl") as pool:
        Coordinator(Space.of(tight), executor, RuleReasoner(), pool, budget=8).run(
            Layout(dp=32, zero=1, micro_batch=1, recompute="none")
        )
        statuses = [m.payload.status for m in pool.content.of_type("trial") if isinstance(m.payload, Trial)]
        causes = {m.payload.cause for m in pool.content.of_type("diagnosis")}  # type: ignore[union-attr]
    assert "oom" in statuses
    assert "oom" in causes


def test_replay_answers_only_with_what_was_measured(tmp_path: Path) -> None:
    case = case_of(read_rows(SC21)[0], read_sources())
    assert isinstance(case, Case)
    executor = ReplayExecutor([case])
    assert executor.candidates(case.job) == [case.layout]
    result = executor.run(case.job, case.layout)
    assert result.iteration_s == case.seconds
    assert result.simulated
    with pytest.raises(PlanError, match="FYC-L11"):
        executor.run(case.job, case.layout.model_copy(update={"micro_batch": 2}))
    with MessagePool(tmp_path / "pool.jsonl") as pool:
        outcome = Coordinator(Space.of(case.job, executor.candidates(case.job)), executor, RuleReasoner(), pool).run(
            case.layout
        )
    assert outcome.gain == 0


def test_the_simulated_noise_is_repeatable_and_differs_between_repeats(small_job: Job) -> None:
    executor, layout = ModelExecutor(noise=0.05, seed=3), Layout(tp=8, dp=4, zero=1)
    first = executor.run(small_job, layout).iteration_s
    assert first == executor.run(small_job, layout).iteration_s
    assert first != executor.run(small_job, layout, repeat=1).iteration_s

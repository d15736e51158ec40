"""A trial that was interrupted has a proposal and no result: the next run of the team tries it first."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest
from fyc_plugins.executors.simulate import ModelExecutor

from fyc.plan.agents.coordinator import Coordinator
from fyc.plan.agents.space import Space
from fyc.plan.executor import TrialResult
from fyc.plan.expert import expert_layout
from fyc.plan.job import Job
from fyc.plan.layout import Layout
from fyc.plan.pool import MessagePool
from fyc.plan.reasoner import RuleReasoner
from tests.plan.jobs import make_job


@dataclass
class Interrupted:
    """Tries layouts on the cost model, up to the trial that is interrupted."""

    stop: int
    name: str = "model"
    tried: list[Layout] = field(default_factory=list)

    def candidates(self, job: Job) -> list[Layout] | None:
        return None

    def run(self, job: Job, layout: Layout, repeat: int = 0) -> TrialResult:
        self.tried.append(layout)
        if len(self.tried) == self.stop:
            raise KeyboardInterrupt
        return ModelExecutor().run(job, layout, repeat)


@pytest.mark.parametrize("stop", [1, 2])
def test_it_is_tried_again_first(stop: int, tmp_path: Path) -> None:
    job = make_job(nodes=4, batch=64)
    expert = expert_layout(job)
    assert expert is not None
    first, second = Interrupted(stop), Interrupted(0)
    with MessagePool(tmp_path / "pool.jsonl") as pool, pytest.raises(KeyboardInterrupt):
        Coordinator(Space.of(job), first, RuleReasoner(), pool, budget=5).run(expert)
    with MessagePool(tmp_path / "pool.jsonl") as pool:
        outcome = Coordinator(Space.of(job), second, RuleReasoner(), pool, budget=5).run(expert)
    assert second.tried[0] == first.tried[-1]
    assert not set(second.tried) & set(first.tried[:-1])
    assert outcome.trials == stop - 1 + len(second.tried)

"""The step: what each part does when one thing of the layout changes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fyc.plan.cost.rates import Rates
from fyc.plan.cost.step import StepTime, step_time
from fyc.plan.job import Job
from fyc.plan.layout import Layout, Layouts
from fyc.plan.legal import legal_layouts
from tests.plan.jobs import LLAMA_8B, MIXTRAL, make_job


def step(job: Job, **layout: object) -> StepTime:
    rates = Rates.of(job.cluster, job.stack, job.precision)
    return step_time(job, Layouts.of([Layout.model_validate(layout)]), rates)


def total(job: Job, **layout: object) -> float:
    return float(step(job, **layout).total[0])


def test_no_step_beats_the_peak() -> None:
    job = make_job()
    layouts = legal_layouts(job)
    times = step_time(job, Layouts.of(layouts), Rates.of(job.cluster, job.stack, job.precision)).total
    flops = job.model.flops_per_token(job.sequence) * job.tokens
    assert np.all(times > 0.8 * flops / (512 * 989e12))
    assert np.all(np.isfinite(times))


@settings(max_examples=30)
@given(st.integers(0, 10**6))
def test_many_layouts_at_once_are_as_one_by_one(seed: int) -> None:
    job = make_job(LLAMA_8B, nodes=2, batch=64)
    layouts = legal_layouts(job)
    rates = Rates.of(job.cluster, job.stack, job.precision)
    i = seed % len(layouts)
    together = step_time(job, Layouts.of(layouts), rates)
    alone = step_time(job, Layouts.of([layouts[i]]), rates)
    for name, value in vars(alone).items():
        assert getattr(together, name)[i] == pytest.approx(value[0])


def test_recomputation_costs_a_forward_pass() -> None:
    job = make_job(nodes=8, batch=64)
    base = {"tp": 8, "dp": 8, "zero": 1}
    ratio = total(job, **base, recompute="full") / total(job, **base, recompute="none")
    assert 1.2 < ratio < 1.4


def test_the_bubble_is_that_of_the_schedule() -> None:
    """(p - 1) / (m v) of the time of the micro-batches (arXiv 2104.04473, section 2.2)."""
    job = make_job(nodes=8, batch=64)
    for vpp in (1, 5):
        t = step(job, tp=8, pp=8, vpp=vpp, dp=1, micro_batch=1, zero=1)
        work = float((t.product + t.attention + t.streaming + t.tensor + t.host + t.boundary)[0])
        assert float(t.bubble[0]) == pytest.approx(7 / (64 * vpp) * work, rel=0.02)


def test_tensor_parallelism_across_machines_is_slow() -> None:
    job = make_job(nodes=2, batch=16)
    job = job.model_copy(update={"cluster": job.cluster.model_copy(update={"network_gbs": 6.25})})
    inside, across = step(job, tp=8, dp=2, zero=1), step(job, tp=16, zero=1)
    assert float(across.tensor[0]) > 8 * float(inside.tensor[0])


def test_sharded_parameters_wait_for_a_slow_network() -> None:
    fast = make_job(nodes=8, backend="fsdp2", sequence=2048, batch=64)
    slow = fast.model_copy(update={"cluster": fast.cluster.model_copy(update={"network_gbs": 1.0})})
    layout = {"dp": 64, "zero": 3, "recompute": "full"}
    assert float(step(slow, **layout).shard[0]) > 5 * float(step(fast, **layout).shard[0])


def test_experts_spread_over_machines_talk_over_the_network() -> None:
    job = make_job(MIXTRAL, nodes=2, sequence=4096, batch=64)
    near = step(job, dp=16, ep=8, zero=1)
    assert float(near.expert[0]) > 0
    assert float(step(job, dp=16, ep=1, zero=1).expert[0]) == 0


def test_context_parallelism_cuts_attention_and_costs_traffic() -> None:
    job = make_job(LLAMA_8B, nodes=1, sequence=131072, batch=8)
    whole, cut = step(job, dp=8, zero=1), step(job, cp=8, zero=1)
    assert float(cut.context[0]) > 0
    assert float(whole.context[0]) == 0


def test_uneven_stages_let_the_last_one_pay_for_its_head() -> None:
    even = LLAMA_8B.model_copy(update={"layers": 32})
    uneven = LLAMA_8B.model_copy(update={"layers": 31})
    times = [total(make_job(m, nodes=1, batch=64), pp=8, zero=1) for m in (even, uneven)]
    assert times[1] < times[0]

"""Time of collectives against the ring formulas, and that distance costs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fyc.plan.cost import collectives
from fyc.plan.cost.rates import Rates
from tests.plan.jobs import make_job

JOB = make_job()
RATES = Rates.of(JOB.cluster, JOB.stack, "bf16")
BIG = 1e10


@given(st.sampled_from([2, 4, 8]))
def test_inside_a_machine_a_ring_runs_at_the_link(ranks: int) -> None:
    expected = (ranks - 1) / ranks * BIG / RATES.link
    assert float(collectives.all_gather(BIG, ranks, ranks, RATES)) == pytest.approx(expected, rel=0.01)
    assert float(collectives.all_reduce(BIG, ranks, ranks, RATES)) == pytest.approx(2 * expected, rel=0.01)


def test_between_machines_all_nics_of_the_group_carry_it() -> None:
    alone = float(collectives.all_gather(BIG, 16, 1, RATES))
    four = float(collectives.all_gather(BIG, 16, 4, RATES))
    assert alone == pytest.approx(15 / 16 * BIG / RATES.net, rel=0.01)
    assert alone / four == pytest.approx(4, rel=0.01)


def test_no_group_no_time() -> None:
    assert float(collectives.all_reduce(BIG, 1, 1, RATES)) == 0.0


def test_many_ranks_cost_latency() -> None:
    assert float(collectives.all_gather(1, 512, 8, RATES)) >= 8 * RATES.net_latency


def test_a_neighbour_outside_is_farther() -> None:
    assert float(collectives.send(BIG, False, RATES)) > 3 * float(collectives.send(BIG, True, RATES))

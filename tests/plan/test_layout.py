"""Layouts: the canonical key, the arrays, and which are legal."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fyc.errors import PlanError
from fyc.plan.job import Job
from fyc.plan.layout import Layout, Layouts
from fyc.plan.legal import Limits, check, divisors, legal_layouts, violations
from tests.plan.jobs import LLAMA_8B, make_job

DEGREE = st.sampled_from([1, 2, 3, 4, 8])
LAYOUTS = st.builds(
    Layout, tp=DEGREE, pp=DEGREE, vpp=DEGREE, cp=DEGREE, ep=DEGREE, dp=DEGREE, micro_batch=DEGREE,
    recompute=st.sampled_from(["none", "selective", "full"]), zero=st.sampled_from([0, 1, 2, 3]),
    sequence_parallel=st.booleans(),
)  # fmt: skip


@given(st.lists(LAYOUTS, min_size=1, max_size=5))
def test_arrays_hold_the_layouts(layouts: list[Layout]) -> None:
    arrays = Layouts.of(layouts)
    assert [arrays[i] for i in range(len(arrays))] == layouts
    assert arrays.world_size.tolist() == [layout.world_size for layout in layouts]


def test_runs_that_are_the_same_have_one_key() -> None:
    plain = Layout(dp=8, zero=3)
    assert plain.key() == Layout(dp=8, zero=3, shard_size=8).key()
    assert plain.key() == Layout(dp=8, zero=3, sequence_parallel=True).key()
    assert plain.key() != Layout(dp=8, zero=3, shard_size=4).key()


@given(st.integers(1, 5000))
def test_divisors(number: int) -> None:
    assert divisors(number) == [d for d in range(1, number + 1) if number % d == 0]


@pytest.mark.parametrize("backend", ["torchtitan", "megatron-core", "deepspeed", "fsdp2"])
def test_everything_the_search_lists_is_legal(backend: str) -> None:
    job = make_job(LLAMA_8B, nodes=4, backend=backend, batch=64)
    layouts = legal_layouts(job)
    assert len(layouts) > 5
    assert len({layout.key() for layout in layouts}) == len(layouts)
    assert not [(layout, found) for layout in layouts if (found := violations(job, layout))]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"dp": 4}, "the cluster has 512 GPUs"),
        ({"tp": 3}, "does not divide the heads: 1, 2, 4, 8"),
        ({"pp": 128, "dp": 4}, "more than the 80 layers"),
        ({"vpp": 3, "pp": 8, "dp": 64}, "pp * vpp 24 does not divide the 80 layers"),
        ({"ep": 2}, "needs a mixture of experts"),
        ({"micro_batch": 3}, "valid micro-batches are 1"),
        ({"zero": 3}, "has no ZeRO stage 3: 0, 1"),
        ({"sequence_parallel": True}, "sequence_parallel needs tp above 1"),
    ],
)
def test_each_rule_names_what_would_do(job_70b: Job, change: dict[str, int], word: str) -> None:
    layout = Layout(**({"dp": 512, "zero": 1} | change))  # type: ignore[arg-type]
    assert any(word in text for text in violations(job_70b, layout)), violations(job_70b, layout)
    with pytest.raises(PlanError, match="FYC-L07"):
        check(job_70b, layout)


def test_a_batch_that_dp_does_not_divide_gets_its_neighbours() -> None:
    found = violations(make_job(nodes=4, batch=500), Layout(dp=32, zero=1))
    assert any("valid batches are 480, 512" in text for text in found)


def test_limits_are_kept(job_70b: Job) -> None:
    found = legal_layouts(job_70b, Limits(tp=(4,), pp=(4,), recompute=("full",), zero=(1,)))
    assert found
    assert {(x.tp, x.pp, x.recompute, x.zero) for x in found} == {(4, 4, "full", 1)}

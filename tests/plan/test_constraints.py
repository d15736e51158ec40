"""What `--fix` takes, and what it says where a value is not possible or several exclude each other."""

import pytest

from fyc.errors import PlanError
from fyc.plan.constraints import parse_limits
from fyc.plan.job import Job
from fyc.plan.legal import Limits, legal_layouts
from fyc.plan.search import search
from tests.plan.jobs import LLAMA_8B, MIXTRAL, make_job


@pytest.mark.parametrize(
    ("texts", "limits"),
    [
        ([], None),
        (["tp=8"], Limits(tp=(8,))),
        (["tp=4-16", "zero=1"], Limits(tp=(4, 8, 16), zero=(1,))),
        (["micro-batch=4,1"], Limits(micro_batch=(1, 4))),
        (["recompute=none, full"], Limits(recompute=("none", "full"))),
        (["dp=64", "pp=1-2,8"], Limits(dp=(64,), pp=(1, 2, 8))),
    ],
)
def test_values_lists_and_ranges(job_70b: Job, texts: list[str], limits: Limits | None) -> None:
    assert parse_limits(texts, job_70b) == limits


@pytest.mark.parametrize(
    ("texts", "what", "hint"),
    [
        (["tp"], "has no value", "--fix tp=8"),
        (["tp="], "has no value", "--fix tp=8"),
        (["pt=8"], "no dimension `pt`", "known: cp, dp"),
        (["recomptue=none"], "no dimension", "did you mean `recompute`?"),
        (["shard_size=8"], "no dimension", "--shard-size"),
        (["tp=8", "tp=4"], "`tp` is given twice", "NAME=VALUE"),
        (["tp=3"], "`tp` cannot be 3", "it may be 1, 2, 4, 8, 16"),
        (["tp=4,3"], "`tp` cannot be 3", "it may be 1, 2, 4, 8, 16"),
        (["pp=100-200"], "`pp` cannot be 100-200", "it may be 1, 2, 4"),
        (["tp=8-4"], "`tp` cannot be 8-4", "it may be"),
        (["zero=3"], "`zero` cannot be 3", "it may be 0, 1"),
        (["recompute=1-2"], "`recompute` cannot be 1-2", "it may be none, selective, full"),
        (["tp=-8"], "`tp` cannot be -8", "it may be"),
        (["tp=1e9"], "`tp` cannot be 1e9", "it may be"),
        (["ep=2"], "`ep` cannot be 2", "it may be 1"),
    ],
)
def test_what_is_not_possible_is_said_with_what_is(job_70b: Job, texts: list[str], what: str, hint: str) -> None:
    with pytest.raises(PlanError, match="FYC-L16") as info:
        parse_limits(texts, job_70b)
    assert what in info.value.what
    assert hint in info.value.next
    assert info.value.where == f"--fix {texts[-1]}"


def test_a_dimension_that_the_backend_lacks_is_said() -> None:
    with pytest.raises(PlanError) as info:
        parse_limits(["tp=2"], make_job(LLAMA_8B, nodes=1, backend="deepspeed", batch=64))
    assert info.value.why == "deepspeed has no tp"


@pytest.mark.parametrize(
    "texts", [["tp=8"], ["vpp=2"], ["dp=8"], ["zero=0"], ["ep=4"], ["micro_batch=2"], ["recompute=full"], ["cp=2"]]
)
def test_every_layout_keeps_to_a_limit_and_none_is_lost(texts: list[str]) -> None:
    job = make_job(MIXTRAL, nodes=4, batch=128)
    limits = parse_limits(texts, job)
    assert limits is not None
    kept = legal_layouts(job, limits)
    assert kept
    assert {x.key() for x in kept} == {x.key() for x in legal_layouts(job) if limits.allow(x)}


def test_constraints_that_exclude_each_other_name_the_culprits(job_70b: Job) -> None:
    limits = parse_limits(["pp=1", "vpp=4", "zero=1"], job_70b)
    with pytest.raises(PlanError, match="FYC-L16") as info:
        search(job_70b, limits)
    assert "without pp=1 there are" in info.value.why
    assert "without vpp=4 there are" in info.value.why
    assert "without zero=1" not in info.value.why

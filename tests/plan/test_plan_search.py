"""The search: its result is the best of all legal layouts, and what does not fit is said."""

import re
import time

import numpy as np
import pytest

from fyc.errors import NothingFitsError
from fyc.plan.estimate import estimate
from fyc.plan.job import Job
from fyc.plan.layout import Layouts
from fyc.plan.legal import Limits, legal_layouts
from fyc.plan.search import search
from tests.plan.jobs import LLAMA_8B, LLAMA_70B, make_job


def test_the_best_is_the_fastest_that_fits(job_70b: Job) -> None:
    found = search(job_70b)
    everything = estimate(job_70b, Layouts.of(legal_layouts(job_70b)))
    fastest = everything.seconds[everything.fits].min()
    assert found.best[0].iteration_s == pytest.approx(float(fastest))
    assert found.considered == len(everything.seconds)
    assert found.rejected["does not fit in memory"] == int((~everything.fits).sum())


def test_nothing_beats_the_frontier_in_both(job_70b: Job) -> None:
    found = search(job_70b)
    everything = estimate(job_70b, Layouts.of(legal_layouts(job_70b)))
    seconds, memory = everything.seconds[everything.fits], everything.memory.device[everything.fits]
    times = [e.iteration_s for e in found.frontier]
    assert times == sorted(times)
    for e in found.frontier:
        assert not np.any((seconds < e.iteration_s) & (memory < e.peak_memory_gib))


def test_a_model_too_large_says_what_would_hold_it() -> None:
    with pytest.raises(NothingFitsError) as info:
        search(make_job(LLAMA_70B, nodes=1, batch=64))
    assert info.value.exit_code == 7
    assert "GiB" in info.value.why
    assert "GPUs" in info.value.next


def test_a_batch_that_no_layout_divides_is_said() -> None:
    with pytest.raises(NothingFitsError, match="no layout is legal"):
        search(make_job(LLAMA_8B, nodes=3, backend="fsdp2", batch=7))


def test_planning_70b_on_512_gpus_takes_less_than_ten_seconds(job_70b: Job) -> None:
    started = time.perf_counter()
    search(job_70b)
    assert time.perf_counter() - started < 10


def test_what_would_hold_a_model_does_hold_it() -> None:
    """The advice is checked: with as many GPUs, or that type, there is a layout that fits."""
    job = make_job(LLAMA_70B, gpu="a100-40gb", nodes=1, batch=64)
    with pytest.raises(NothingFitsError) as info:
        search(job)
    match = re.search(r"take (\d+) GPUs of this type \((\d+) nodes\)", info.value.next)
    assert match
    nodes = int(match[2])
    assert int(match[1]) == 8 * nodes
    assert search(job.model_copy(update={"cluster": job.cluster.model_copy(update={"nodes": nodes})})).best
    with pytest.raises(NothingFitsError):
        search(job.model_copy(update={"cluster": job.cluster.model_copy(update={"nodes": nodes // 2})}))
    types = re.search(r"take ([\w -]+) with as many GPUs", info.value.next)
    assert types
    for name in types[1].split(" or "):
        assert search(make_job(LLAMA_70B, gpu=name, nodes=1, batch=64)).best


def test_constraints_under_which_nothing_fits_are_named() -> None:
    job = make_job(LLAMA_8B, nodes=1, batch=64)
    with pytest.raises(NothingFitsError, match="with the constraints") as info:
        search(job, Limits(tp=(1,), pp=(1,), zero=(0,)))
    assert "drop --fix tp=1 and --fix pp=1 and --fix zero=0" in info.value.next


@pytest.mark.parametrize(("batch", "near"), [(7, "such as 24"), (100, "such as 96 or 120")])
def test_valid_batches_are_named_and_valid(batch: int, near: str) -> None:
    job = make_job(LLAMA_8B, nodes=3, backend="fsdp2", batch=batch)
    with pytest.raises(NothingFitsError) as info:
        search(job)
    assert near in info.value.next
    for valid in near.removeprefix("such as ").split(" or "):
        assert search(job.model_copy(update={"global_batch": int(valid)})).best

"""The search: its result is the best of all legal layouts, and what does not fit is said."""

import time

import numpy as np
import pytest

from fyc.errors import NothingFitsError
from fyc.plan.estimate import estimate
from fyc.plan.job import Job
from fyc.plan.layout import Layouts
from fyc.plan.legal import legal_layouts
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

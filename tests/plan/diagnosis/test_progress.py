"""Step time, throughput and memory, from the lines of every framework."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fyc.plan.diagnosis import diagnose, parse_progress, progress_of
from fyc.plan.diagnosis.progress import PROGRESS_WORDS, Series
from tests.plan.diagnosis.logs import bloom, deepspeed, interleave, megatron, nccl_noise, pipeline, titan


def read(*parts):
    return progress_of("\n".join(line for part in parts for line in part))


def test_megatron():
    found = read(megatron(range(1, 101)))
    assert (found.framework, found.steps, found.measured) == ("megatron", 100, 97)
    assert (found.first_step, found.last_step, found.total_steps) == (1, 100, 100)
    assert found.step_s == pytest.approx(5.401)
    assert (found.step_s_low, found.step_s_high) == pytest.approx((5.400, 5.402))
    assert found.spread == pytest.approx(0.002 / 5.401)
    assert found.samples_per_s == pytest.approx(128 / 5.401)
    assert found.tokens_per_s == pytest.approx(128 * 4096 / 5.401)
    assert found.tokens_per_s_per_gpu == pytest.approx(128 * 4096 / 5.401 / 16)
    assert found.tflops_per_gpu == 241.4
    assert (found.peak_allocated_gib, found.peak_reserved_gib) == (53.0, 60.0)


def test_megatron_without_its_arguments_has_no_tokens():
    found = read(megatron(range(1, 11), head=False))
    assert found.step_s is not None
    assert found.samples_per_s is not None
    assert found.tokens_per_s is None


def test_newer_megatron_states_tokens_and_means():
    line = (
        " [2025-11-28 18:48:17] iteration {step:8}/    5000 | consumed samples:        51200 | elapsed"
        " time per iteration"
        " (ms): 2674.3 | compute per GPU (TFLOP/s/GPU): 496.3 (avg 496.1) | tokens/s/GPU inst/harmonic"
        " mean: 9640.7/9629.8 |"
        " global batch size:  1024 |"
    )
    found = read([line.format(step=step) for step in range(1, 9)])
    assert found.tflops_per_gpu == 496.3
    assert found.tokens_per_s_per_gpu == 9640.7
    assert found.step_s == pytest.approx(2.6743)


def test_megatron_deepspeed():
    found = read(bloom(range(12695, 12705)))
    assert (found.framework, found.total_steps, found.measured) == ("megatron-deepspeed", 115311, 7)
    assert found.step_s == 105.22
    assert found.tokens_per_s == pytest.approx(2048 * 2048 / 105.22)
    assert found.tflops_per_gpu == 149.02


def test_torchtitan_measures_time_between_the_lines():
    found = read(titan(range(1, 31), ranks=8))
    assert (found.framework, found.steps, found.measured) == ("torchtitan", 30, 27)
    assert found.step_s == pytest.approx(1.5)
    assert found.tokens_per_s_per_gpu == pytest.approx(10051)
    assert found.tokens_per_s == pytest.approx(8 * 8192 / 1.5)
    assert found.peak_reserved_gib == pytest.approx(67.91)  # of the fullest rank
    assert found.peak_allocated_gib is None
    assert found.total_steps == 100


def test_torchtitan_that_logs_every_tenth_step():
    found = read(titan([1, *range(10, 101, 10)], seconds=10.0))
    assert found.step_s == pytest.approx(1.0)
    assert found.measured == 9  # the line about steps 2 to 10 holds two of the first three


def test_deepspeed_pipeline():
    found = read(pipeline(range(1, 21)))
    assert (found.framework, found.measured) == ("deepspeed-pipeline", 17)
    assert found.step_s == 0.936
    assert found.samples_per_s == 136.752
    assert (found.peak_allocated_gib, found.peak_reserved_gib) == (7.25, 10.0)


def test_deepspeed_timer_and_its_batch():
    found = read(deepspeed(range(1, 21)))
    assert found.framework == "deepspeed"
    assert found.samples_per_s == 8.0
    assert found.step_s == 4.0
    assert found.peak_allocated_gib == 63.31


def test_deepspeed_without_its_batch_measures_between_the_lines():
    assert read(deepspeed(range(1, 21))[1:]).step_s == 1.0


def test_lines_of_megatron_count_more_than_the_timer_of_deepspeed():
    both = [line for pair in zip(deepspeed(range(1, 11)), megatron(range(1, 11))[2:], strict=False) for line in pair]
    found = read(both)
    assert found.framework == "megatron"
    assert found.step_s == pytest.approx(5.4, abs=0.01)


def test_the_first_three_steps_of_every_start_are_left_out():
    found = read(megatron(range(1, 21)), megatron(range(1, 21), minute=5))
    assert (found.steps, found.measured) == (40, 34)
    assert found.step_s_high == pytest.approx(5.402)


def test_a_line_for_ten_steps_counts_as_ten():
    found = read(megatron(range(10, 101, 10)))
    assert found.measured == 9


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_too_few_steps_are_counted_but_not_measured(steps):
    found = read(megatron(range(1, steps + 1)))
    assert (found.steps, found.measured) == (steps, 0)
    assert found.step_s is None
    assert found.spread is None
    assert found.tokens_per_s is None


def test_ranks_that_lag_are_no_restart():
    lines = titan(range(1, 21), ranks=4)
    swapped = lines[:1] + [line for n in range(1, len(lines) - 1, 2) for line in (lines[n + 1], lines[n])]
    assert read(swapped).measured == 17


def test_noise_changes_nothing():
    lines = megatron(range(1, 31))
    plain = read(lines)
    assert (
        read(interleave(3, lines, nccl_noise(0, 50), ["step: many", "elapsed time per iteration (ms): soon"])) == plain
    )


@pytest.mark.parametrize("make", [megatron, bloom, titan, pipeline, deepspeed])
def test_a_file_gives_the_same_as_its_text(make, tmp_path):
    """The reader's words must stop at every line that matters."""
    lines = make(range(1, 31))
    path = tmp_path / "train.log"
    path.write_text("\n".join(lines), encoding="utf-8")
    assert parse_progress(path) == progress_of("\n".join(lines)) == diagnose(path).progress
    assert parse_progress(str(path)) is not None


def test_a_log_without_progress(tmp_path):
    path = tmp_path / "train.log"
    path.write_text("nothing", encoding="utf-8")
    assert parse_progress(path) is None


@given(st.lists(st.floats(0.001, 1e6), max_size=200), st.floats(0, 1))
def test_series_is_the_median_of_its_numbers(values, share):
    series = Series()
    for value in values:
        series.add(value)
    assert series.seen == len(values)
    assert series.median == (pytest.approx(statistics.median(values)) if values else None)
    if values:
        assert min(values) <= series.quantile(share) <= max(values)


def test_series_stays_small_and_fair():
    series = Series()
    count = 500_000
    for index in range(count):
        series.add(1 + (index * 7919) % 1000)
    assert series.seen == count
    assert len(series._kept) < Series._MOST
    assert series.median == pytest.approx(500, rel=0.02)


@pytest.mark.parametrize("value", [None, 0.0, -1.0, float("inf"), float("nan")])
def test_what_is_no_measurement_is_left_out(value):
    series = Series()
    series.add(value)
    assert series.seen == 0
    assert series.median is None


def test_words_are_long_enough_for_the_finder():
    assert min(map(len, PROGRESS_WORDS)) >= 4

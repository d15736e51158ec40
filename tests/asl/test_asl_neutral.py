"""The baseline of a measure, from measures whose pose dependence and rest are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fyc.asl.neutral import NeutralBaseline, _mode

seeds = st.integers(0, 2**32 - 1)


def signing(seed: int, *, share: float, height: float = 0.35, noise: float = 0.03):
    """Brow heights of frames of which a share is raised; they follow pitch and yaw as well."""
    rng = np.random.default_rng(seed)
    angles = rng.uniform((-25, -20, -10), (25, 20, 10), (100, 3))
    raised = rng.random(100) < share
    rest = 1.2 + 0.012 * angles[:, 1] - 0.004 * angles[:, 0] + 2e-4 * angles[:, 1] ** 2
    return angles, raised, rest + height * raised + rng.normal(0, noise, 100)


@given(seeds, st.floats(0, 0.3))
@settings(max_examples=40)
def test_pose_is_taken_off_and_rest_is_zero(seed: int, share: float) -> None:
    angles, raised, values = signing(seed, share=share)
    above = NeutralBaseline.fit(values, angles).above(values, angles)
    assert np.abs(np.median(above[~raised])) < 0.06
    assert np.std(above[~raised]) < 0.07
    if raised.sum() > 5:
        assert np.abs(np.median(above[raised]) - 0.35) < 0.1


@given(seeds)
@settings(max_examples=20)
def test_lowered_brows_are_below(seed: int) -> None:
    angles, lowered, values = signing(seed, share=0.3, height=-0.3)
    above = NeutralBaseline.fit(values, angles).above(values, angles)
    assert np.median(above[lowered]) < -0.2
    assert np.abs(np.median(above[~lowered])) < 0.06


def test_frames_without_a_value_do_not_count() -> None:
    angles, _, values = signing(0, share=0.2)
    whole = NeutralBaseline.fit(values[:60], angles[:60])
    values[60:80], angles[80:] = np.nan, np.nan
    gappy = NeutralBaseline.fit(values, angles)
    assert np.allclose(gappy.slopes, whole.slopes)
    assert (gappy.level, gappy.scatter) == (whole.level, whole.scatter)


def test_long_videos_are_thinned_out() -> None:
    angles, _, values = signing(0, share=0.2)
    many = NeutralBaseline.fit(np.tile(values, 50), np.tile(angles, (50, 1)))
    assert abs(many.level - NeutralBaseline.fit(values, angles).level) < 0.05


def test_a_measure_that_never_changes() -> None:
    angles, _, values = signing(0, share=0.2)
    flat = NeutralBaseline.fit(np.full_like(values, 2.0), angles)
    assert not flat.slopes.any()
    assert (flat.level, flat.scatter) == (2.0, 0.0)


def test_two_frames_are_too_few() -> None:
    with pytest.raises(ValueError, match="three frames, there are 2"):
        NeutralBaseline.fit(np.array([1.0, 2.0, np.nan]), np.zeros((3, 3)))


@given(seeds, st.integers(60, 95))
def test_the_mode_is_where_most_values_are(seed: int, share: int) -> None:
    rng = np.random.default_rng(seed)
    values = np.concatenate([rng.normal(0, 0.01, share), rng.uniform(1, 5, 100 - share)])
    assert abs(_mode(values)) < 0.05
    assert abs(_mode(values + 7) - _mode(values) - 7) < 1e-9

"""Features: derivatives of known signals, at any frame rate, with gaps; periodicity of known swings."""

from __future__ import annotations

import numpy as np
import pytest
from asl_measures import measures_of, still
from hypothesis import given, settings
from hypothesis import strategies as st

from fyc.asl.measures import Measures
from fyc.asl.recognition.features import FEATURES, RATE, extract, from_grid, grid, local_quadratic, on_grid, rest_level


def swinging(amplitude: float, hertz: float, fps: float = 30.0, seconds: float = 6.0) -> Measures:
    """The head shakes for the middle third."""
    times = np.arange(round(seconds * fps)) / fps
    table = np.zeros((len(times), 13))
    inside = (times > seconds / 3) & (times < 2 * seconds / 3)
    table[:, 0] = 3 + inside * amplitude * np.sin(2 * np.pi * hertz * times)
    return Measures.from_table(times, np.ones(len(times)), table)


@given(
    st.integers(0, 10**6), st.floats(20, 60), st.floats(-5, 5), st.floats(-5, 5), st.floats(-5, 5), st.floats(0, 0.9)
)
@settings(max_examples=25, deadline=None)
def test_parabolas_are_found_whatever_the_times(
    seed: int, rate: float, a: float, b: float, c: float, jitter: float
) -> None:
    rng = np.random.default_rng(seed)
    times = (np.arange(90) + jitter * rng.uniform(-0.5, 0.5, 90)) / rate
    values = (a + b * times + c * times**2)[:, None]
    values[rng.uniform(size=90) < 0.1] = np.nan
    at = np.linspace(times[9], times[-10], 40)
    value, velocity, acceleration = (part[:, 0] for part in local_quadratic(times, values, at))
    seen = np.isfinite(value)
    assert seen.mean() > 0.9
    size = 1 + abs(a) + abs(b) + abs(c)
    assert np.quantile(np.abs(value - (a + b * at + c * at**2))[seen], 0.9) < 0.01 * size  # but for gaps
    assert np.median(np.abs(velocity[seen] - (b + 2 * c * at)[seen])) < 0.05 * size
    assert np.median(np.abs(acceleration[seen] - 2 * c)) < 0.2 * size


@pytest.mark.parametrize("fps", [15, 24, 30, 60])
def test_the_frame_rate_does_not_matter(fps: int) -> None:
    one, other = extract(swinging(6, 2.5)), extract(swinging(6, 2.5, fps))
    assert abs(len(one.time_s) - len(other.time_s)) <= 1
    count = min(len(one.time_s), len(other.time_s))
    for name, most in (("yaw", 1.0), ("yaw.velocity", 20), ("yaw.swing_slow", 0.5), ("yaw.rhythm", 0.1)):
        apart = np.abs(one.column(name)[:count] - other.column(name)[:count])
        assert np.median(apart) < 0.05 * most
        assert np.quantile(apart, 0.95) < most


@pytest.mark.parametrize(("hertz", "band"), [(2.0, "slow"), (4.5, "quick")])
def test_swings_have_their_amplitude_and_rate(hertz: float, band: str) -> None:
    features = extract(swinging(6, hertz))
    middle = slice(80, 100)
    assert features.column(f"yaw.swing_{band}")[middle].mean() == pytest.approx(6, rel=0.25)
    other = "quick" if band == "slow" else "slow"
    assert features.column(f"yaw.swing_{other}")[middle].mean() < 4.2
    assert features.column("yaw.rhythm")[middle].min() > 0.7
    for name in ("yaw.swing_slow", "yaw.swing_quick", "yaw.rhythm"):
        assert features.column(name)[:20].max() < 0.3
    assert np.abs(features.column("pitch.rhythm")).max() < 0.01


def test_a_turn_has_no_rhythm_and_one_nod_reverses() -> None:
    times = np.arange(120) / 30
    table = np.zeros((120, 13))
    table[:, 0] = 12 / (1 + np.exp(-20 * (times - 2)))
    table[:, 1] = -6 * np.exp(-(((times - 2) / 0.12) ** 2))
    features = extract(Measures.from_table(times, np.ones(120), table))
    assert features.column("yaw.swing_slow").max() > 2
    assert features.column("yaw.reversal").max() < 0.05
    assert features.column("pitch.reversal").max() > 0.5
    assert features.column("pitch.rhythm").max() < 0.4


def test_noise_has_no_rhythm() -> None:
    features = extract(measures_of(still(10), noise=0.3))
    assert np.quantile(features.column("yaw.rhythm"), 0.95) < 0.5


def test_short_gaps_are_bridged_and_long_ones_told() -> None:
    measures = swinging(6, 2)
    lost = np.zeros(len(measures), bool)
    lost[20:30] = lost[100:140] = True
    features = extract(measures.without(lost))
    assert np.allclose(features.column("yaw")[20:30], 0, atol=0.2)
    assert (features.column("missing")[23:27] == 1).all()
    assert np.isnan(features.column("yaw")[105:135]).all()
    assert np.isnan(features.column("yaw.rhythm")[105:135]).all()
    assert (features.column("missing")[40:90] == 0).all()
    assert np.isfinite(features.values[:90]).all()


def test_one_side_is_enough() -> None:
    table = np.zeros((30, 13))
    table[:, 6], table[:, 8] = 0.3, np.nan
    measures = Measures.from_table(np.arange(30) / 30, np.ones(30), table)
    assert np.allclose(extract(measures).column("brow_inner"), 0.3)


def test_nothing_known_at_all() -> None:
    features = extract(swinging(6, 2).without(np.ones(180, bool)))
    assert np.isnan(features.values[:, :-1]).all()
    assert (features.column("missing") == 1).all()


def test_a_single_frame() -> None:
    measures = Measures.from_table(np.array([4.0]), np.ones(1), np.zeros((1, 13)))
    features = extract(measures)
    assert features.values.shape == (1, len(FEATURES))
    assert np.allclose(features.values, 0)
    with pytest.raises(ValueError, match="without frames"):
        grid(np.zeros(0))


def test_rows_go_to_the_grid_and_back() -> None:
    times = np.arange(100) / 50
    rows = np.stack([times, times**2], axis=1)
    there = on_grid(times, rows)
    assert np.allclose(there[:, 0], np.arange(len(there)) / RATE)
    assert np.allclose(from_grid(grid(times), there, times)[:-2], rows[:-2], atol=2e-3)
    rows[20:90] = np.nan
    gone = np.isnan(on_grid(times, rows)).any(axis=1)
    assert gone.sum() == pytest.approx((70 / 50 - 0.5) * RATE, abs=2)


def test_rest_is_where_a_signal_mostly_is() -> None:
    values = np.concatenate([np.full(60, 2.0), np.linspace(2, 12, 40), [np.nan]])
    assert rest_level(values) == pytest.approx(2)
    assert rest_level(np.array([np.nan])) == 0


@pytest.mark.parametrize(("seconds", "moved"), [(0.2, False), (1.5, True)])
def test_brows_in_a_blink_are_bridged_and_in_long_closures_kept(seconds: float, moved: bool) -> None:
    """Brows that seem to sink with the lids: in a blink it is the lids' doing, in a long closure it may be a frown."""
    times = np.arange(120) / 30
    table = np.zeros((len(times), 13))
    table[:, 10:12] = 1
    shut = (times >= 1.5) & (times < 1.5 + seconds)
    table[shut, 6:10] = -0.2
    table[shut, 10:12] = 0
    brows = extract(Measures.from_table(times, np.ones(len(times)), table)).column("brow_inner")
    assert np.isfinite(brows).all()
    assert (brows.min() < -0.15) == moved
    assert abs(brows.max()) < 0.03


def test_a_long_video_is_fitted_in_blocks_that_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.uniform(0.02, 0.06, 400))
    values = rng.normal(size=(400, 3))
    values[50:90, 1] = np.nan
    at = np.linspace(times[0], times[-1], 700)
    whole = local_quadratic(times, values, at)
    monkeypatch.setattr("fyc.asl.recognition.features._BLOCK", 64)
    for one, other in zip(whole, local_quadratic(times, values, at), strict=True):
        assert one.shape == (700, 3)
        assert np.allclose(one, other, atol=1e-9, equal_nan=True)

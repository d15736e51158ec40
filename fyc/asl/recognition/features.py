"""Features of every moment of a video, from its measures: values, derivatives, periodicity, what is missing.

Everything is computed on a grid of 30 moments a second, from the real times of the frames. So neither the frame rate of
a video nor its irregularities change what a feature means.

Units: angles in degrees, lengths in cm, eyes as parts of the open eye; velocities per second, accelerations per second
squared; swings (amplitudes of what is periodic) in degrees; `.reversal` and `.rhythm` are normalised
autocorrelations, 0 to 1. Angles
and places are those from where the head is held at rest.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from fyc.asl.face.camera import Array
from fyc.asl.measures import Measures

Flags = NDArray[np.bool_]

#: Moments of the grid a second.
RATE = 30.0
#: Standard deviation of the window that smooths, in seconds.
SMOOTHING = 0.05
#: Gaps up to this many seconds are bridged; in longer ones nothing is known.
SHORT_GAP = 0.5
#: Least and greatest rate of shakes and nods, and what parts slow ones from quick ones, in Hz.
BAND, SLOW_BELOW = (1.5, 6.0), 3.0
_SPECTRUM_S, _RHYTHM_S = 1.0, 1.2
#: So many moments are fitted at once: an hour of video would take 0.4 GB.
_BLOCK = 4096
#: Velocities that are no larger than this are noise, in degrees a second.
_FLOOR = 8.0
#: Brows are at rest within so many cm.
_QUIET = 0.06
#: Eyes that are less open than this part are closed.
_CLOSED = 0.6

CHANNELS = ("yaw", "pitch", "roll", "x", "y", "z", "brow_inner", "brow_outer", "eyes", "mouth")
_PERIODIC = ("yaw", "pitch")
_SIDELESS = ("yaw", "roll")
#: Columns of `Features.values`, in order.
FEATURES = (
    *CHANNELS,
    *(f"{name}.velocity" for name in CHANNELS),
    *(f"{name}.acceleration" for name in CHANNELS),
    *(f"{name}.size" for name in _SIDELESS),
    *(f"{name}.{what}" for name in _PERIODIC for what in ("swing_slow", "swing_quick", "reversal", "rhythm")),
    "missing",
)


@dataclass(frozen=True, repr=False)
class Features:
    """Features of a video on the grid; G moments.

    Attributes:
        time_s: (G,), seconds, evenly spaced.
        values: (G, F), the columns `FEATURES`; NaN in long gaps, but for `missing`.
    """

    time_s: Array
    values: Array

    def column(self, name: str) -> Array:
        """(G,), one of `FEATURES`."""
        return self.values[:, FEATURES.index(name)]


def extract(measures: Measures) -> Features:
    """The features of a video; at least one moment.

    Raises:
        ValueError: if the video has no frame.
    """
    times = grid(measures.time_s)
    channels = _channels(measures)
    values, velocity, acceleration = local_quadratic(measures.time_s, channels, times)
    missing = ~np.isfinite(values)
    values = _bridge(values)
    slopes = np.gradient(values, 1 / RATE, axis=0) if len(values) > 1 else np.zeros_like(values)
    velocity = np.where(missing & np.isfinite(values), slopes, velocity)
    acceleration = np.where(missing & np.isfinite(values), 0.0, acceleration)
    quiet = _quiet(values)
    values[:, :6] -= [rest_level(column[quiet]) for column in values[:, :6].T]
    sideless = np.abs(values[:, [CHANNELS.index(name) for name in _SIDELESS]])
    periodic = [_periodicity(values[:, CHANNELS.index(name)]) for name in _PERIODIC]
    share = missing.mean(axis=1, keepdims=True)
    return Features(times, np.column_stack([values, velocity, acceleration, sideless, *periodic, share]))


def grid(time_s: Array) -> Array:
    """(G,), evenly spaced moments from the first frame to the last.

    Raises:
        ValueError: if there is no frame.
    """
    if not len(time_s):
        raise ValueError("a video without frames has no features")
    count = int(np.floor((time_s[-1] - time_s[0]) * RATE + 1e-6)) + 1
    moments: Array = time_s[0] + np.arange(count) / RATE
    return moments


def on_grid(time_s: Array, rows: NDArray[np.floating]) -> Array:
    """(G, D), rows (T, D) of frames, such as texture, on the grid: linear in between; NaN in long gaps."""
    times = grid(time_s)
    known = np.isfinite(rows).all(axis=1)
    if not known.any():
        return np.full((len(times), rows.shape[1]), np.nan)
    seen = time_s[known]
    after = np.clip(np.searchsorted(seen, times), 0, len(seen) - 1)
    before = np.maximum(np.where(seen[after] <= times, after, after - 1), 0)
    gap = np.maximum(seen[after] - seen[before], 1e-9)
    part = np.clip((times - seen[before]) / gap, 0, 1)[:, None]
    source = rows[known].astype(np.float64)
    blend = (1 - part) * source[before] + part * source[after]
    far = np.minimum(np.abs(times - seen[before]), np.abs(times - seen[after])) > SHORT_GAP / 2
    return np.where(far[:, None], np.nan, blend)


def from_grid(features_s: Array, rows: Array, time_s: Array) -> Array:
    """(T, D), rows (G, D) of the grid at the times (T,) of frames, linear in between."""
    columns = [np.interp(time_s, features_s, column) for column in rows.T]
    return np.column_stack(columns) if columns else np.zeros((len(time_s), 0))


def local_quadratic(time_s: Array, values: Array, at: Array, scale: float = SMOOTHING) -> tuple[Array, Array, Array]:
    """Value, velocity and acceleration of signals, by a parabola through the frames around a moment.

    Least squares with Gaussian weights (Savitzky and Golay, 1964, for uneven times). Where frames are few the parabola
    is drawn to a line, and that to a constant.

    Args:
        time_s: (T,), rising.
        values: (T, C), NaN where unknown.
        at: (G,), moments.
        scale: standard deviation of the weights, in seconds; frames within three of them count.

    Returns:
        Three arrays (G, C); NaN where no frame nearby is known.
    """
    starts = range(0, max(len(at), 1), _BLOCK)
    blocks = [_parabolas(time_s, values, at[start : start + _BLOCK], scale) for start in starts]
    value, velocity, acceleration = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    return value, velocity, acceleration


def _parabolas(time_s: Array, values: Array, at: Array, scale: float) -> tuple[Array, Array, Array]:
    first = np.searchsorted(time_s, at - 3 * scale)
    width = max(int((np.searchsorted(time_s, at + 3 * scale, side="right") - first).max()), 1)
    index = first[:, None] + np.arange(width)
    inside = index < len(time_s)
    index = np.minimum(index, len(time_s) - 1)
    distance = (time_s[index] - at[:, None]) / scale
    inside &= np.abs(distance) <= 3
    nearby = values[index]
    known = np.isfinite(nearby) & inside[..., None]
    weights = np.where(known, np.exp(-(distance**2) / 2)[..., None], 0.0)
    powers = distance[..., None] ** np.arange(5)
    moments = np.einsum("gkc,gkp->gcp", weights, powers)
    right = np.einsum("gkc,gkp->gcp", weights * np.where(known, nearby, 0.0), powers[..., :3])
    normal = moments[..., np.add.outer(np.arange(3), np.arange(3))] + np.diag([1e-12, 1e-3, 1e-2])
    solved = np.linalg.solve(normal, right[..., None])[..., 0]
    solved[weights.sum(axis=1) < 0.3] = np.nan
    return solved[..., 0], solved[..., 1] / scale, 2 * solved[..., 2] / scale**2


def rest_level(values: Array) -> float:
    """Where a signal is most of the time: the middle of the shortest interval that holds half of it; 0 if unknown."""
    ordered = np.sort(values[np.isfinite(values)])
    if not len(ordered):
        return 0.0
    half = (len(ordered) + 1) // 2
    widths = ordered[half - 1 :] - ordered[: len(ordered) - half + 1]
    start = int(widths.argmin())
    return float(np.median(ordered[start : start + half]))


def _quiet(values: Array) -> Flags:
    """(G,), moments that tell how the head is held at rest: where brows are at rest, if they ever are for a while.

    A marker can last for most of a short clip; then the head is not at rest where it is most of the time.
    """
    brows = values[:, [CHANNELS.index("brow_inner"), CHANNELS.index("brow_outer")]].mean(axis=1)
    quiet: Flags = np.abs(brows) < _QUIET
    return quiet if quiet.sum() >= 0.5 * RATE else np.ones(len(values), bool)


def _channels(measures: Measures) -> Array:
    """(T, 10), the columns `CHANNELS`; left and right are one, whichever of them is known. Brows in a blink are not."""
    table = measures.table
    table[_blinking(measures), 6:10] = np.nan
    pairs = [table[:, columns] for columns in ((6, 8), (7, 9), (10, 11))]
    known = [np.isfinite(pair) for pair in pairs]
    means = [
        np.where(seen.any(axis=1), np.where(seen, pair, 0).sum(axis=1) / np.maximum(seen.sum(axis=1), 1), np.nan)
        for pair, seen in zip(pairs, known, strict=True)
    ]
    return np.column_stack([table[:, :6], *means, measures.mouth])


def _blinking(measures: Measures) -> Flags:
    """(T,), frames with closed eyes, and their neighbours, if the eyes open again within `SHORT_GAP`.

    Lids pull at what lies above them, and the landmarks that the pose comes from: brows seem to move by 0.1 cm.
    """
    closed = np.nan_to_num(measures.eyes, nan=1.0).mean(axis=1) < _CLOSED
    edges = np.flatnonzero(np.diff(np.concatenate([[False], closed, [False]]).astype(np.int8))).reshape(-1, 2)
    flags = np.zeros(len(closed), bool)
    for first, end in edges:
        opens_again = first > 0 and end < len(closed)
        if opens_again and measures.time_s[end] - measures.time_s[first] < SHORT_GAP:
            flags[max(first - 1, 0) : end + 1] = True
    return flags


def _bridge(values: Array) -> Array:
    """The same with short gaps filled by lines, and the edges by what is nearest."""
    filled = values.copy()
    for column in filled.T:
        known = np.flatnonzero(np.isfinite(column))
        if not len(known):
            continue
        every = np.arange(len(column))
        after = known[np.minimum(np.searchsorted(known, every), len(known) - 1)]
        before = known[np.maximum(np.searchsorted(known, every, side="right") - 1, 0)]
        gap = np.where(after > before, after - before - 1, 2 * np.minimum(abs(every - before), abs(every - after)))
        short = gap <= SHORT_GAP * RATE
        column[short] = np.interp(every[short], known, column[known])
    return filled


def _periodicity(values: Array) -> Array:
    """(G, 4) of a signal (G,): amplitudes of slow and of quick swings, reversal and rhythm."""
    signal = np.nan_to_num(values - rest_level(values))
    spectrum = _windows(signal, round(_SPECTRUM_S * RATE))
    rates = np.arange(BAND[0], BAND[1] + 0.1, 0.5)
    phase = 2 * np.pi * rates * np.arange(spectrum.shape[1])[:, None] / RATE
    taper = np.hanning(spectrum.shape[1] + 2)[1:-1]
    amplitude = 2 / taper.sum() * np.abs((spectrum * taper) @ np.exp(-1j * phase))
    slow = rates < SLOW_BELOW
    velocity = np.gradient(signal, 1 / RATE) if len(signal) > 1 else signal
    regular = _regularity(_around(velocity, round(_RHYTHM_S * RATE)))
    rows = np.column_stack([amplitude[:, slow].max(axis=1), amplitude[:, ~slow].max(axis=1), regular])
    return np.where(np.isfinite(values)[:, None], rows, np.nan)


def _regularity(windows: Array) -> Array:
    """(G, 2), reversal and rhythm of velocities (G, width): a turn of the head has neither, to and fro only reverses.

    Reversal is the lowest normalised autocorrelation, negated. Rhythm is the highest one at a period of the band, but
    no more than the reversal before it. Noise counts as irregular.
    """
    width = windows.shape[1]
    reversal, rhythm = np.zeros(len(windows)), np.zeros(len(windows))
    for lag in range(2, round(RATE / BAND[0]) + 1):
        one, other = windows[:, :-lag], windows[:, lag:]
        floor = _FLOOR**2 * (width - lag)
        energy = np.sqrt(((one**2).sum(axis=1) + floor) * ((other**2).sum(axis=1) + floor))
        likeness = (one * other).sum(axis=1) / energy
        rhythm = np.maximum(rhythm, np.minimum(likeness, reversal))
        reversal = np.maximum(reversal, -likeness)
    return np.column_stack([reversal, rhythm])


def _around(signal: Array, width: int) -> Array:
    """(G, width), what lies around every moment."""
    before = width // 2
    return sliding_window_view(np.pad(signal, (before, width - 1 - before), "edge"), width)


def _windows(signal: Array, width: int) -> Array:
    """(G, width), the same less the line through it."""
    windows = _around(signal, width)
    ramp = np.arange(width) - (width - 1) / 2
    centred = windows - windows.mean(axis=1, keepdims=True)
    slopes = centred @ ramp / (ramp @ ramp)
    detrended: Array = centred - slopes[:, None] * ramp
    return detrended

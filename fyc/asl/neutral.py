"""What a signer's face shows at rest, pose by pose: the baseline that measures are taken from.

Pooled over signers, a raised brow can hardly be told from a high one; within a signer, what remains of the head's pose
in a measure hides it. Nobody says which frames are neutral. So the dependence on pose is read off pairs of frames:
differences within one expression follow the pose, those between expressions scatter to both sides and are outvoted.
Rest is then where most frames are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: Frames of which all pairs are taken; more are thinned out evenly.
_FRAMES = 120
#: Poses are counted in this many degrees.
_UNIT = 15.0
#: Pairs whose weight decides on the slopes; of a slope of one standard deviation per unit, this many weigh as much.
_RIDGE = 2.0
_ROUNDS = 40


@dataclass(frozen=True)
class NeutralBaseline:
    """The value of one measure at rest.

    Attributes:
        slopes: (4,), of yaw, pitch and their squares, in units of 15 degrees.
        level: at a frontal pose.
        scatter: of the measure around rest, as a standard deviation; 0 where nothing scatters.
    """

    slopes: Array
    level: float
    scatter: float

    @classmethod
    def fit(cls, values: Array, angles: Array) -> NeutralBaseline:
        """The baseline of a measure.

        Args:
            values: (N,), of frames all over the video; NaN where it was not measured.
            angles: (N, 2) or wider, yaw and pitch in degrees.

        Raises:
            ValueError: if fewer than three values are known.
        """
        known = np.flatnonzero(np.isfinite(values) & np.isfinite(angles[:, :2]).all(axis=1))
        if len(known) < 3:
            raise ValueError(f"a baseline needs three frames, there are {len(known)}")
        if len(known) > _FRAMES:
            known = known[np.linspace(0, len(known) - 1, _FRAMES).round().astype(int)]
        terms, y = _terms(angles[known]), values[known].astype(np.float64)
        slopes = _slopes(terms, y)
        rest = y - terms @ slopes
        level = _mode(rest)
        below = level - rest[rest <= level]
        scatter = 1.4826 * float(np.median(below)) if len(below) else 0.0
        return cls(slopes, level, scatter)

    @property
    def row(self) -> Array:
        """(6,), slopes, level and scatter."""
        return np.array([*self.slopes, self.level, self.scatter])

    @classmethod
    def from_row(cls, row: Array) -> NeutralBaseline | None:
        """The baseline of a `row`; None if there is NaN in it."""
        return cls(row[:4], float(row[4]), float(row[5])) if np.isfinite(row).all() else None

    def above(self, values: Array, angles: Array) -> Array:
        """(N,), values above rest, for values (N,) and angles (N, 2) or wider."""
        return values - _terms(angles) @ self.slopes - self.level


def _terms(angles: Array) -> Array:
    """(N, 4): yaw, pitch and their squares; poses beyond 45 degrees count as 45."""
    turned = np.clip(angles[:, :2], -45, 45) / _UNIT
    return np.concatenate([turned, turned**2], axis=1)


def _slopes(terms: Array, y: Array) -> Array:
    """(4,), what most pairs of frames agree on, by iteratively reweighted least squares."""
    first, second = np.triu_indices(len(y), 1)
    steps, rises = terms[first] - terms[second], y[first] - y[second]
    size = float(np.median(np.abs(rises)))
    slopes: Array = np.zeros(terms.shape[1])
    if size == 0:
        return slopes
    for _ in range(_ROUNDS):
        misfit = np.abs(rises - steps @ slopes)
        scale = max(float(np.quantile(misfit, 0.35)), 1e-3 * size)
        weights = 1 / (1 + (misfit / scale) ** 2) ** 2
        weighted = steps * weights[:, None]
        slopes = np.asarray(
            np.linalg.solve(weighted.T @ steps + _RIDGE * np.eye(len(slopes)), weighted.T @ rises), np.float64
        )
    return slopes


def _mode(values: Array) -> float:
    """The half-sample mode (Robertson and Cryer, 1974): halve the shortest interval that holds half of the values."""
    ordered = np.sort(values)
    while len(ordered) > 2:
        half = (len(ordered) + 1) // 2
        widths = ordered[half - 1 :] - ordered[: len(ordered) - half + 1]
        start = int(widths.argmin())
        ordered = ordered[start : start + half]
    return float(ordered.mean())

"""Figures of pose and brows: errors in degrees, how well raises are told from rest, what of the pose stays in rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fyc.asl.bench.pose import Answers, HeadResult
from fyc.asl.bench.statistics import Array, Interval, auc, correlation, mean_interval

#: Borders of the bins of |yaw|, in degrees.
BINS = ((0, 15), (15, 30), (30, 45))


@dataclass(frozen=True)
class PoseFigures:
    """Errors of the pose by one method, in degrees; a head counts as one, with the mean of its pictures.

    Attributes:
        missed: part of the pictures in which it found no face; they are in no other figure.
        error: mean absolute error of yaw, pitch and roll.
        relative: the same after each axis of each head was shifted by its median error: what a constant offset, such as
            a wrong camera or an unusual face gives, does not count.
        axes: the same for each of them.
        bins: the same for each bin of |yaw|, see `BINS`.
    """

    missed: float
    error: Interval
    relative: Interval
    axes: tuple[Interval, Interval, Interval]
    bins: tuple[Interval, ...]

    def document(self) -> dict[str, Any]:
        """For JSON: a figure is [value, low, high]."""
        names = (f"{low}-{high}" for low, high in BINS)
        return {
            "missed": self.missed,
            "error_deg": self.error.document(),
            "error_without_offset_deg": self.relative.document(),
            **{f"{axis}_deg": part.document() for axis, part in zip(("yaw", "pitch", "roll"), self.axes, strict=True)},
            "error_deg_by_yaw": {name: part.document() for name, part in zip(names, self.bins, strict=True)},
        }


@dataclass(frozen=True)
class BrowFigures:
    """How well the brows are measured by one method, each head against itself.

    Attributes:
        unknown: part of the pictures in which it says nothing of the brows; they are in no other figure.
        auc: how probable it is that a picture with raised brows is above one at rest.
        worst: the lowest of these, of one head.
        scatter: |r| of what is said at rest with the true pitch.
        drift: r itself, its sign kept.
    """

    unknown: float
    auc: Interval
    worst: float
    scatter: Interval
    drift: float

    def document(self) -> dict[str, Any]:
        """For JSON: a figure is [value, low, high]."""
        known = np.isfinite(self.worst)
        return {
            "unknown": self.unknown,
            "auc": self.auc.document(),
            "worst_auc": self.worst if known else None,
            "abs_r_with_pitch": self.scatter.document(),
            "r_with_pitch": self.drift if np.isfinite(self.drift) else None,
        }


def pose_figures(heads: Sequence[HeadResult]) -> dict[str, PoseFigures]:
    """Errors of the methods that have a pose, by name."""
    found = {}
    for name in heads[0].answers:
        errors = [error for head in heads if (error := _errors(head, head.answers[name])) is not None]
        if len(errors) == len(heads):
            found[name] = _pose(heads, errors)
    return found


def _errors(head: HeadResult, answers: Answers) -> Array | None:
    """(T, 3), in degrees, with their signs."""
    if answers.angles is None:
        return None
    wrapped: Array = (answers.angles - head.truth + 180) % 360 - 180
    return wrapped


def _pose(heads: Sequence[HeadResult], signed: Sequence[Array]) -> PoseFigures:
    relative = mean_interval([_mean(np.abs(error - _median(error))) for error in signed])
    errors = [np.abs(error) for error in signed]
    bins = []
    for low, high in BINS:
        inside = [(low <= np.abs(head.truth[:, 0])) & (np.abs(head.truth[:, 0]) < high) for head in heads]
        bins.append(mean_interval([_mean(error[part]) for error, part in zip(errors, inside, strict=True)]))
    yaw, pitch, roll = (mean_interval([_mean(error[:, axis]) for error in errors]) for axis in range(3))
    missed = float(np.isnan(np.concatenate(errors)[:, 0]).mean())
    overall = mean_interval([_mean(error) for error in errors])
    return PoseFigures(missed, overall, relative, (yaw, pitch, roll), tuple(bins))


def _median(errors: Array) -> Array:
    """(3,), of the pictures in which the face was found."""
    known = errors[np.isfinite(errors[:, 0])]
    return np.median(known, axis=0) if len(known) else np.full(3, np.nan)


def _mean(values: Array) -> float:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def brow_figures(heads: Sequence[HeadResult]) -> dict[str, BrowFigures]:
    """How well the methods measure brows, by name."""
    return {name: _brows(heads, name) for name in heads[0].answers}


def _brows(heads: Sequence[HeadResult], name: str) -> BrowFigures:
    told, rest, unknown = [], [], []
    for head in heads:
        brows = head.answers[name].brows
        known = np.isfinite(brows)
        up, down = known & head.raised, known & ~head.raised
        told.append(auc(brows[up], brows[down]))
        rest.append(correlation(brows[down], head.truth[down, 1]))
        unknown.append(1 - known.mean())
    finite = np.array([value for value in told if np.isfinite(value)])
    worst = float(finite.min()) if len(finite) else float("nan")
    return BrowFigures(
        float(np.mean(unknown)),
        mean_interval(told),
        worst,
        mean_interval([abs(r) for r in rest]),
        _mean(np.array(rest)),
    )

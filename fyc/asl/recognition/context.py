"""What surrounds a moment: statistics of windows, how long events have been going on; standardisation and PCA.

Rows are moments of the grid (`fyc.asl.recognition.features.RATE` a second).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from fyc.asl.face.camera import Array
from fyc.asl.recognition.features import RATE

#: Borders of the windows around a moment in which means are taken, in seconds.
NEAR = (-0.5, -0.2, 0.0, 0.2, 0.5)
FAR = (-2.0, -1.0, -0.5, -0.2, 0.0, 0.2, 0.5, 1.0, 2.0)


@dataclass(frozen=True, repr=False)
class Standard:
    """Standardisation of D columns.

    Attributes:
        mean, deviation: (D,), of the data it was made from; columns that do not vary have a deviation of 1.
    """

    mean: Array
    deviation: Array

    @classmethod
    def fit(cls, rows: Sequence[Array]) -> Standard:
        """From rows (G, D) of several videos; NaN does not count."""
        together = np.concatenate(rows)
        known = np.isfinite(together)
        count = np.maximum(known.sum(axis=0), 1)
        mean = np.where(known, together, 0).sum(axis=0) / count
        variance = np.where(known, together - mean, 0) ** 2
        deviation = np.sqrt(variance.sum(axis=0) / count)
        return cls(mean, np.where(deviation > 1e-9, deviation, 1.0))

    def apply(self, rows: Array) -> Array:
        """(G, D) with mean 0 and variance 1, no further than 6 from 0; what is not known is 0."""
        return np.nan_to_num(np.clip((rows - self.mean) / self.deviation, -6, 6))


@dataclass(frozen=True, repr=False)
class Pca:
    """Principal components of descriptors, such as texture.

    Attributes:
        mean: (D,).
        components: (K, D), orthonormal rows, the largest variance first.
    """

    mean: Array
    components: Array

    @classmethod
    def fit(cls, rows: Sequence[Array], count: int) -> Pca:
        """At most `count` components of rows (G, D) of several videos; rows with NaN do not count.

        Raises:
            ValueError: if no row is known.
        """
        together = np.concatenate(rows)
        together = together[np.isfinite(together).all(axis=1)]
        if not len(together):
            raise ValueError("no descriptor is known in any of the videos")
        mean = together.mean(axis=0)
        covariance = (together - mean).T @ (together - mean) / len(together)
        _, vectors = np.linalg.eigh(covariance)
        components = vectors[:, ::-1][:, :count].T
        largest = np.abs(components).argmax(axis=1)
        signs = np.sign(components[np.arange(len(components)), largest])
        return cls(mean, components * signs[:, None])

    def apply(self, rows: Array) -> Array:
        """(G, K), coordinates of rows (G, D); NaN where the row is not known."""
        coordinates: Array = (rows - self.mean) @ self.components.T
        return coordinates


def window_means(rows: Array, borders: Sequence[float]) -> Array:
    """(G, D x windows), means of rows (G, D) in windows around every moment.

    Args:
        rows: without NaN; before the first and after the last moment they go on as they are there.
        borders: of adjoining windows, in seconds from the moment.
    """
    edges = [round(border * RATE) for border in borders]
    before, after = max(-edges[0], 0), max(edges[-1], 0)
    padded = np.pad(rows, ((before, after), (0, 0)), "edge")
    sums = np.concatenate([np.zeros((1, rows.shape[1])), np.cumsum(padded, axis=0)])
    moment = np.arange(len(rows)) + before
    return np.concatenate(
        [(sums[moment + end] - sums[moment + start]) / (end - start) for start, end in pairwise(edges)], axis=1
    )


def run_lengths(present: Array) -> Array:
    """(G, 3 E), how long events have been going on, how long they will, and both together, in seconds.

    Args:
        present: (G, E), probabilities; a run is as long as it is expected to be if moments were independent.
    """
    elapsed, remaining = _run(present), _run(present[::-1])[::-1]
    both = np.maximum(elapsed + remaining - present / RATE, 0)
    return np.concatenate([elapsed, remaining, both], axis=1)


def _run(present: Array) -> Array:
    lengths = np.zeros_like(present)
    so_far = np.zeros(present.shape[1])
    for moment, share in enumerate(present):
        so_far = share * (so_far + 1 / RATE)
        lengths[moment] = so_far
    return lengths


def folds(groups: Sequence[str], count: int) -> NDArray[np.intp]:
    """(N,), the fold of every video, 0 to `count` - 1: those of a group are in the same one, sizes are about equal.

    Args:
        groups: for each video, such as who signs.
        count: how many folds; fewer if there are fewer groups.
    """
    names = sorted(set(groups))
    sizes = np.zeros(min(count, len(names)), int)
    place = {}
    for name in sorted(names, key=lambda name: (-groups.count(name), name)):
        place[name] = int(sizes.argmin())
        sizes[place[name]] += groups.count(name)
    return np.array([place[name] for name in groups], np.intp)

"""How sure an ensemble can be of a frame: a logistic model of what it measured, fitted where the truth is known.

`bench/asl_confidence.py` fitted the parameters that come with fyc, on synthetic clips of the split `calibration`: right
is a mean error of at most 10 % of the distance of the outer eye corners, as it would be seen from the front.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

FILE = "track_confidence.safetensors"
_STEPS, _RIDGE = 50, 1e-3


@dataclass(frozen=True)
class Evidence:
    """What speaks for and against a frame's landmarks.

    Attributes:
        known: 0 to 1, how well the looks of the face are known: 1 after 30 views.
        similarity: with them, -1 to 1; 0 when nothing is known.
        covered: what part of what should be seen of the face is not it, 0 to 1.
        hidden: what part of the face is turned away or outside of the picture, 0 to 1.
        misfit: residual of the pose, as a part of the face's size.
        prior: energy of the shape prior.
        speaking: what part of the trackers says anything.
        nearest, farthest: median distance to the tracker that agrees most, and least, in distances of the eyes.
        steady: lowest of the trackers' own scores, each as a part of its running mean.
        found: how much the finders agree with where the face is, 0 to 1; 0.5 when they were not asked.
        turned: angle between the face and the camera, as a part of 90 degrees.
        doubt: running mean of the best energy.
    """

    known: float
    similarity: float
    covered: float
    hidden: float
    misfit: float
    prior: float
    speaking: float
    nearest: float
    farthest: float
    steady: float
    found: float
    turned: float
    doubt: float

    def terms(self) -> Array:
        """(T,), the terms of the logistic model, the constant left out."""
        plain = np.array([getattr(self, field.name) for field in fields(self)])
        return np.append(plain, self._products())

    def _products(self) -> list[float]:
        return [
            self.known * self.similarity, self.known * self.covered, self.covered**2, self.turned**2,
            self.known * max(0.75 - self.similarity, 0.0), self.misfit * self.turned,
            np.log(self.nearest + 0.01), np.log(self.farthest + 0.01), np.log(self.misfit + 0.005),
        ]  # fmt: skip


@dataclass(frozen=True)
class ConfidenceModel:
    """A logistic model.

    Attributes:
        mean, scale: (T,), of the terms where it was fitted.
        weights: (T,), of the standardised terms.
        bias: their constant.
    """

    mean: Array
    scale: Array
    weights: Array
    bias: float

    def of(self, evidence: Evidence) -> float:
        """The probability that the frame is right, 0 to 1."""
        return float(self.of_terms(evidence.terms()[None])[0])

    def of_terms(self, terms: Array) -> Array:
        """(N,) probabilities for terms (N, T). Terms beyond five deviations are taken as five."""
        standard = np.clip((terms - self.mean) / self.scale, -5, 5)
        return _logistic(standard @ self.weights + self.bias)


def fit_confidence(terms: Array, right: NDArray[np.bool_]) -> ConfidenceModel:
    """Fit the model by Newton's method, with a small ridge.

    Args:
        terms: (N, T).
        right: (N,), both values must occur.
    """
    mean, scale = terms.mean(axis=0), np.maximum(terms.std(axis=0), 1e-6)
    x = np.append(np.clip((terms - mean) / scale, -5, 5), np.ones((len(terms), 1)), axis=1)
    ridge = _RIDGE * len(terms) * np.append(np.ones(terms.shape[1]), 0)
    weights = np.zeros(x.shape[1])
    for _ in range(_STEPS):
        p = _logistic(x @ weights)
        gradient = x.T @ (p - right) + ridge * weights
        hessian = (x * (p * (1 - p))[:, None]).T @ x + np.diag(ridge + 1e-9)
        step = np.linalg.solve(hessian, gradient)
        weights -= step
        if np.abs(step).max() < 1e-9:
            break
    return ConfidenceModel(mean, scale, weights[:-1], float(weights[-1]))


def _logistic(values: Array) -> Array:
    chances: Array = 1 / (1 + np.exp(-np.clip(values, -50, 50)))
    return chances


def calibration_error(confidence: Array, right: NDArray[np.bool_], bins: int = 10) -> float:
    """Expected calibration error: mean over frames of |confidence - share that is right| of their bin."""
    number = np.minimum((confidence * bins).astype(np.intp), bins - 1)
    gaps = [abs(float((confidence[number == bin_] - right[number == bin_]).sum())) for bin_ in range(bins)]
    return sum(gaps) / max(len(confidence), 1)


@cache
def load_confidence() -> ConfidenceModel:
    """The model that comes with fyc."""
    from safetensors.numpy import load

    tensors = load((files("fyc.asl") / "data" / FILE).read_bytes())
    mean, scale, weights = (tensors[name].astype(np.float64) for name in ("mean", "scale", "weights"))
    return ConfidenceModel(mean, scale, weights, float(tensors["bias"][0]))

"""The logistic model of confidence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from fyc.asl.tracking.confidence import Evidence, calibration_error, fit_confidence, load_confidence

GOOD = Evidence(1, 0.97, 0, 0.1, 0.004, 0.02, 1, 0.01, 0.03, 1, 1, 0.1, 0.15)
BAD = Evidence(1, 0.2, 0.8, 0.3, 0.02, 0.5, 0.67, 0.2, 0.3, 0.6, 0, 0.4, 1.1)


def test_the_fit_finds_the_model_that_made_the_data() -> None:
    rng = np.random.default_rng(0)
    terms = rng.normal(size=(20_000, 3)) * (1, 10, 0.1) + (5, 0, 2)
    truth = 1 / (1 + np.exp(-((terms[:, 0] - 5) * 2 - terms[:, 1] / 10 + 0.5)))
    model = fit_confidence(terms, rng.uniform(size=len(terms)) < truth)
    assert np.abs(model.of_terms(terms) - truth).max() < 0.05
    assert calibration_error(model.of_terms(terms), rng.uniform(size=len(terms)) < truth) < 0.02


def test_data_that_separate_have_a_finite_fit() -> None:
    terms = np.linspace(-1, 1, 50)[:, None]
    model = fit_confidence(terms, terms[:, 0] > 0)
    assert np.isfinite(model.weights).all()
    assert model.of_terms(terms)[[0, -1]] == pytest.approx([0, 1], abs=0.1)


def test_calibration_error_by_hand() -> None:
    confidence = np.array([0.05, 0.05, 0.95, 0.95, 1.0])
    right = np.array([False, True, True, True, False])
    assert calibration_error(confidence, right) == pytest.approx((abs(0.1 - 1) + abs(2.9 - 2)) / 5)
    assert calibration_error(np.array([1.0, 0.0]), np.array([True, False])) == 0


def test_the_model_that_comes_with_fyc_knows_good_from_bad() -> None:
    model = load_confidence()
    assert len(model.weights) == len(GOOD.terms())
    assert model.of(GOOD) > 0.9
    assert model.of(BAD) < 0.3
    doubtful = replace(GOOD, similarity=0.4, covered=0.6)
    assert model.of(BAD) < model.of(doubtful) < model.of(GOOD)

"""Drawing the tracker that speaks."""

from __future__ import annotations

from collections import Counter

import pytest

from fyc.asl.tracking.switching import FLOOR, TEMPERATURE, Switch


def test_chances_follow_energies_and_weights() -> None:
    switch = Switch(["a", "b", "c"], seed=0)
    chances = switch.chances({"a": 0.1, "b": 0.1 + TEMPERATURE, "c": 9.0})
    assert sum(chances.values()) == pytest.approx(1)
    assert (chances["a"] - FLOOR) / (chances["b"] - FLOOR) == pytest.approx(2.71828, rel=1e-4)
    assert chances["c"] == pytest.approx(FLOOR)
    switch.weights["b"] = 3.0
    again = switch.chances({"a": 0.1, "b": 0.1})
    assert (again["b"] - FLOOR) / (again["a"] - FLOOR) == pytest.approx(3)


def test_draws_come_as_often_as_their_chances() -> None:
    switch = Switch(["a", "b"], seed=1)
    energies = {"a": 0.2, "b": 0.2 + 0.5 * TEMPERATURE}
    expected = 0.0
    drawn: Counter[str] = Counter()
    for _ in range(4000):
        expected += switch.chances(energies)["a"]
        drawn[switch.choose(energies)] += 1
    assert drawn["a"] == pytest.approx(expected, abs=4 * (4000 * 0.25) ** 0.5)


def test_the_same_seed_draws_the_same() -> None:
    def drawn(seed: int) -> list[str]:
        switch = Switch(["a", "b", "c"], seed=seed)
        return [switch.choose({"a": 0.1, "b": 0.12, "c": 0.11}) for _ in range(50)]

    assert drawn(3) == drawn(3)
    assert drawn(3) != drawn(4)


def test_weights_are_of_the_recent_past() -> None:
    switch = Switch(["good", "silent"], seed=0)
    for _ in range(60):
        switch.choose({"good": 0.1})
    assert switch.weights["silent"] < 0.01
    assert switch.weights["good"] > 0.8
    for _ in range(60):
        switch.choose({"good": 2.0, "silent": 0.1})
    assert switch.weights["silent"] > 0.8
    assert switch.weights["good"] < 0.3


def test_greedy_takes_the_best() -> None:
    switch = Switch(["a", "b"], seed=0, greedy=True)
    assert {switch.choose({"a": 0.11, "b": 0.1}) for _ in range(20)} == {"b"}

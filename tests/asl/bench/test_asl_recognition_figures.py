"""Figures of recognition, on segments and chains that are written by hand."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch

from fyc.asl.bench.recognition_figures import Agreement, log_odds, true_segments
from fyc.asl.bench.statistics import auc, auc_interval, interval_of, mean_interval
from fyc.asl.recognition.recognizer import new_chain
from fyc.asl.segments import Segment
from fyc.asl.synthetic import CORPORA

CLASSES = ("nod", "shake")


def nod(start: float) -> Segment:
    return Segment(start, start + 1, "nod")


def shake(start: float) -> Segment:
    return Segment(start, start + 1, "shake")


def test_f1_counts_segments_of_all_clips_and_leaves_other_classes_out() -> None:
    found = [[nod(0), nod(5), Segment(0, 1, "blink")], [shake(0.1)]]
    true = [[nod(0.2), shake(8)], [shake(0)]]
    agreement = Agreement.of(found, true, CLASSES, [0, 1])
    assert agreement.counts.tolist() == [[[1, 2, 1], [0, 0, 1]], [[0, 0, 0], [1, 1, 1]]]
    assert agreement.f1("nod").value == pytest.approx(2 / 3)
    assert agreement.f1("shake").value == pytest.approx(2 / 3)
    assert agreement.macro().value == pytest.approx(2 / 3)
    assert agreement.table().splitlines()[1].startswith("  shake            0.67 (")
    assert agreement.table().splitlines()[1].endswith("of 2")


def test_clips_of_a_signer_are_drawn_together() -> None:
    found, true = [[nod(0)], [nod(0)], [], []], [[nod(0)]] * 4
    alone = Agreement.of(found, true, CLASSES, range(4))
    together = Agreement.of(found, true, CLASSES, [3, 3, 7, 7])
    assert alone.macro().value == together.macro().value == pytest.approx(1 / 3)
    assert (together.f1("nod").low, together.f1("nod").high) == (0, 1)
    assert np.isnan(Agreement.of(found, true, CLASSES, [5] * 4).macro().low)


def test_the_difference_is_of_the_same_draws() -> None:
    true = [[nod(0)], [shake(0)], [nod(0), shake(3)]]
    best, none = (Agreement.of(found, true, CLASSES, range(3)) for found in (true, [[]] * 3))
    assert best.above(best).text(digits=3) == "0.000 (0.000 to 0.000)"
    assert best.above(none).value == 1
    assert none.above(best).value == -1


def test_as_many_clips_on_both_sides() -> None:
    with pytest.raises(ValueError, match="zip"):
        Agreement.of([[nod(0)]], [[nod(0)], []], CLASSES, [0, 1])


def test_true_segments_keep_their_phases_and_what_can_be_recognised() -> None:
    script = next(script for script in CORPORA["check"] if any(part.label == "mouth" for part in script.segments))
    events = true_segments(script, "event")
    kept = [part for part in script.segments if part.tier == "event" and part.label not in ("mouth", "nose-wrinkle")]
    assert [part.label for part in events] == [part.label for part in kept]
    assert [part.core_s * script.fps for part in events] == pytest.approx([part.core for part in kept])
    assert {part.label for part in true_segments(script, "marker")} == set(script.labels()) - {""}


def test_the_auc_of_draws_is_that_of_the_scores_drawn() -> None:
    rng = np.random.default_rng(3)
    scores, high = rng.integers(0, 5, 30).astype(float), rng.random(30) < 0.5
    groups = rng.permutation(np.repeat([2, 4, 9], 10))
    by_group = [(scores[(groups == name) & high], scores[(groups == name) & ~high]) for name in (2, 4, 9)]

    def naive(chosen: np.ndarray) -> np.ndarray:
        sides = [[np.concatenate([by_group[one][side] for one in row]) for side in range(2)] for row in chosen]
        return np.array([auc(above, below) for above, below in sides])

    found, slow = auc_interval(scores, high, groups.tolist()), interval_of(3, naive)
    assert found.value == pytest.approx(auc(scores[high], scores[~high]))
    assert (found.low, found.high) == pytest.approx((slow.low, slow.high))
    assert found.low < found.value < found.high


def test_an_auc_without_one_side_is_unknown() -> None:
    assert np.isnan(auc_interval(np.arange(3.0), np.ones(3, bool), [0, 1, 2]).value)


def test_the_mean_of_clips_has_an_interval_over_their_signers() -> None:
    values, signers = [0.0, 0.0, 0.0, 1.0, float("nan")], [0, 0, 0, 1, 2]
    found = mean_interval(values, signers)
    assert found.value == 0.25
    assert (found.low, found.high) == (0, 1)
    assert mean_interval(values).high < 1


def test_odds_are_those_of_sequences_with_one_marker_only() -> None:
    torch.manual_seed(0)
    chain, names = new_chain(2, 2), ("a", "b")
    with torch.no_grad():
        for part in chain.parameters():
            part.copy_(torch.randn_like(part))
    inputs = np.random.default_rng(0).normal(size=(4, 2))
    emissions = chain(torch.from_numpy(inputs)[None])
    mask = torch.ones(1, 4, dtype=torch.bool)

    def total(labels: tuple[int, ...]) -> float:
        tags = torch.tensor(list(product(labels, repeat=4)))
        every = mask.expand(len(tags), 4)
        scores = chain.chain.score(emissions.expand(len(tags), -1, -1), tags, every)
        return float(scores.logsumexp(0).detach())

    expected = total((0, 4, 5, 6)) - total((0, 1, 2, 3))
    assert log_odds(chain, names, inputs, ("b", "a")) == pytest.approx(expected)
    assert log_odds(chain, names, inputs, ("a", "b")) == pytest.approx(-expected)

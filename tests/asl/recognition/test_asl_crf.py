"""The chain against all label sequences one by one, and against pytorch-crf."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
import torchcrf
from hypothesis import given, settings
from hypothesis import strategies as st

from fyc.asl.recognition.crf import FORBIDDEN, LinearChain, LinearCrf

Problem = tuple[LinearChain, torch.Tensor, torch.Tensor]


def problem(
    seed: int, states: int, lengths: list[int], dtype: torch.dtype = torch.float64, *, constrained: bool = False
) -> Problem:
    """A chain with random scores, emissions and a mask."""
    rng = np.random.default_rng(seed)
    allowed = rng.uniform(size=(states, states)) < 0.6
    np.fill_diagonal(allowed, True)
    first = rng.uniform(size=states) < 0.6
    first[0] = True
    chain = LinearChain(states, allowed if constrained else None, first if constrained else None, dtype=dtype)
    with torch.no_grad():
        for parameter in chain.parameters():
            parameter.copy_(torch.from_numpy(rng.normal(0, 2, parameter.shape)))
    emissions = torch.from_numpy(rng.normal(0, 2, (len(lengths), max(lengths), states))).to(dtype)
    return chain, emissions, torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]


def enumerated(chain: LinearChain, emissions: torch.Tensor, length: int) -> dict[tuple[int, ...], float]:
    """The score of every allowed label sequence, by its definition."""
    transitions, start, end = (part.detach().double().numpy() for part in chain.scores())
    rows = emissions.double().numpy()
    scores = {}
    for tags in product(range(len(start)), repeat=length):
        score = start[tags[0]] + end[tags[-1]] + sum(rows[t, tag] for t, tag in enumerate(tags))
        score += sum(transitions[tags[t - 1], tags[t]] for t in range(1, length))
        if score > FORBIDDEN / 2:
            scores[tags] = float(score)
    return scores


sizes = st.lists(st.integers(1, 5), min_size=1, max_size=3)


@given(st.integers(0, 10**6), st.integers(2, 4), sizes, st.booleans())
@settings(max_examples=25, deadline=None)
def test_inference_is_that_of_all_sequences(seed: int, states: int, lengths: list[int], constrained: bool) -> None:
    chain, emissions, mask = problem(seed, states, lengths, constrained=constrained)
    partition = chain.log_partition(emissions, mask).detach().numpy()
    marginals = chain.marginals(emissions, mask).numpy()
    paths, best = chain.viterbi(emissions, mask)
    for row, length in enumerate(lengths):
        scores = enumerated(chain, emissions[row], length)
        values = np.array(list(scores.values()))
        whole = values.max() + np.log(np.exp(values - values.max()).sum())
        assert partition[row] == pytest.approx(whole, abs=1e-9)
        expected = np.zeros((max(lengths), states))
        for tags, score in scores.items():
            expected[range(length), tags] += np.exp(score - whole)
        assert np.allclose(marginals[row], expected, atol=1e-9)
        assert float(best[row]) == pytest.approx(values.max(), abs=1e-9)
        assert scores[tuple(paths[row, :length].tolist())] == pytest.approx(values.max(), abs=1e-9)
        assert (paths[row, length:] == -1).all()


@given(st.integers(0, 10**6), sizes)
@settings(max_examples=15, deadline=None)
def test_likelihood_and_gradients_are_those_of_pytorch_crf(seed: int, lengths: list[int]) -> None:
    chain, emissions, mask = problem(seed, 4, lengths)
    peer = torchcrf.CRF(4, batch_first=True).double()
    with torch.no_grad():
        peer.transitions.copy_(chain.transitions)
        peer.start_transitions.copy_(chain.start)
        peer.end_transitions.copy_(chain.end)
    tags = torch.from_numpy(np.random.default_rng(seed).integers(0, 4, mask.shape))
    ours, theirs = chain.log_likelihood(emissions, tags, mask), peer(emissions, tags, mask, reduction="none")
    assert torch.allclose(ours, theirs, atol=1e-10)
    ours.sum().backward()
    theirs.sum().backward()
    if max(lengths) > 1:
        assert torch.allclose(chain.transitions.grad, peer.transitions.grad, atol=1e-10)
    assert torch.allclose(chain.start.grad, peer.start_transitions.grad, atol=1e-10)
    paths, _ = chain.viterbi(emissions, mask)
    assert [row[row >= 0].tolist() for row in paths] == peer.decode(emissions, mask)


def test_chains_side_by_side_are_the_single_ones() -> None:
    lengths = [7, 3, 1]
    singles = [problem(seed, 3, lengths) for seed in range(4)]
    together = LinearChain(3, side_by_side=4)
    with torch.no_grad():
        for name, parameter in together.named_parameters():
            parameter.copy_(torch.stack([dict(chain.named_parameters())[name] for chain, _, _ in singles]))
    emissions, mask = torch.stack([part for _, part, _ in singles]), singles[0][2]
    tags = torch.from_numpy(np.random.default_rng(0).integers(0, 3, (4, 3, 7)))
    together.log_likelihood(emissions, tags, mask).sum().backward()
    for row, (chain, own, _) in enumerate(singles):
        likelihood = chain.log_likelihood(own, tags[row], mask)
        likelihood.sum().backward()
        assert torch.allclose(together.log_likelihood(emissions, tags, mask)[row], likelihood)
        assert torch.allclose(together.transitions.grad[row], chain.transitions.grad)
        assert torch.allclose(together.end.grad[row], chain.end.grad)
        assert torch.allclose(together.marginals(emissions, mask)[row], chain.marginals(own, mask))
        assert torch.equal(together.viterbi(emissions, mask)[0][row], chain.viterbi(own, mask)[0])


@pytest.mark.parametrize("size", [1.0, 3000.0])
def test_very_unlikely_labels_are_exact_too(size: float) -> None:
    chain = LinearChain(2, np.array([[True, False], [True, True]]), np.array([True, False]))
    emissions = torch.tensor([[[-size, 0.0], [-0.5, 0.6], [0.0, 0.0]]], dtype=torch.float64)
    mask = torch.ones(1, 3, dtype=torch.bool)
    assert chain.log_partition(emissions, mask).item() == pytest.approx(-size - 0.5, abs=1e-9)
    assert torch.allclose(chain.marginals(emissions, mask)[..., 0], torch.ones(1, 3, dtype=torch.float64))


def test_training_side_by_side_is_that_of_each() -> None:
    features, tags = sequences(6, 5)
    both = LinearCrf(2, LinearChain(2, side_by_side=2))
    both.fit(features, [np.stack([tag, 1 - tag]) for tag in tags], iterations=200)
    for row, own in enumerate((tags, [1 - tag for tag in tags])):
        alone = LinearCrf(2, LinearChain(2))
        alone.fit(features, own, iterations=200)
        assert torch.allclose(both.weight[:, row], alone.weight, atol=2e-3)
        assert np.array_equal(both.decode(features)[0][row], alone.decode(features)[0])


def test_single_precision_agrees() -> None:
    double, emissions, mask = problem(1, 5, [40, 13])
    single, _, _ = problem(1, 5, [40, 13], torch.float32)
    assert torch.allclose(
        single.log_partition(emissions.float(), mask).double(), double.log_partition(emissions, mask), rtol=1e-5
    )
    assert single.marginals(emissions.float(), mask).dtype == torch.float32


def test_what_is_forbidden_never_comes() -> None:
    allowed = np.array([[True, True, False], [False, True, True], [True, False, True]])
    only_first = np.array([True, False, False])
    chain = LinearChain(3, allowed, only_first, only_first)
    emissions = torch.from_numpy(np.random.default_rng(0).normal(0, 5, (20, 12, 3)))
    mask = torch.ones(20, 12, dtype=torch.bool)
    paths, _ = chain.viterbi(emissions, mask)
    assert allowed[paths[:, :-1], paths[:, 1:]].all()
    assert not paths[:, [0, -1]].any()
    marginals = chain.marginals(emissions, mask)
    assert marginals[:, 0, 1:].max() == 0
    assert torch.allclose(marginals.sum(dim=2), torch.ones(20, 12, dtype=torch.float64))


def test_constraints_must_fit() -> None:
    with pytest.raises(ValueError, match="do not fit 3 labels"):
        LinearChain(3, np.ones((2, 2), bool))


def sequences(count: int, seed: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Labels that mostly stay, and features that show them badly."""
    rng = np.random.default_rng(seed)
    features, tags = [], []
    for _ in range(count):
        tag = np.cumsum(rng.uniform(size=rng.integers(20, 50)) < 0.1) % 2
        features.append(np.stack([tag + rng.normal(0, 1.2, len(tag)), rng.normal(size=len(tag))], axis=1))
        tags.append(tag)
    return features, tags


def test_training_finds_what_stays_and_what_shows() -> None:
    features, tags = sequences(40, 0)
    crf = LinearCrf(2, LinearChain(2))
    loss = crf.fit(features, tags)
    assert loss < 0.45 < np.log(2)
    weights = (crf.weight[:, 1] - crf.weight[:, 0]).detach().numpy()
    assert weights[0] > 0.5 > abs(weights[1]) * 3
    others, truth = sequences(40, 1)
    right = np.mean(np.concatenate(crf.decode(others)) == np.concatenate(truth))
    alone = np.mean((np.concatenate(others)[:, 0] > 0.5) == np.concatenate(truth))
    assert right > alone + 0.1


def test_training_stops_where_the_gradient_is_zero() -> None:
    features, tags = sequences(5, 2)
    crf = LinearCrf(2, LinearChain(2))
    loss = crf.fit(features, tags, l2=2.0)  # leaves the gradient behind
    assert all(parameter.grad.abs().max() < 1e-4 for parameter in crf.parameters())
    assert LinearCrf(2, LinearChain(2)).fit(features, tags, l2=20.0) > loss


def test_training_is_repeated_to_the_last_bit() -> None:
    features, tags = sequences(5, 3)
    one, two = (LinearCrf(2, LinearChain(2)) for _ in range(2))
    one.fit(features, tags)
    threads = torch.get_num_threads()
    two.fit(features, tags)
    assert torch.equal(one.weight, two.weight)
    assert torch.get_num_threads() == threads


def test_probabilities_are_those_of_single_sequences() -> None:
    features, tags = sequences(3, 4)
    crf = LinearCrf(2, LinearChain(2))
    crf.fit(features, tags)
    for together, one in zip(crf.probabilities(features), features, strict=True):
        assert np.allclose(together, crf.probabilities([one])[0])
        assert np.allclose(together.sum(axis=1), 1)

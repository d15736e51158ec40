"""Linear-chain conditional random fields (Lafferty, McCallum, Pereira 2001): exact inference, training by L-BFGS."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

#: Score of what is not allowed; finite, so that gradients are. Its probability is 0 in float32 and float64.
FORBIDDEN = -1e4


class LinearChain(nn.Module):
    """Scores of label sequences: score(y) = start[y0] + sum emission[t, yt] + sum transition[yt-1, yt] + end[yT].

    Everywhere: emissions are (B, T, S) float, masks (B, T) bool with the true ones first and at least one in each row,
    tags (B, T) int64 whose values count only where the mask is true.

    Args:
        states: S, how many labels there are.
        allowed: (S, S), whether label j may follow label i; None for all.
        first, last: (S,), whether a sequence may begin or end with a label; None for all.
        dtype: of the parameters, float32 or float64.
    """

    allowed: Tensor
    first: Tensor
    last: Tensor

    def __init__(
        self,
        states: int,
        allowed: NDArray[np.bool_] | None = None,
        first: NDArray[np.bool_] | None = None,
        last: NDArray[np.bool_] | None = None,
        dtype: torch.dtype = torch.float64,
    ) -> None:
        super().__init__()
        self.transitions = nn.Parameter(torch.zeros(states, states, dtype=dtype))
        self.start = nn.Parameter(torch.zeros(states, dtype=dtype))
        self.end = nn.Parameter(torch.zeros(states, dtype=dtype))
        ends = {"first": first, "last": last}
        self.register_buffer("allowed", _flags(allowed, (states, states)), persistent=False)
        for name, flags in ends.items():
            self.register_buffer(name, _flags(flags, (states,)), persistent=False)

    def scores(self) -> tuple[Tensor, Tensor, Tensor]:
        """Transitions (S, S), start (S,) and end (S,), with `FORBIDDEN` where something is not allowed."""
        return (
            self.transitions.masked_fill(~self.allowed, FORBIDDEN),
            self.start.masked_fill(~self.first, FORBIDDEN),
            self.end.masked_fill(~self.last, FORBIDDEN),
        )

    def log_partition(self, emissions: Tensor, mask: Tensor) -> Tensor:
        """(B,), the logarithm of the sum of exp(score) over all label sequences (forward algorithm)."""
        transitions, start, end = self.scores()
        alpha = start + emissions[:, 0]
        for step in range(1, emissions.shape[1]):
            following = torch.logsumexp(alpha[:, :, None] + transitions, dim=1) + emissions[:, step]
            alpha = torch.where(mask[:, step, None], following, alpha)
        return torch.logsumexp(alpha + end, dim=1)

    def score(self, emissions: Tensor, tags: Tensor, mask: Tensor) -> Tensor:
        """(B,), the score of given label sequences."""
        transitions, start, end = self.scores()
        tags = tags.masked_fill(~mask, 0)
        own = emissions.gather(2, tags[:, :, None])[:, :, 0]
        steps = transitions[tags[:, :-1], tags[:, 1:]]
        final = tags.gather(1, mask.sum(dim=1, keepdim=True) - 1)[:, 0]
        inside = (own * mask).sum(dim=1) + (steps * mask[:, 1:]).sum(dim=1)
        return start[tags[:, 0]] + inside + end[final]

    def log_likelihood(self, emissions: Tensor, tags: Tensor, mask: Tensor) -> Tensor:
        """(B,), the logarithm of the probability of given label sequences."""
        return self.score(emissions, tags, mask) - self.log_partition(emissions, mask)

    def marginals(self, emissions: Tensor, mask: Tensor) -> Tensor:
        """(B, T, S), the probability of every label in every frame; 0 behind the end of a sequence.

        They are the gradient of the log-partition by the emissions.
        """
        with torch.enable_grad():
            inputs = emissions.detach().requires_grad_()
            (marginals,) = torch.autograd.grad(self.log_partition(inputs, mask).sum(), inputs)
        return marginals

    @torch.no_grad()
    def viterbi(self, emissions: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The best label sequences (B, T), -1 behind their end, and their scores (B,)."""
        transitions, start, end = self.scores()
        count, length, states = emissions.shape
        best = start + emissions[:, 0]
        stay = torch.arange(states).expand(count, states)
        back = []
        for step in range(1, length):
            value, source = (best[:, :, None] + transitions).max(dim=1)
            inside = mask[:, step, None]
            best = torch.where(inside, value + emissions[:, step], best)
            back.append(torch.where(inside, source, stay))
        score, tag = (best + end).max(dim=1)
        path = [tag]
        for source in reversed(back):
            tag = source.gather(1, tag[:, None])[:, 0]
            path.append(tag)
        return torch.stack(path[::-1], dim=1).masked_fill(~mask, -1), score


class LinearCrf(nn.Module):
    """A chain whose emissions are linear in features (B, T, F).

    Args:
        features: F.
        chain: of the labels.
    """

    def __init__(self, features: int, chain: LinearChain) -> None:
        super().__init__()
        self.chain = chain
        states, dtype = len(chain.start), chain.start.dtype
        self.weight = nn.Parameter(torch.zeros(features, states, dtype=dtype))
        self.bias = nn.Parameter(torch.zeros(states, dtype=dtype))

    def forward(self, features: Tensor) -> Tensor:
        """Emissions (B, T, S)."""
        return features @ self.weight + self.bias

    def fit(
        self,
        features: Sequence[NDArray[np.floating]],
        tags: Sequence[NDArray[np.integer]],
        l2: float = 1.0,
        iterations: int = 100,
    ) -> float:
        """Maximise the log-likelihood less l2/2 times the squared weights, from zero, by L-BFGS on one thread.

        The bias and the chain are not penalised but for a trace, which makes the maximum unique. Nothing is drawn: the
        same data gives the same parameters.

        Args:
            features: for each sequence (T, F).
            tags: for each sequence (T,), labels from 0 on.
            l2: strength of the penalty.
            iterations: at most.

        Returns:
            The mean loss of a frame, penalty included.
        """
        inputs, mask = self._batch(features)
        targets = pad_sequence([torch.from_numpy(np.asarray(tag, np.int64)) for tag in tags], batch_first=True)
        frames = int(mask.sum())
        for parameter in self.parameters():
            nn.init.zeros_(parameter)
        rest = [self.bias, self.chain.transitions, self.chain.start, self.chain.end]
        optimiser = torch.optim.LBFGS(
            self.parameters(), max_iter=iterations, history_size=20, tolerance_grad=1e-6, tolerance_change=1e-9,
            line_search_fn="strong_wolfe",
        )  # fmt: skip

        def loss() -> Tensor:
            optimiser.zero_grad()
            likelihood = self.chain.log_likelihood(self(inputs), targets, mask).sum()
            penalty = l2 * self.weight.square().sum() + 0.01 * l2 * sum(part.square().sum() for part in rest)
            value: Tensor = (penalty / 2 - likelihood) / frames
            value.backward()  # type: ignore[no-untyped-call]
            return value

        with one_thread():
            optimiser.step(loss)  # type: ignore[no-untyped-call]
            return loss().item()

    @torch.no_grad()
    def probabilities(self, features: Sequence[NDArray[np.floating]]) -> list[NDArray[np.float64]]:
        """For each sequence (T, S), the probability of every label in every frame."""
        inputs, mask = self._batch(features)
        with one_thread():
            marginals = self.chain.marginals(self(inputs), mask).double().numpy()
        return [rows[: len(sequence)] for rows, sequence in zip(marginals, features, strict=True)]

    @torch.no_grad()
    def decode(self, features: Sequence[NDArray[np.floating]]) -> list[NDArray[np.int64]]:
        """For each sequence (T,), the best labels."""
        inputs, mask = self._batch(features)
        with one_thread():
            paths = self.chain.viterbi(self(inputs), mask)[0].numpy()
        return [path[: len(sequence)] for path, sequence in zip(paths, features, strict=True)]

    def _batch(self, sequences: Sequence[NDArray[np.floating]]) -> tuple[Tensor, Tensor]:
        """Padded features (B, T, F) and the mask (B, T)."""
        tensors = [torch.from_numpy(np.ascontiguousarray(rows)).to(self.bias.dtype) for rows in sequences]
        lengths = torch.tensor([len(rows) for rows in sequences])
        return pad_sequence(tensors, batch_first=True), torch.arange(int(lengths.max())) < lengths[:, None]


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch computes on one thread: sums come out the same on every machine of a kind, and small chains faster."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _flags(given: NDArray[np.bool_] | None, shape: tuple[int, ...]) -> Tensor:
    if given is None:
        return torch.ones(shape, dtype=torch.bool)
    if given.shape != shape:
        raise ValueError(f"constraints of shape {given.shape} do not fit {shape[0]} labels")
    return torch.from_numpy(np.array(given, bool))

"""Linear-chain conditional random fields (Lafferty, McCallum, Pereira 2001): exact inference, training by L-BFGS."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.utils.rnn import pad_sequence

#: Score of what is not allowed; finite, so that sums are. Its probability is 0 in float32 and float64.
FORBIDDEN = -1e4
#: Where less than this part of the probability is left from one frame to the next, logarithms are needed.
_TINY = 1e-200


class LinearChain(nn.Module):
    """Scores of label sequences: score(y) = start[y0] + sum emission[t, yt] + sum transition[yt-1, yt] + end[yT].

    Several chains of the same labels can be computed side by side: then parameters, emissions and tags have a first
    dimension more, and so has what is returned. Everywhere: emissions are (B, T, S) float, or (K, B, T, S); masks
    (B, T) bool with the true ones first and at least one in each row; tags (B, T) or (K, B, T) int64 whose values count
    only where the mask is true.

    Args:
        states: S, how many labels there are.
        allowed: (S, S), whether label j may follow label i; None for all.
        first, last: (S,), whether a sequence may begin or end with a label; None for all.
        dtype: of the parameters, float32 or float64.
        side_by_side: K; None for a single chain.
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
        side_by_side: int | None = None,
    ) -> None:
        super().__init__()
        before = () if side_by_side is None else (side_by_side,)
        self.transitions = nn.Parameter(torch.zeros(*before, states, states, dtype=dtype))
        self.start = nn.Parameter(torch.zeros(*before, states, dtype=dtype))
        self.end = nn.Parameter(torch.zeros(*before, states, dtype=dtype))
        self.register_buffer("allowed", _flags(allowed, (states, states)), persistent=False)
        for name, flags in {"first": first, "last": last}.items():
            self.register_buffer(name, _flags(flags, (states,)), persistent=False)

    def scores(self) -> tuple[Tensor, Tensor, Tensor]:
        """Transitions (S, S), start (S,) and end (S,), with `FORBIDDEN` where something is not allowed."""
        return (
            self.transitions.masked_fill(~self.allowed, FORBIDDEN),
            self.start.masked_fill(~self.first, FORBIDDEN),
            self.end.masked_fill(~self.last, FORBIDDEN),
        )

    def log_partition(self, emissions: Tensor, mask: Tensor) -> Tensor:
        """(B,), the logarithm of the sum of exp(score) over all label sequences."""
        try:
            partition: Tensor = _LogPartition.apply(emissions, mask, *self.scores())  # type: ignore[no-untyped-call]
        except FloatingPointError:
            return _by_logarithms(emissions, mask, *self.scores())
        return partition

    def score(self, emissions: Tensor, tags: Tensor, mask: Tensor) -> Tensor:
        """(B,), the score of given label sequences."""
        transitions, start, end = self.scores()
        tags = tags.masked_fill(~mask, 0)
        states = start.shape[-1]
        own = emissions.gather(-1, tags[..., None])[..., 0]
        steps = _looked_up(transitions.flatten(-2), tags[..., :-1] * states + tags[..., 1:])
        final = tags.gather(-1, (mask.sum(dim=1, keepdim=True) - 1).expand(*tags.shape[:-1], 1))
        inside = (own * mask).sum(dim=-1) + (steps * mask[:, 1:]).sum(dim=-1)
        return _looked_up(start, tags[..., :1])[..., 0] + inside + _looked_up(end, final)[..., 0]

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
        best = start[..., None, :] + emissions[..., 0, :]
        stay = torch.arange(best.shape[-1]).expand(best.shape)
        back = []
        for step in range(1, emissions.shape[-2]):
            value, source = (best[..., :, None] + transitions[..., None, :, :]).max(dim=-2)
            inside = mask[:, step, None]
            best = torch.where(inside, value + emissions[..., step, :], best)
            back.append(torch.where(inside, source, stay))
        score, tag = (best + end[..., None, :]).max(dim=-1)
        path = [tag]
        for source in reversed(back):
            tag = source.gather(-1, tag[..., None])[..., 0]
            path.append(tag)
        return torch.stack(path[::-1], dim=-1).masked_fill(~mask, -1), score


class _LogPartition(torch.autograd.Function):
    """Forward and backward algorithm with probabilities that are scaled in every frame (Rabiner 1989, section V A).

    In float64, whatever comes in, and much faster than logarithms of sums.

    Raises:
        FloatingPointError: if labels that were left aside as too unlikely might be the only ones that can go on.
    """

    @staticmethod
    def forward(ctx: Any, emissions: Tensor, mask: Tensor, transitions: Tensor, start: Tensor, end: Tensor) -> Tensor:
        by_time = emissions.double().movedim(-2, 0)  # (T, ..., B, S)
        peaks = by_time.amax(dim=-1, keepdim=True)
        seen = (by_time - peaks).exp()
        tops = [part.double().amax() for part in (transitions, start, end)]
        moves, first, last = (
            (part.double() - top).exp() for part, top in zip((transitions, start, end), tops, strict=True)
        )
        inside = mask.T[..., None]
        alpha = first[..., None, :] * seen[0]
        sums = [alpha.sum(dim=-1, keepdim=True)]
        alphas = [alpha / sums[0]]
        for step in range(1, len(seen)):
            alpha = (alphas[-1] @ moves) * seen[step]
            total = alpha.sum(dim=-1, keepdim=True)
            alphas.append(torch.where(inside[step], alpha / total, alphas[-1]))
            sums.append(torch.where(inside[step], total, 1.0))
        final = (alphas[-1] * last[..., None, :]).sum(dim=-1, keepdim=True)
        scales = torch.stack(sums)
        if not min(scales.amin(), final.amin()) > _TINY:
            raise FloatingPointError("probabilities are too small to be scaled")
        ctx.save_for_backward(torch.stack(alphas), seen, scales, moves, last, final, mask)
        ctx.dtypes = [part.dtype for part in (emissions, transitions, start, end)]
        fixed = tops[0] * (mask.sum(dim=1) - 1) + tops[1] + tops[2]
        logs = (scales.log() + peaks * _aligned(inside, peaks)).sum(dim=0) + final.log()
        return (logs[..., 0] + fixed).to(emissions.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        alphas, seen, scales, moves, last, final, mask = ctx.saved_tensors
        inside, back = mask.T[..., None], moves.transpose(-1, -2)
        beta = last[..., None, :] / final
        by_end = alphas[-1] * beta
        betas, flows = [beta.expand_as(alphas[-1])], []
        for step in range(len(seen) - 1, 0, -1):
            flow = torch.where(inside[step], seen[step] * betas[-1] / scales[step], 0.0)
            flows.append(flow)
            betas.append(torch.where(inside[step], flow @ back, betas[-1]))
        grad = grads[0].double()[..., None]
        marginals = alphas * torch.stack(betas[::-1]) * _aligned(inside, alphas) * grad
        by_move = torch.zeros_like(moves)
        if flows:
            pairs = torch.stack(flows[::-1]) * grad
            by_move = torch.einsum("t...bi,t...bj->...ij", alphas[:-1], pairs) * moves
        gradients = (marginals.movedim(0, -2), by_move, marginals[0].sum(dim=-2), (by_end * grad).sum(dim=-2))
        first, *others = (part.to(dtype) for part, dtype in zip(gradients, ctx.dtypes, strict=True))
        return first, None, *others


def _by_logarithms(emissions: Tensor, mask: Tensor, transitions: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """The forward algorithm with logarithms of sums."""
    alpha = start[..., None, :] + emissions[..., 0, :]
    for step in range(1, emissions.shape[-2]):
        following = torch.logsumexp(alpha[..., None] + transitions[..., None, :, :], dim=-2) + emissions[..., step, :]
        alpha = torch.where(mask[:, step, None], following, alpha)
    return torch.logsumexp(alpha + end[..., None, :], dim=-1)


def _aligned(inside: Tensor, like: Tensor) -> Tensor:
    """A mask (T, B, 1) for something of (T, B, S) or (T, K, B, S)."""
    return inside if like.dim() == inside.dim() else inside[:, None]


def _looked_up(table: Tensor, index: Tensor) -> Tensor:
    """Entries of a table (N,) or (K, N) at indices (B, T) or (K, B, T)."""
    return table[..., None, :].expand(*index.shape[:-1], table.shape[-1]).gather(-1, index)


class LinearCrf(nn.Module):
    """A chain, or several side by side, whose emissions are linear in features (B, T, F).

    Args:
        features: F.
        chain: of the labels.
    """

    def __init__(self, features: int, chain: LinearChain) -> None:
        super().__init__()
        self.chain = chain
        self.weight = nn.Parameter(torch.zeros(features, *chain.start.shape, dtype=chain.start.dtype))
        self.bias = nn.Parameter(torch.zeros_like(chain.start))

    def forward(self, features: Tensor) -> Tensor:
        """Emissions (B, T, S), or (K, B, T, S)."""
        emissions: Tensor = torch.tensordot(features, self.weight, 1) + self.bias
        return emissions if emissions.dim() == 3 else emissions.movedim(2, 0)

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
            tags: for each sequence (T,), or (K, T), labels from 0 on.
            l2: strength of the penalty.
            iterations: at most.

        Returns:
            The mean loss of a frame, penalty included.
        """
        inputs, mask = self._batch(features)
        targets = pad_sequence([torch.from_numpy(np.asarray(tag, np.int64).T.copy()) for tag in tags], batch_first=True)
        targets = targets if targets.dim() == 2 else targets.movedim(2, 0)
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
        """For each sequence (T, S), or (K, T, S), the probability of every label in every frame."""
        inputs, mask = self._batch(features)
        with one_thread():
            marginals = self.chain.marginals(self(inputs), mask).double().numpy()
        return [marginals[..., row, : len(sequence), :] for row, sequence in enumerate(features)]

    @torch.no_grad()
    def decode(self, features: Sequence[NDArray[np.floating]]) -> list[NDArray[np.int64]]:
        """For each sequence (T,), or (K, T), the best labels."""
        inputs, mask = self._batch(features)
        with one_thread():
            paths = self.chain.viterbi(self(inputs), mask)[0].numpy()
        return [paths[..., row, : len(sequence)] for row, sequence in enumerate(features)]

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

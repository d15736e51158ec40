"""How large the values of each channel are: a histogram that needs no second look at the text."""

from __future__ import annotations

import torch
from torch import Tensor

#: A bin is an eighth of an octave wide: the exponent and the first 3 bits of the mantissa of a float32.
_DROPPED_BITS = 23 - 3
#: Sizes from 2^-24 to 2^24 have bins of their own; smaller and larger ones go to the ends.
_FIRST = (127 - 24) << 3
_BINS = 48 << 3


class Magnitudes:
    """Histogram of the absolute values of each channel; every value counts as much as its row.

    Args:
        channels: K.

    Attributes:
        largest: float32 `[K]`, largest absolute value.
    """

    def __init__(self, channels: int) -> None:
        self.largest = torch.zeros(channels)
        self._largest_weights = torch.zeros(channels)
        self._weight = 0.0
        #: Of each bin, largest sizes first: the weights of its values, weighted sum, weighted sum of squares.
        self._bins = torch.zeros(3, channels, _BINS)
        self._above: Tensor | None = None

    def add(self, x: Tensor, weights: Tensor) -> None:
        """Take in a batch, float32 `[rows, K]`, `[rows]`."""
        sizes = x.abs()
        largest, rows = sizes.max(0)
        self._largest_weights = torch.where(largest > self.largest, weights[rows], self._largest_weights)
        self.largest = torch.maximum(self.largest, largest)
        self._weight += float(weights.sum())
        self._above = None
        places = _bin_of(sizes).add_(torch.arange(sizes.shape[1]) * _BINS)
        value = weights[:, None].repeat(1, sizes.shape[1])
        for moment in self._bins:
            moment.view(-1).index_add_(0, places.view(-1), value.view(-1))
            value *= sizes

    def clipped(self, limits: Tensor, headroom: float = 1.0) -> Tensor:
        """Mean squared error of clipping each channel at some limits.

        Text that calibration did not see has larger values. So the largest value of each channel counts once more,
        `headroom` times as large.

        Args:
            limits: float64 `[K, L]`.
            headroom: at least 1.

        Returns:
            float64 `[K, L]`.
        """
        weight, total, squares = self._beyond(limits)
        error = (squares - 2 * limits * total + limits.square() * weight).clamp_min_(0)
        unseen = (headroom * self.largest.double()[:, None] - limits).clamp_min_(0).square_()
        return error + unseen * (self._largest_weights.double()[:, None] / self._total())

    def rounded(self, steps: Tensor) -> Tensor:
        """Mean squared error of rounding each channel to multiples of its step; float64 `[K]` to float64 `[K]`."""
        weight, _, squares = self._beyond(steps[:, None] / 2)
        everything = self._sums()[2, :, -1:]
        return (everything - squares + weight * steps[:, None].square() / 12).clamp_min_(0)[:, 0]

    def mean_square(self) -> Tensor:
        """Mean square of each channel, float32 `[K]`."""
        return self._sums()[2, :, -1].float()

    def _beyond(self, limits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Weight, sum and sum of squares of all bins that lie wholly above the limits; float64 `[K, L]` each."""
        above = _bin_of(limits.float())
        return tuple(sums.gather(1, above) for sums in self._sums())  # type: ignore[return-value]

    def _sums(self) -> Tensor:
        """Moments of the first 0, 1, ... bins over the weight of all rows; float64 `[3, K, bins + 1]`."""
        if self._above is None:
            # In place: for a wide layer this is the largest tensor that the survey holds.
            self._above = torch.zeros(*self._bins.shape[:2], _BINS + 1, dtype=torch.float64)
            torch.cumsum(self._bins, 2, dtype=torch.float64, out=self._above[:, :, 1:])
            self._above /= self._total()
        return self._above

    def _total(self) -> float:
        return max(self._weight, torch.finfo(torch.float32).tiny)


def _bin_of(sizes: Tensor) -> Tensor:
    """Bin of each size, 0 for the largest; float32 to int64 of the same shape."""
    bits = sizes.contiguous().view(torch.int32) >> _DROPPED_BITS
    return bits.sub_(_FIRST).clamp_(0, _BINS - 1).neg_().add_(_BINS - 1).to(torch.int64)

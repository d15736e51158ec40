"""Flatten maps: which channels get extra columns, what range of integers that gives them, and what sums may grow to."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from fyc_kernels.flatten_quantize import Split, wide_range
from fyc_kernels.int_linear import accumulator_bound
from torch import Tensor

from fyc.errors import PassError

#: Extra columns that one channel can have: the digit is stored in 8 bits, and codes must stay exact in float32.
_MOST_RADIX_BITS = 16
_MOST_UNARY = 127


@dataclass(frozen=True)
class FlattenMap:
    """Extra columns of a group of linear layers.

    Attributes:
        source: int32 `[E]`, the channel that each extra column belongs to.
        digit: int8 `[E]`, the digit of that channel which the column holds, from 1.
    """

    source: Tensor
    digit: Tensor

    def __len__(self) -> int:
        return self.source.numel()


def flatten_map(extra: Tensor) -> FlattenMap:
    """The map that gives channel c `extra[c]` extra columns; first digits first, channels in order.

    Args:
        extra: integer `[K]`.
    """
    sources, digits = [], []
    for digit in range(1, int(extra.max()) + 1 if extra.numel() else 1):
        channels = (extra >= digit).nonzero()[:, 0]
        sources.append(channels)
        digits.append(torch.full_like(channels, digit))
    if not sources:
        return FlattenMap(torch.zeros(0, dtype=torch.int32), torch.zeros(0, dtype=torch.int8))
    return FlattenMap(torch.cat(sources).to(torch.int32), torch.cat(digits).to(torch.int8))


def extra_columns(source: Tensor, channels: int) -> Tensor:
    """How many extra columns each of `channels` channels has. int64 `[channels]`."""
    return torch.bincount(source.long(), minlength=channels)


def most_extra(bits: int, split: Split) -> int:
    """Extra columns that one channel can use."""
    return _MOST_RADIX_BITS // bits - 1 if split == "radix" else _MOST_UNARY


def check_accumulator(weight: Tensor, extra: Tensor, bits: int, split: Split, where: str) -> int:
    """Prove that no sum of an integer layer leaves int32.

    Args:
        weight: int8 `[N, K]`.
        extra: integer `[K]`, extra columns of each channel.
        bits: bits of the activations.
        split: how digits count.
        where: module path, for the error.

    Returns:
        The largest absolute value that any partial sum can take.

    Raises:
        PassError: FYC-X01 when it can reach 2^31.
    """
    bound = accumulator_bound(weight, *wide_range(bits, split, extra))
    if bound >= 2**31:
        raise PassError(
            "FYC-X01", "the integer sums of a layer can overflow 32 bits", where=where,
            why=f"with {int(extra.sum())} extra columns a sum can reach {bound}",
            next="lower `expansion`, or use `split: unary`",
        )  # fmt: skip
    return bound

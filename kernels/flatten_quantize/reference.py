"""The specification of `flatten_quantize`: round once to a wide integer, then split the integer into narrow digits.

A channel whose values do not fit into `bits` bits gets extra columns. Its integer code is the weighted sum of its
digits, so an integer product over the flattened columns equals the product with the wide codes bit for bit. The idea of
flattening large channels is that of FlattenQuant (arXiv 2402.17985); splitting the integer instead of the float, and
the radix digits, are ours.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Split = Literal["radix", "unary"]

#: Flattened columns are padded with zeros to a multiple of this: integer matrix units take K in steps of 16.
ALIGNMENT = 16


def wide_range(bits: int, split: Split, extra: Tensor) -> tuple[Tensor, Tensor]:
    """Smallest and largest code of channels with `extra` extra columns.

    Args:
        bits: bits of one digit; a digit lies in [-2^(bits-1), 2^(bits-1) - 1].
        split: `radix`: digit k counts 2^(bits*k); `unary`: every digit counts 1.
        extra: integer tensor of any shape, extra columns of each channel.

    Returns:
        int64 tensors (low, high) of the shape of `extra`.
    """
    extra = extra.to(torch.int64)
    half = 1 << (bits - 1)
    # 1 + B + B^2 + ... for radix, the number of digits for unary.
    units = (
        ((torch.ones_like(extra) << (bits * (extra + 1))) - 1) // ((1 << bits) - 1) if split == "radix" else extra + 1
    )
    return -half * units, (half - 1) * units


def digit_weight(bits: int, split: Split, digit: Tensor) -> Tensor:
    """What one unit in an extra column counts: 2^(bits*digit) for radix, 1 for unary. int64, shape of `digit`."""
    digit = digit.to(torch.int64)
    return torch.ones_like(digit) << (bits * digit) if split == "radix" else torch.ones_like(digit)


def wide_codes(x: Tensor, multiplier: Tensor, shift: Tensor | None, low: Tensor, high: Tensor) -> Tensor:
    """Round activations to wide integers: `clamp(rint((x - shift) * multiplier), low, high)` in float32.

    Args:
        x: float, `[..., K]`.
        multiplier: float32, `[]` or `[K]`: smoothing factor of the channel divided by the scale.
        shift: float32 `[K]` or None.
        low: smallest code of each channel, integer `[K]`.
        high: largest code of each channel, integer `[K]`.

    Returns:
        int32 `[..., K]`; rounds half to even.
    """
    x = x.to(torch.float32)
    if shift is not None:
        x = x - shift
    return torch.clamp(torch.round(x * multiplier), low.to(torch.float32), high.to(torch.float32)).to(torch.int32)


def split_codes(wide: Tensor, source: Tensor, digit: Tensor, bits: int, split: Split) -> Tensor:
    """Split wide integers into digits of `bits` bits: `[digit 0 of every channel | extra columns]`.

    Args:
        wide: int32 `[..., K]`, within `wide_range` of the channel's number of extra columns.
        source: int `[E]`, channel of each extra column.
        digit: int `[E]`, which digit of its channel the column holds, from 1.
        bits: bits of one digit.
        split: how digits count.

    Returns:
        int8 `[..., K + E]`.
    """
    half = 1 << (bits - 1)
    digit = digit.to(torch.int32)
    chosen = wide[..., source.long()]
    if split == "unary":
        # The pieces 0..digit-1 of this channel already hold what fits into `digit` digits.
        before = torch.clamp(chosen, digit * -half, digit * (half - 1))
        return torch.cat([wide.clamp(-half, half - 1), (chosen - before).clamp(-half, half - 1)], -1).to(torch.int8)
    base = _lowest(wide, bits)
    # Adding half of every lower place makes truncating shifts give balanced digits.
    extra = _lowest((chosen + half * _repunit(bits, digit)) >> (bits * digit), bits)
    return torch.cat([base, extra], -1).to(torch.int8)


def flatten_quantize(
    x: Tensor,
    multiplier: Tensor,
    shift: Tensor | None,
    source: Tensor,
    digit: Tensor,
    *,
    low: Tensor,
    high: Tensor,
    bits: int,
    split: Split,
) -> Tensor:
    """Quantize and flatten activations.

    Args:
        x: float, `[..., K]`.
        multiplier: float32 `[]` or `[K]`, smoothing factor divided by the scale.
        shift: float32 `[K]` or None, subtracted before scaling.
        source: int32 `[E]`, channel of each extra column.
        digit: int8 `[E]`, its digit, from 1.
        low: integer `[K]`, from `wide_range`.
        high: integer `[K]`, from `wide_range`.
        bits: 4 or 8.
        split: how digits count.

    Returns:
        int8 `[..., K + E + padding]`, zero padded to a multiple of `ALIGNMENT` columns.
    """
    wide = wide_codes(x, multiplier, shift, low, high)
    codes = split_codes(wide, source, digit, bits, split) if source.numel() else wide.to(torch.int8)
    padding = -codes.shape[-1] % ALIGNMENT
    return F.pad(codes, (0, padding)) if padding else codes


def _lowest(wide: Tensor, bits: int) -> Tensor:
    half = 1 << (bits - 1)
    return ((wide + half) & ((1 << bits) - 1)) - half


def _repunit(bits: int, places: Tensor) -> Tensor:
    """1 + B + ... + B^(places - 1) with B = 2^bits."""
    return ((torch.ones_like(places) << (bits * places)) - 1) // ((1 << bits) - 1)

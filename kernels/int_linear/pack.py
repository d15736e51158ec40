"""int4 codes stored two in a byte."""

from __future__ import annotations

import torch
from torch import Tensor


def pack_int4(codes: Tensor) -> Tensor:
    """Store int4 codes two in a byte, the even column in the low half.

    Args:
        codes: int8 `[N, K]`, values in [-8, 7].

    Returns:
        uint8 `[N, ceil(K / 2)]`; an odd last column is paired with 0.
    """
    if codes.shape[1] % 2:
        codes = torch.nn.functional.pad(codes, (0, 1))
    nibbles = codes.to(torch.uint8) & 15
    return nibbles[:, 0::2] | (nibbles[:, 1::2] << 4)


def unpack_int4(packed: Tensor, columns: int) -> Tensor:
    """Undo `pack_int4`.

    Args:
        packed: uint8 `[N, ceil(columns / 2)]`.
        columns: K.

    Returns:
        int8 `[N, K]`.
    """
    pairs = torch.stack([packed & 15, packed >> 4], -1).flatten(1)[:, :columns].to(torch.int8)
    return torch.where(pairs > 7, pairs - 16, pairs)

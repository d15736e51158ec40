"""Lets torchtitan's main branch train on CPUs with gloo; torchtitan_on_cpus.py lies beside it, for what both need.

Its language models know FlexAttention only, and that has no backward on a CPU: here stands dense attention under the
same mask.
"""

from typing import Any

import torch
import torch.nn.functional as F
import torchtitan_on_cpus  # noqa: F401
from torch.nn.attention import flex_attention as flex


def dense_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *, block_mask: flex.BlockMask, scale: float | None,
    enable_gqa: bool, **_: Any,
) -> tuple[torch.Tensor, None]:  # fmt: skip
    mask = flex.create_mask(block_mask.mask_mod, 1, 1, query.shape[2], key.shape[2], device="cpu")
    found = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=scale, enable_gqa=enable_gqa)
    return found, None


flex.flex_attention = dense_attention

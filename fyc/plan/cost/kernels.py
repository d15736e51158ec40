"""Time of single GPU kernels: matrix products by shape, attention, and what is bound by memory.

Every function takes arrays that broadcast together and returns seconds.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from fyc.plan.cost.rates import Rates
from fyc.plan.layout import Floats

# Output tiles of the matrix kernels, and the share of the large tile's rate that each reaches.
TILES = ((256, 128, 1.0), (128, 128, 0.941), (128, 64, 0.777), (64, 64, 0.622))
PROLOGUE = 125  # steps along k that filling the pipeline of a tile costs
MISALIGNED = 4.94  # k or n no multiple of 8: tensor cores are fed badly or not at all
UNEVEN = 1.37  # k or n no multiple of 64: the last tile is part empty


def product(
    m: ArrayLike, n: ArrayLike, k: ArrayLike, rates: Rates, *, low: bool = False, batch: ArrayLike = 1
) -> Floats:
    """`batch` products of (m, k) by (k, n): the tiles go over the multiprocessors in waves.

    With `low` in the precision of training (fp8, nvfp4), else in 16 bits.
    """
    m, n, k, batch = (np.asarray(value, dtype=np.float64) for value in (m, n, k, batch))
    peak, share, width = (rates.peak_low, rates.share_low, rates.low_bytes) if low else (rates.peak, rates.share, 2.0)
    per_sm = peak * share / rates.sms
    best = np.full(np.broadcast_shapes(m.shape, n.shape, k.shape, batch.shape), np.inf)
    for rows, columns, rate in TILES:
        tiles = np.ceil(m / rows) * np.ceil(n / columns) * batch
        waves = tiles / rates.sms
        waves = np.where(waves > 4, waves + 0.4, np.ceil(waves))
        best = np.minimum(best, waves * 2 * rows * columns * (k + PROLOGUE) / (per_sm * rate))
    misaligned = (k % 8 != 0) | (n % 8 != 0)
    uneven = (k % 64 != 0) | (n % 64 != 0)
    best *= np.where(misaligned, MISALIGNED, np.where(uneven, UNEVEN, 1.0))
    moved = batch * (width * (m * k + k * n) + 2 * m * n)
    return np.asarray(np.maximum(best, moved / rates.hbm) + rates.kernel)


def streaming(bytes_: ArrayLike, rates: Rates, kernels: float = 1.0) -> Floats:
    """Kernels that read and write `bytes_` in all."""
    return np.asarray(bytes_, dtype=np.float64) / rates.hbm + kernels * rates.kernel


def flash_attention(
    heads: ArrayLike, queries: ArrayLike, keys: ArrayLike, dims: float, rates: Rates, *, work: ArrayLike
) -> tuple[Floats, Floats]:
    """Forward and backward of fused attention.

    Args:
        heads: query heads times sequences.
        queries, keys: lengths that one rank sees.
        dims: width of a query head plus that of a value head.
        rates: of the GPU.
        work: share of the score matrix that is computed; 0.5 is a causal kernel.
    """
    flops = 2.0 * np.asarray(heads) * np.asarray(queries) * np.asarray(keys) * dims * np.asarray(work)
    # Backward computes five products where forward has two (FlashAttention-2, arXiv 2307.08691, section 3.1).
    forward = flops / (rates.peak * rates.flash_forward) + rates.kernel
    return forward, 2.5 * flops / (rates.peak * rates.flash_backward) + 2 * rates.kernel


def unfused_attention(
    heads: ArrayLike, length: ArrayLike, dim: float, rates: Rates, *, dropout: bool
) -> tuple[Floats, Floats]:
    """Forward and backward of attention that writes its 16-bit score matrix, with a fused softmax."""
    heads, length = np.asarray(heads, dtype=np.float64), np.asarray(length, dtype=np.float64)
    scores = 2.0 * heads * length * length
    both = product(length, length, dim, rates, batch=heads) + product(length, dim, length, rates, batch=heads)
    masks = 2.5 if dropout else 0.0
    forward = both + streaming(2 * scores, rates) + streaming(masks * scores, rates)
    return forward, 2 * both + streaming(3 * scores, rates) + streaming(masks * scores, rates)

"""Where chance comes from: a generator for every name, so that nothing depends on the order of calls."""

from __future__ import annotations

import hashlib

import numpy as np

#: Part of every seed. Another one would make another bench: numbers must then be measured again.
BENCH = "fyc-asl-synthetic-1"


def generator(*name: str | int) -> np.random.Generator:
    """A PCG64 generator whose seed is the SHA-256 of `BENCH` and these words; the same words give the same numbers.

    Args:
        name: what the numbers are for, from the general to the particular, such as `"head", "fit", 3`.
    """
    words = "\x1f".join([BENCH, *(str(word) for word in name)])
    return np.random.Generator(np.random.PCG64(int.from_bytes(hashlib.sha256(words.encode()).digest()[:16], "little")))

"""Finds many words in many bytes: a table of hashed four-byte starts rules out nearly every position at array speed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

_WIDTH = 4
_BITS = 16
_FACTOR = np.uint32(0x9E3779B1)  # Knuth's multiplicative hash
_SHIFT = np.uint32(32 - _BITS)
_STRIDE = 1 << 18  # bytes hashed at once: what stays in the cache


class WordFinder:
    """Finds every place of every word.

    The time hardly depends on the number of words, as long as the first four bytes of each are rare in the text.

    Args:
        words: each of at least four bytes.
    """

    def __init__(self, words: Iterable[bytes]) -> None:
        self.words = frozenset(words)
        if any(len(word) < _WIDTH for word in self.words):
            raise ValueError(f"a word needs {_WIDTH} bytes")
        longest_first = sorted(self.words, key=lambda word: (-len(word), word))
        self._pattern = re.compile(b"|".join(map(re.escape, longest_first)) or b"(?!)")
        self._starts = np.zeros(1 << _BITS, dtype=np.bool_)
        for word in self.words:
            self._starts[_hashed(np.frombuffer(word[:_WIDTH], dtype="<u4"))] = True

    def word_at(self, text: bytes, position: int) -> bytes | None:
        """The word that begins at a position, of two the longer; None if there is none."""
        match = self._pattern.match(text, position)
        return match[0] if match else None

    def places(self, text: bytes, begin: int = 0) -> Iterator[int]:
        """Positions from `begin` on, ascending, at which words may begin: all at which one does, and a few others."""
        for start in range(begin, max(len(text) - _WIDTH + 1, begin), _STRIDE):
            yield from self._candidates(text, start).tolist()

    def _candidates(self, text: bytes, start: int) -> NDArray[np.int64]:
        """Positions from `start` on, one stride of them, at which four bytes hash like the start of a word."""
        found = []
        for offset in range(start, start + _WIDTH):
            count = min(_STRIDE, len(text) - offset) // _WIDTH
            if count > 0:
                four = np.frombuffer(text, dtype="<u4", count=count, offset=offset)
                found.append(np.flatnonzero(self._starts.take(_hashed(four), mode="clip")) * _WIDTH + offset)
        return np.sort(np.concatenate(found))


def _hashed(four: NDArray[np.uint32]) -> NDArray[np.uint32]:
    return (four * _FACTOR) >> _SHIFT

"""Read calibration and evaluation text, and cut it into windows of tokens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from fyc.errors import RecipeError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

ASSET = "asset:"
#: Characters tokenized at a time; a piece ends at the end of a line.
PIECE = 1 << 20


def read_text(spec: str | Path, *, offline: bool = False) -> str:
    """The text of a UTF-8 file, or of an asset (`asset:wikipedia-calibration`; fetched if it is not there).

    Args:
        spec: path, or `asset:NAME`.
        offline: do not fetch an asset.

    Raises:
        UserError: FYC-D01 for an asset that does not exist.
        AssetError: FYC-D02 or FYC-D03 if an asset cannot be fetched.
        RecipeError: FYC-R07 if it is missing, empty or not UTF-8.
    """
    path = Path(spec).expanduser()
    if isinstance(spec, str) and spec.startswith(ASSET):
        from fyc.assets import fetch

        path = fetch(spec.removeprefix(ASSET), offline=offline)
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise _unusable("the text cannot be read", path, error.strerror or str(error)) from error
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise _unusable(
            "the text is not UTF-8", f"{path}:{line}", f"byte {error.start} is {raw[error.start]:#04x}"
        ) from error
    if not text.strip():
        raise _unusable("the text is empty", path, "")
    return text


def windows(
    tokenizer: PreTrainedTokenizerBase,
    text: str,
    samples: int | None,
    length: int,
    *,
    exact: bool = True,
) -> torch.Tensor:
    """Cut a text into windows that do not overlap.

    Each window is what the model was trained to see: if the tokenizer puts special tokens around a text (a
    beginning-of-text token, or [CLS] and [SEP]), they are around every window and count towards its length.

    Args:
        tokenizer: the model's tokenizer.
        text: the text.
        samples: number of windows, or None for as many as there are.
        length: tokens in a window, at least 2.
        exact: whether a text for fewer windows than `samples` is an error; if not, at least one window has to fit.

    Returns:
        Token ids, int64 [samples, length].

    Raises:
        RecipeError: FYC-R07 if the text has too few tokens, FYC-R03 for a length that cannot work.
    """
    before, after = special_tokens(tokenizer)
    inner = length - len(before) - len(after)
    if length < 2 or inner < 1 or (samples is not None and samples < 1):
        raise RecipeError(
            "FYC-R03",
            "windows of this shape cannot be cut",
            why=f"samples={samples}, length={length}, special tokens={len(before) + len(after)}",
            next="give at least 1 sample and at least 2 tokens more than there are special tokens",
        )
    needed = None if samples is None else samples * inner
    ids: list[int] = []
    for piece in _pieces(text):
        ids.extend(tokenizer(piece, add_special_tokens=False, verbose=False).input_ids)
        if needed is not None and len(ids) >= needed:
            break
    whole = len(ids) // inner
    count = whole if samples is None or (whole < samples and not exact) else samples
    if count < 1 or len(ids) < count * inner:
        raise RecipeError(
            "FYC-R07",
            f"the text is too short: it has {len(ids)} tokens, {max(count, 1) * inner} are needed",
            why=f"{max(count, 1)} windows of {inner} tokens",
            next="give a longer text, or fewer or shorter windows",
        )
    body = torch.tensor(ids[: count * inner], dtype=torch.int64).reshape(count, inner)
    edges = [torch.tensor(edge, dtype=torch.int64).expand(count, -1) for edge in (before, after)]
    return torch.cat([edges[0], body, edges[1]], dim=1)


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """The token ids that the tokenizer puts before and after a text."""
    plain = tokenizer("a", add_special_tokens=False).input_ids
    full = tokenizer("a").input_ids
    for start in range(len(full) - len(plain) + 1):
        if full[start : start + len(plain)] == plain:
            return full[:start], full[start + len(plain) :]
    return [], []


def _pieces(text: str) -> Iterator[str]:
    start = 0
    while start < len(text):
        end = text.find("\n", start + PIECE) + 1 or len(text)
        yield text[start:end]
        start = end


def _unusable(what: str, where: str | Path, why: str) -> RecipeError:
    return RecipeError(
        "FYC-R07", what, where=str(where), why=why, next="give a UTF-8 text file with a few thousand words"
    )

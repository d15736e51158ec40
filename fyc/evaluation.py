"""Perplexity of a causal language model on a text, alone or paired with another model on the same tokens."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F

from fyc.errors import ModelError, RecipeError
from fyc.loading.any_model import LoadedModel, load_any
from fyc.models import read_text, special_tokens, windows

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Interval = tuple[float, float]
#: Positions whose logits are turned into log-probabilities at a time.
_ROWS = 128
_LARGEST_EXPONENT = 709.0


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` measured.

    Intervals are 95 % Student t intervals over windows; None if there is only one window. They treat windows as
    independent; neighbouring windows of one article are not quite.

    Attributes:
        model: what was evaluated.
        text: the text's name.
        text_sha256: hash of the text.
        perplexity: exp of `nll`.
        interval: of the perplexity.
        nll: mean negative log-likelihood, in nats a token.
        tokens: how many tokens were predicted.
        windows: how many windows the tokens lie in.
        length: tokens of context a window has at most, special tokens included.
        stride: text tokens from one window's start to the next one's; windows do not overlap.
        reference: the model it was compared with, and so on for the fields below; None without `against`.
        reference_perplexity: perplexity of the reference on the same tokens.
        difference: `nll` minus the reference's, in nats a token.
        difference_interval: of the difference, from the paired differences of the windows.
        ratio: `perplexity` divided by `reference_perplexity`.
        ratio_interval: of the ratio.
    """

    model: str
    text: str
    text_sha256: str
    perplexity: float
    interval: Interval | None
    nll: float
    tokens: int
    windows: int
    length: int
    stride: int
    reference: str | None = None
    reference_perplexity: float | None = None
    difference: float | None = None
    difference_interval: Interval | None = None
    ratio: float | None = None
    ratio_interval: Interval | None = None

    def to_json(self) -> dict[str, Any]:
        """The fields, JSON-able."""
        fields = dataclasses.asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}


def evaluate(
    model: str | Path | PreTrainedModel,
    text: str | Path,
    *,
    against: str | Path | PreTrainedModel | None = None,
    length: int = 512,
    max_tokens: int | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    revision: str | None = None,
    offline: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> Evaluation:
    """Measure perplexity over windows that do not overlap; each window's first token is only context.

    One model is in memory at a time, one window is run at a time.

    Args:
        model: an artifact, a Hugging Face folder, a hub id, a GGUF file, or a loaded model.
        text: path of a UTF-8 file, or `asset:NAME`.
        against: a reference model, run on the same tokens.
        length: tokens in a window.
        max_tokens: predict at most this many tokens, but at least those of one window; None takes all whole windows
            of the text.
        device, dtype: of models that are not loaded already.
        tokenizer: for a loaded model whose folder is gone.
        revision: of `model`, if it is on the hub.
        offline: use only what is on this machine.
        progress: called with the model's name, windows done and windows in all.

    Raises:
        ModelError: FYC-M01 to FYC-M07; FYC-M04 if a model predicts NaN, FYC-M05 if it is not causal.
        RecipeError: FYC-R03 for a length that cannot work, FYC-R07 if the text cannot be used, FYC-R09 if the two
            models cut the text into different tokens.
    """
    content = read_text(text, offline=offline)

    def open_and_cut(which: str | Path | PreTrainedModel, revision: str | None) -> tuple[LoadedModel, Windows]:
        loaded = load_any(which, tokenizer=tokenizer, device=device, dtype=dtype, revision=revision, offline=offline)
        return loaded, cut_windows(loaded, content, length, max_tokens)

    loaded, cut = open_and_cut(model, revision)
    nll = window_nll(loaded, cut, progress)
    mean = float(nll.mean())
    result = Evaluation(
        loaded.name, str(text), hashlib.sha256(content.encode()).hexdigest(), _exp(mean),
        _exp_interval(_interval(nll)), mean, cut.tokens, len(cut.ids), cut.ids.shape[1], cut.stride,
    )  # fmt: skip
    if against is None:
        return result
    del loaded  # only one of the two models is in memory
    other, other_cut = open_and_cut(against, None)
    if not torch.equal(cut.ids, other_cut.ids):
        raise RecipeError(
            "FYC-R09", f"{result.model} and {other.name} cannot be compared token by token",
            why="their tokenizers cut the text into different tokens", next="compare models with the same tokenizer",
        )  # fmt: skip
    other_nll = window_nll(other, other_cut, progress)
    difference = nll - other_nll
    between = _interval(difference)
    return dataclasses.replace(
        result,
        reference=other.name,
        reference_perplexity=_exp(float(other_nll.mean())),
        difference=float(difference.mean()),
        difference_interval=between,
        ratio=_exp(float(difference.mean())),
        ratio_interval=_exp_interval(between),
    )


@dataclass(frozen=True)
class Windows:
    """A text cut for evaluation.

    Attributes:
        ids: int64 [windows, length].
        first: the first position of a window that is predicted.
        last: the last one.
        stride: text tokens a window takes.
    """

    ids: torch.Tensor
    first: int
    last: int
    stride: int

    @property
    def tokens(self) -> int:
        """Predicted tokens in all windows."""
        return len(self.ids) * (self.last - self.first + 1)


def cut_windows(loaded: LoadedModel, text: str, length: int, max_tokens: int | None) -> Windows:
    """Cut a text as `evaluate` does."""
    limit = getattr(loaded.model.config, "max_position_embeddings", None)
    if isinstance(limit, int) and length > limit:
        raise RecipeError(
            "FYC-R03", f"windows of {length} tokens are too long for {loaded.name}",
            why=f"the model has {limit} positions", next=f"use a length of at most {limit}",
        )  # fmt: skip
    before, after = special_tokens(loaded.tokenizer)
    first = max(1, len(before))
    predicted = length - len(after) - first
    if predicted < 1:
        raise RecipeError(
            "FYC-R03", f"windows of {length} tokens are too short", why="no token is left to predict",
            next=f"use a length of at least {first + len(after) + 1}",
        )  # fmt: skip
    samples = None if max_tokens is None else max(1, max_tokens // predicted)
    ids = windows(loaded.tokenizer, text, samples, length, exact=False)
    return Windows(ids, first, length - len(after) - 1, length - len(before) - len(after))


@torch.inference_mode()
def window_nll(
    loaded: LoadedModel, cut: Windows, progress: Callable[[str, int, int], None] | None = None
) -> torch.Tensor:
    """Mean negative log-likelihood of each window's predicted tokens, float64 [windows], in nats a token."""
    means = torch.empty(len(cut.ids), dtype=torch.float64)
    for index, window in enumerate(cut.ids):
        ids = window[None].to(loaded.device)
        logits = loaded.model(input_ids=ids, use_cache=False).logits[0, cut.first - 1 : cut.last]
        targets = ids[0, cut.first : cut.last + 1]
        total = sum(
            float(F.cross_entropy(rows.float(), wanted, reduction="sum"))
            for rows, wanted in zip(logits.split(_ROWS), targets.split(_ROWS), strict=True)
        )
        if not math.isfinite(total):
            raise ModelError(
                "FYC-M04", f"{loaded.name} predicts NaN or infinite values", where=f"window {index} of the text",
                why="a value overflowed", next="load the model in float32 (dtype)",
            )  # fmt: skip
        means[index] = total / len(targets)
        if progress is not None:
            progress(loaded.name, index + 1, len(cut.ids))
    return means


def _interval(values: torch.Tensor) -> Interval | None:
    """95 % interval of the mean of independent values."""
    count = len(values)
    if count < 2:
        return None
    mean, spread = float(values.mean()), float(values.std()) / math.sqrt(count)
    reach = student_t(count - 1) * spread
    return mean - reach, mean + reach


def _exp(value: float) -> float:
    return math.exp(value) if value < _LARGEST_EXPONENT else math.inf


def _exp_interval(interval: Interval | None) -> Interval | None:
    return None if interval is None else (_exp(interval[0]), _exp(interval[1]))


def student_t(freedom: int, confidence: float = 0.95) -> float:
    """The two-sided quantile of Student's t distribution, within 1e-9.

    With t = sqrt(v) tan(a), P(|T| <= t) is proportional to the integral of cos(x)**(v - 1) from 0 to a.
    """
    weight = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) * 2 / math.sqrt(math.pi)
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        if weight * _cosine_power_integral(freedom - 1, middle) < confidence:
            low = middle
        else:
            high = middle
    return math.sqrt(freedom) * math.tan(low)


def _cosine_power_integral(power: int, end: float) -> float:
    """Integral of cos(x)**power from 0 to end, by the reduction formula."""
    value = end if power % 2 == 0 else math.sin(end)
    for step in range(2 + power % 2, power + 1, 2):
        value = (math.cos(end) ** (step - 1) * math.sin(end) + (step - 1) * value) / step
    return value

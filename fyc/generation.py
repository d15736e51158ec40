"""Generate text with a model or an artifact, piece by piece, and count tokens a second."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import StoppingCriteria, StoppingCriteriaList, TextIteratorStreamer

from fyc.errors import UserError
from fyc.loading.any_model import LoadedModel, load_any
from fyc.models import peak_memory_bytes

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class GenerationStats:
    """How fast it was.

    Attributes:
        prompt_tokens: tokens of the prompt, special tokens included.
        new_tokens: generated tokens.
        prefill_seconds: from the prompt to the first token.
        decode_seconds: from the first token to the last.
        peak_memory_bytes: the most memory the process has had, of the accelerator if the model is on one.
    """

    prompt_tokens: int
    new_tokens: int
    prefill_seconds: float
    decode_seconds: float
    peak_memory_bytes: int

    @property
    def prefill_tokens_per_second(self) -> float:
        """Prompt tokens a second."""
        return self.prompt_tokens / self.prefill_seconds if self.prefill_seconds else 0.0

    @property
    def decode_tokens_per_second(self) -> float:
        """Generated tokens a second, the first one excluded."""
        return (self.new_tokens - 1) / self.decode_seconds if self.new_tokens > 1 and self.decode_seconds else 0.0

    def to_json(self) -> dict[str, Any]:
        """The fields and the two rates, JSON-able."""
        rates = {name: getattr(self, name) for name in ("prefill_tokens_per_second", "decode_tokens_per_second")}
        return asdict(self) | rates


class Generation:
    """Iterate over it to get the text, piece by piece; `stats` is there afterwards."""

    def __init__(
        self, loaded: LoadedModel, inputs: dict[str, torch.Tensor], settings: dict[str, Any], seed: int
    ) -> None:
        self._loaded, self._inputs, self._settings, self._seed = loaded, inputs, settings, seed
        self._stats: GenerationStats | None = None

    @property
    def stats(self) -> GenerationStats:
        """Counts and times; only after the last piece."""
        if self._stats is None:
            raise UserError("FYC-R09", "there are no statistics before the last piece of text was read")
        return self._stats

    def __iter__(self) -> Iterator[str]:
        streamer = _Streamer(self._loaded.tokenizer)
        stop = _Stop()
        worker = threading.Thread(target=self._work, args=(streamer, stop), daemon=True)
        worker.start()
        try:
            yield from (piece for piece in streamer if piece)
        finally:
            stop.wanted = True
            worker.join()
        if streamer.error is not None:
            raise streamer.error
        self._stats = self._measured(streamer.times)

    def _work(self, streamer: _Streamer, stop: _Stop) -> None:
        try:
            if self._settings["do_sample"]:
                torch.manual_seed(self._seed)
            self._loaded.model.generate(
                **self._inputs, **self._settings, streamer=streamer, stopping_criteria=StoppingCriteriaList([stop])
            )
        except BaseException as error:
            streamer.error = error
            streamer.end()

    def _measured(self, times: list[float]) -> GenerationStats:
        prompt = self._inputs["input_ids"].shape[1]
        device = self._loaded.device
        peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else peak_memory_bytes()
        if len(times) < 2:
            return GenerationStats(prompt, 0, 0.0, 0.0, peak)
        return GenerationStats(prompt, len(times) - 1, times[1] - times[0], times[-1] - times[1], peak)


class _Streamer(TextIteratorStreamer):  # type: ignore[misc]
    """Remembers when the prompt and each token arrived."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self.times: list[float] = []
        self.error: BaseException | None = None

    def put(self, value: torch.Tensor) -> None:
        self.times.append(time.perf_counter())
        super().put(value)


class _Stop(StoppingCriteria):  # type: ignore[misc]
    """Ends generation early when the reader has gone."""

    wanted = False

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        del scores, kwargs
        return torch.full((input_ids.shape[0],), self.wanted, device=input_ids.device)


def generate(
    model: str | Path | PreTrainedModel,
    prompt: str,
    *,
    max_new_tokens: int = 128,
    chat: bool = False,
    temperature: float = 0.0,
    seed: int = 0,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
    revision: str | None = None,
    offline: bool = False,
) -> Generation:
    """Continue a prompt.

    Args:
        model: an artifact, a Hugging Face folder, a hub id, a GGUF file, or a loaded model.
        prompt: the text to continue, or with `chat` the user's message.
        max_new_tokens: stop after so many tokens.
        chat: put the prompt into the model's chat template.
        temperature: 0 takes the most likely token each time; above 0 tokens are drawn.
        seed: of the drawing.
        device, dtype: of a model that is not loaded already.
        tokenizer: for a loaded model whose folder is gone.
        revision: of a hub model.
        offline: use only what is on this machine.

    Returns:
        An iterable of text pieces.

    Raises:
        ModelError: FYC-M01 to FYC-M07; FYC-M05 if the model is not causal.
        UserError: FYC-R09 for a prompt without tokens, a model without chat template, or a bad number.
    """
    if max_new_tokens < 1 or temperature < 0:
        raise UserError(
            "FYC-R09", "generation needs at least one new token and a temperature of 0 or more",
            why=f"max_new_tokens={max_new_tokens}, temperature={temperature}",
        )  # fmt: skip
    loaded = load_any(model, tokenizer=tokenizer, device=device, dtype=dtype, revision=revision, offline=offline)
    inputs = _encode(loaded, prompt, chat)
    settings: dict[str, Any] = {"max_new_tokens": max_new_tokens, "do_sample": temperature > 0}
    if temperature > 0:
        settings["temperature"] = temperature
    if loaded.model.generation_config.pad_token_id is None:
        settings["pad_token_id"] = 0  # one prompt is never padded; transformers asks for a value
    return Generation(loaded, inputs, settings, seed)


def _encode(loaded: LoadedModel, prompt: str, chat: bool) -> dict[str, torch.Tensor]:
    tokenizer = loaded.tokenizer
    if chat and not getattr(tokenizer, "chat_template", None):
        raise UserError(
            "FYC-R09", f"{loaded.name} has no chat template", next="leave out --chat, or use an instruction-tuned model"
        )
    if chat:
        messages = [{"role": "user", "content": prompt}]
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        encoded = tokenizer(text, return_tensors="pt", add_special_tokens=False)
    else:
        encoded = tokenizer(prompt, return_tensors="pt")
    ids = encoded["input_ids"]
    if ids.shape[1] == 0:
        raise UserError("FYC-R09", "the prompt is empty", next="give a prompt of at least one word")
    return {"input_ids": ids.to(loaded.device), "attention_mask": torch.ones_like(ids).to(loaded.device)}

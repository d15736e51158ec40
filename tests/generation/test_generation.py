"""Streamed text equals transformers' own `generate`, and errors come out of the worker thread."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch

from fyc.errors import FycError, UserError
from fyc.generation import generate
from fyc.models import load_plain, load_tokenizer


def test_greedy_text_equals_transformers(tiny_model: Path) -> None:
    model, tokenizer = load_plain(tiny_model), load_tokenizer(tiny_model)
    encoded = tokenizer("w1 w2 w3", return_tensors="pt")
    ids = model.generate(input_ids=encoded["input_ids"], max_new_tokens=20, do_sample=False, pad_token_id=0)
    generation = generate(tiny_model, "w1 w2 w3", max_new_tokens=20)
    pieces = list(generation)
    assert len(pieces) > 1
    assert "".join(pieces).split() == tokenizer.decode(ids[0, 3:], skip_special_tokens=True).split()
    stats = generation.stats
    assert (stats.prompt_tokens, stats.new_tokens) == (3, ids.shape[1] - 3)
    assert stats.prefill_tokens_per_second > 0
    assert stats.decode_tokens_per_second > 0
    assert stats.peak_memory_bytes > 0
    assert stats.to_json().keys() > {"prompt_tokens", "decode_tokens_per_second"}


def test_sampling_depends_on_the_seed_alone(tiny_model: Path) -> None:
    def sample(seed: int) -> str:
        return "".join(generate(tiny_model, "w1", max_new_tokens=16, temperature=2.0, seed=seed))

    assert sample(1) == sample(1)
    assert sample(1) != sample(2)


def test_chat_uses_the_model_s_template(tiny_model: Path) -> None:
    model, tokenizer = load_plain(tiny_model), load_tokenizer(tiny_model)
    with pytest.raises(UserError, match=r"FYC-R09.*no chat template"):
        generate(model, "w1", chat=True, tokenizer=tokenizer)
    tokenizer.chat_template = "w7 {{ messages[0].content }} w8"
    chatted = "".join(generate(model, "w1", chat=True, tokenizer=tokenizer, max_new_tokens=5))
    assert chatted == "".join(generate(model, "w7 w1 w8", tokenizer=tokenizer, max_new_tokens=5))


def test_no_statistics_before_the_end(tiny_model: Path) -> None:
    generation = generate(tiny_model, "w1", max_new_tokens=5)
    with pytest.raises(UserError, match="FYC-R09"):
        _ = generation.stats


def test_a_reader_that_leaves_stops_the_work(tiny_model: Path) -> None:
    before = threading.active_count()
    pieces = iter(generate(tiny_model, "w1", max_new_tokens=100))
    next(pieces)
    pieces.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def test_an_error_inside_generate_is_raised_here(tiny_model: Path) -> None:
    model = load_plain(tiny_model)

    def broken(module: torch.nn.Module, inputs: object, output: object) -> None:
        raise RuntimeError("broken on purpose")

    model.model.layers[1].register_forward_hook(broken)
    with pytest.raises(RuntimeError, match="broken on purpose"):
        list(generate(model, "w1", tokenizer=load_tokenizer(tiny_model)))


@pytest.mark.parametrize("settings", [{"max_new_tokens": 0}, {"temperature": -1.0}])
def test_numbers_that_make_no_sense(tiny_model: Path, settings: dict[str, float]) -> None:
    with pytest.raises(UserError, match="FYC-R09"):
        generate(tiny_model, "w1", **settings)  # type: ignore[arg-type]


def test_an_empty_prompt(tiny_model: Path) -> None:
    with pytest.raises(FycError, match=r"FYC-R09.*empty"):
        generate(tiny_model, "")

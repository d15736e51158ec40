"""Perplexity equals a plain computation, pairs use the same tokens, and intervals are Student's."""

from __future__ import annotations

import json
import math
import statistics
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from tokenizers import processors

from fyc.errors import ModelError, RecipeError
from fyc.evaluation import Evaluation, evaluate, student_t
from fyc.models import load_plain, load_tokenizer, read_text


@pytest.fixture(scope="module")
def other_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same architecture and tokenizer with other weights."""
    folder = tmp_path_factory.mktemp("other")
    torch.manual_seed(5)
    config = transformers.AutoConfig.from_pretrained(tiny_model)
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    load_tokenizer(tiny_model).save_pretrained(folder)
    return folder


def text_of(tiny_model: Path) -> Path:
    return tiny_model / "text.txt"


@torch.no_grad()
def plain_nll(folder: Path, text: Path, length: int, count: int) -> list[float]:
    """Mean NLL of each window, position by position."""
    model, tokenizer = load_plain(folder), load_tokenizer(folder)
    ids = tokenizer(read_text(text), return_tensors="pt").input_ids[0]
    means = []
    for start in range(0, count * length, length):
        window = ids[start : start + length]
        logits = model(window[None]).logits[0].double()
        logs = torch.log_softmax(logits, dim=-1)
        means.append(-statistics.mean(float(logs[i, window[i + 1]]) for i in range(length - 1)))
    return means


def test_perplexity_equals_a_plain_computation(tiny_model: Path) -> None:
    result = evaluate(tiny_model, text_of(tiny_model), length=32, max_tokens=10 * 31)
    nll = plain_nll(tiny_model, text_of(tiny_model), 32, 10)
    assert (result.windows, result.tokens, result.length, result.stride) == (10, 310, 32, 32)
    assert result.nll == pytest.approx(statistics.mean(nll), abs=1e-6)
    assert result.perplexity == pytest.approx(math.exp(statistics.mean(nll)), rel=1e-6)
    reach = 2.2621571628 * statistics.stdev(nll) / math.sqrt(10)
    assert result.interval == pytest.approx(
        (math.exp(statistics.mean(nll) - reach), math.exp(statistics.mean(nll) + reach)), rel=1e-6
    )


def test_pairs_use_the_differences_of_windows(tiny_model: Path, other_model: Path) -> None:
    text = text_of(tiny_model)
    result = evaluate(tiny_model, text, against=other_model, length=32, max_tokens=8 * 31)
    ours, theirs = plain_nll(tiny_model, text, 32, 8), plain_nll(other_model, text, 32, 8)
    differences = [a - b for a, b in zip(ours, theirs, strict=True)]
    reach = student_t(7) * statistics.stdev(differences) / math.sqrt(8)
    mean = statistics.mean(differences)
    assert result.reference == str(other_model)
    assert result.reference_perplexity == pytest.approx(math.exp(statistics.mean(theirs)), rel=1e-6)
    assert result.difference == pytest.approx(mean, abs=1e-6)
    assert result.difference_interval == pytest.approx((mean - reach, mean + reach), abs=1e-6)
    assert result.ratio == pytest.approx(result.perplexity / result.reference_perplexity)
    assert result.ratio_interval == pytest.approx((math.exp(mean - reach), math.exp(mean + reach)), rel=1e-6)


def test_a_model_against_itself_differs_by_nothing(tiny_model: Path) -> None:
    result = evaluate(tiny_model, text_of(tiny_model), against=tiny_model, length=16, max_tokens=100)
    assert (result.ratio, result.difference, result.difference_interval) == (1.0, 0.0, (0.0, 0.0))


def test_json_is_complete_and_repeatable(tiny_model: Path, other_model: Path) -> None:
    first, second = (
        evaluate(tiny_model, text_of(tiny_model), against=other_model, length=32, max_tokens=200) for _ in range(2)
    )
    assert first == second
    content = json.loads(json.dumps(first.to_json(), allow_nan=False))
    assert {"perplexity", "tokens", "reference_perplexity", "ratio", "length", "stride"} <= content.keys()
    assert content["ratio_interval"] == list(first.ratio_interval or ())


def test_one_window_has_no_interval(tiny_model: Path) -> None:
    result = evaluate(tiny_model, text_of(tiny_model), against=tiny_model, length=64, max_tokens=1)
    assert (result.windows, result.interval, result.ratio_interval) == (1, None, None)


def test_all_whole_windows_are_taken(tiny_model: Path) -> None:
    result = evaluate(tiny_model, text_of(tiny_model), length=100)
    assert (result.windows, result.tokens) == (15, 15 * 99)
    assert evaluate(tiny_model, text_of(tiny_model), length=100, max_tokens=10**6).windows == 15


def test_a_loaded_model(tiny_model: Path) -> None:
    model = load_plain(tiny_model)
    named = evaluate(tiny_model, text_of(tiny_model), length=32, max_tokens=64)
    loaded = evaluate(model, text_of(tiny_model), tokenizer=load_tokenizer(tiny_model), length=32, max_tokens=64)
    assert loaded.perplexity == named.perplexity
    assert loaded.model == "LlamaForCausalLM"


def test_a_beginning_of_text_token_is_context_not_target(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    template = processors.TemplateProcessing(single="[BOS] $A", special_tokens=[("[BOS]", 5)])
    tokenizer.backend_tokenizer.post_processor = template
    model = load_plain(tiny_model)
    result = evaluate(model, text_of(tiny_model), tokenizer=tokenizer, length=16, max_tokens=30)
    assert (result.windows, result.tokens, result.stride) == (2, 30, 15)
    words = [int(word[1:]) for word in read_text(text_of(tiny_model)).split()[:15]]
    with torch.no_grad():
        logits = model(torch.tensor([[5, *words]])).logits[0]
    first = float(torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(words)))
    words = [int(word[1:]) for word in read_text(text_of(tiny_model)).split()[15:30]]
    with torch.no_grad():
        logits = model(torch.tensor([[5, *words]])).logits[0]
    second = float(torch.nn.functional.cross_entropy(logits[:-1], torch.tensor(words)))
    assert result.nll == pytest.approx((first + second) / 2, abs=1e-6)


def test_progress_counts_windows(tiny_model: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    evaluate(tiny_model, text_of(tiny_model), length=32, max_tokens=62, progress=lambda *state: seen.append(state))
    assert seen == [(str(tiny_model), 1, 2), (str(tiny_model), 2, 2)]


def test_different_tokenizers_cannot_be_compared(tiny_model: Path, other_model: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    load_plain(other_model).save_pretrained(tmp_path)
    tokenizer = load_tokenizer(tiny_model)
    tokenizer.save_pretrained(tmp_path)
    file = tmp_path / "tokenizer.json"
    content = json.loads(file.read_text())
    content["model"]["vocab"] |= {"w0": 1, "w1": 0}
    file.write_text(json.dumps(content))
    with pytest.raises(RecipeError, match="FYC-R09"):
        evaluate(tiny_model, text_of(tiny_model), against=tmp_path, length=128)


@pytest.mark.parametrize(("length", "code"), [(1, "FYC-R03"), (129, "FYC-R03"), (128, None)])
def test_lengths(tiny_model: Path, length: int, code: str | None) -> None:
    if code is None:
        assert isinstance(evaluate(tiny_model, text_of(tiny_model), length=length, max_tokens=1), Evaluation)
    else:
        with pytest.raises(RecipeError, match=code):
            evaluate(tiny_model, text_of(tiny_model), length=length)


def test_a_text_shorter_than_one_window(tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("w1 w2 w3")
    with pytest.raises(RecipeError, match=r"FYC-R07.*it has 3 tokens, 32 are needed"):
        evaluate(tiny_model, tmp_path / "short.txt", length=32)


def test_a_masked_model_is_refused(tmp_path: Path, tiny_model: Path) -> None:
    config = transformers.BertConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4
    )
    transformers.BertForMaskedLM(config).save_pretrained(tmp_path)
    load_tokenizer(tiny_model).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"FYC-M05.*BertForMaskedLM"):
        evaluate(tmp_path, text_of(tiny_model), length=32)


def test_a_model_that_predicts_nan_is_an_error(tiny_model: Path, tmp_path: Path) -> None:
    load_plain(tiny_model).save_pretrained(tmp_path)
    load_tokenizer(tiny_model).save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["lm_head.weight"].fill_(3e38)
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="FYC-M04"):
        evaluate(tmp_path, text_of(tiny_model), length=32, max_tokens=31)


@pytest.mark.parametrize(
    ("freedom", "quantile"),
    [(1, 12.706204736), (2, 4.302652730), (3, 3.182446305), (10, 2.228138852), (97, 1.984723186), (1000, 1.962339081)],
)
def test_student_t_equals_the_tables(freedom: int, quantile: float) -> None:
    assert student_t(freedom) == pytest.approx(quantile, abs=1e-8)

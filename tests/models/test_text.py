"""Texts become windows of tokens: in order, without overlap, as the model was trained to see them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from fyc.errors import RecipeError
from fyc.models import read_text, special_tokens, text, windows


def word_tokenizer(template: str = "$A") -> PreTrainedTokenizerBase:
    vocabulary = {f"w{i}": i for i in range(100)} | {"[CLS]": 100, "[SEP]": 101, "a": 102, "[UNK]": 103}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = [("[CLS]", 100), ("[SEP]", 101)]
    tokenizer.post_processor = processors.TemplateProcessing(single=template, special_tokens=special)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]")


PLAIN = word_tokenizer()


def words(count: int) -> str:
    return " ".join(f"w{i % 100}" + ("\n" if i % 7 == 0 else "") for i in range(count))


@settings(deadline=None)
@given(st.integers(0, 200), st.integers(1, 9), st.integers(2, 20))
def test_windows_are_consecutive_tokens(count: int, samples: int, length: int) -> None:
    needed = samples * length
    if count < needed:
        with pytest.raises(RecipeError, match=f"FYC-R07.*it has {count} tokens, {needed} are needed"):
            windows(PLAIN, words(count), samples, length)
    else:
        cut = windows(PLAIN, words(count), samples, length)
        assert cut.shape == (samples, length)
        assert cut.dtype == torch.int64
        assert cut.flatten().tolist() == [i % 100 for i in range(needed)]


def test_as_many_as_there_are() -> None:
    assert windows(PLAIN, words(59), None, 10).shape == (5, 10)
    assert windows(PLAIN, words(59), 9, 10, exact=False).shape == (5, 10)
    assert windows(PLAIN, words(59), 3, 10, exact=False).shape == (3, 10)
    for samples in (None, 3):
        with pytest.raises(RecipeError, match=r"it has 9 tokens, 10 are needed"):
            windows(PLAIN, words(9), samples, 10, exact=False)


def test_special_tokens_stand_around_every_window() -> None:
    tokenizer = word_tokenizer("[CLS] $A [SEP]")
    assert special_tokens(tokenizer) == ([100], [101])
    cut = windows(tokenizer, words(20), 3, 6)
    assert cut.tolist() == [[100, 4 * i, 4 * i + 1, 4 * i + 2, 4 * i + 3, 101] for i in range(3)]


def test_a_beginning_of_text_token() -> None:
    assert special_tokens(word_tokenizer("[CLS] $A")) == ([100], [])


def test_long_texts_are_tokenized_in_pieces_that_end_at_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = windows(PLAIN, words(1000), None, 10)
    monkeypatch.setattr(text, "PIECE", 50)
    assert torch.equal(windows(PLAIN, words(1000), None, 10), whole)


@pytest.mark.parametrize(("samples", "length"), [(0, 10), (1, 1)])
def test_shapes_that_make_no_sense(samples: int, length: int) -> None:
    with pytest.raises(RecipeError, match="FYC-R03"):
        windows(PLAIN, words(100), samples, length)


def test_read_text(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffna\u00efve\r\ntext".encode())
    assert read_text(path) == "na\u00efve\r\ntext"
    assert read_text(str(path)) == read_text(path)


@pytest.mark.parametrize(
    ("content", "says"),
    [(None, "No such file"), (b"", "empty"), (b" \n\t", "empty"), (b"ok\nbad \xe4 byte", "a.txt:2")],
)
def test_texts_that_cannot_be_used(tmp_path: Path, content: bytes | None, says: str) -> None:
    path = tmp_path / "a.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RecipeError, match="FYC-R07") as caught:
        read_text(path)
    assert says in str(caught.value)
    assert "a.txt" in caught.value.where


def test_a_folder_is_no_text(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="FYC-R07"):
        read_text(tmp_path)

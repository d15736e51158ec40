"""`fyc eval` and `fyc generate` on a tiny random Llama."""

from __future__ import annotations

import json

import pytest


def test_eval_measures_a_model(fyc, tiny_model):
    result = fyc("eval", tiny_model, "--text", tiny_model / "text.txt", "--length", "32", "--json")
    assert result.code == 0, result.err
    assert {"perplexity", "tokens", "reference_perplexity", "ratio"} <= result.json.keys()
    assert result.json["tokens"] == 31 * (1500 // 32)
    assert 40 < result.json["perplexity"] < 100


def test_eval_pairs_a_model_with_itself(fyc, tiny_model):
    arguments = ["eval", tiny_model, "--text", tiny_model / "text.txt", "--against", tiny_model, "--length", "32"]
    content = fyc(*arguments, "--max-tokens", "310", "--json").json
    assert content["tokens"] == 310
    assert content["ratio"] == 1.0
    assert content["reference_perplexity"] == content["perplexity"]
    text = fyc(*arguments, "--max-tokens", "310").out
    assert "ratio" in text
    assert "1.0000 (95 %: 1.0000 to 1.0000)" in text


def test_eval_shows_progress(fyc, tiny_model):
    result = fyc("eval", tiny_model, "--text", tiny_model / "text.txt", "--length", "32", "--progress", "json")
    events = [json.loads(line) for line in result.err.splitlines()]
    assert events[0]["kind"] == "sweep"
    assert events[0]["blocks"] == 1500 // 32
    assert [event["index"] for event in events[1:]] == list(range(1500 // 32))
    assert events[1]["seconds"] is events[1]["eta_seconds"] is None
    assert all(event["seconds"] > 0 for event in events[2:])
    plain = fyc("eval", tiny_model, "--text", tiny_model / "text.txt", "--length", "32", "--progress", "plain").err
    assert "1/46 windows: peak" in plain


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--text", "/no/such/text"], "FYC-R07"),
        (["--text", "TEXT", "--length", "4096"], "FYC-R03"),
        (["--text", "TEXT", "--length", "32", "--against", "/no/such/model"], "FYC-M01"),
        ([], "FYC-R09"),
    ],
)
def test_eval_refuses_what_it_cannot_use(fyc, tiny_model, arguments, code):
    arguments = [str(tiny_model / "text.txt") if argument == "TEXT" else argument for argument in arguments]
    result = fyc("eval", tiny_model, "--json", *arguments)
    assert result.code == 2
    assert result.json["error"]["code"] == code


def test_generate_streams_and_counts(fyc, tiny_model):
    result = fyc("generate", tiny_model, "--prompt", "w1 w2 w3", "--max-new-tokens", "5", "--stats")
    assert result.code == 0, result.err
    assert len(result.out.split()) == 5
    assert "new: 5 tokens" in result.err
    content = fyc("generate", tiny_model, "--prompt", "w1 w2 w3", "--max-new-tokens", "5", "--json").json
    assert content["text"].split() == result.out.split()
    assert content["stats"]["new_tokens"] == 5


def test_generate_refuses_a_chat_without_a_template(fyc, tiny_model):
    result = fyc("generate", tiny_model, "--prompt", "w1", "--chat", "--json")
    assert result.json["error"]["code"] == "FYC-R09"

"""The whole way on real weights and real text: SmolLM2-135M-Instruct through the command line, with few windows."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from fyc import ir

pytestmark = [pytest.mark.slow, pytest.mark.assets, pytest.mark.timeout(1800)]
PROMPT = "The most important thing about a library is that"


def fyc(*arguments: object) -> Any:
    """Run a command of the installed program, as a user would, and give the JSON that it prints."""
    command = [sys.executable, "-m", "fyc", *map(str, arguments), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def converted(recipe: str, model: Path, folder: Path, *settings: str) -> Path:
    options = [word for setting in ("calibration.samples=8", *settings) for word in ("--set", setting)]
    fyc("convert", recipe, "--model", model, "-o", folder, "--progress", "none", *options)
    return folder


@pytest.fixture(scope="module")
def w8a8(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return converted("flatten-w8a8", smollm2, tmp_path_factory.mktemp("w8a8") / "out")


def ratio(artifact: Path, model: Path) -> float:
    text = ("--text", "asset:wikipedia-evaluation", "--max-tokens", 4088)
    found = fyc("eval", artifact, *text, "--against", model, "--progress", "none")
    assert found["tokens"] == 4088
    assert found["ratio"] == pytest.approx(found["perplexity"] / found["reference_perplexity"])
    return float(found["ratio"])


def test_a_graph_computes_what_the_model_does(smollm2: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(smollm2).eval()
    given = AutoTokenizer.from_pretrained(smollm2)(PROMPT, return_tensors="pt")
    caches = ({}, {"cache_implementation": "static", "disable_compile": True})
    options = {"max_new_tokens": 64, "do_sample": False, "pad_token_id": 0}
    with torch.no_grad():
        expected = model(**given).logits
        texts = [model.generate(**given, **options, **cache) for cache in caches]
        graph = ir.trace_model(model)
        assert len({id(block) for block in graph.blocks.values()}) == 1
        torch.testing.assert_close(graph.run(model, given)["logits"], expected, rtol=0, atol=1e-5)
        for path, block in graph.blocks.items():
            ir.bind(model.get_submodule(path), block)
        torch.testing.assert_close(model(**given).logits, expected, rtol=0, atol=1e-5)
        for cache, text in zip(caches, texts, strict=True):
            assert torch.equal(model.generate(**given, **options, **cache), text)


def test_int8_keeps_the_perplexity(w8a8: Path, smollm2: Path) -> None:
    content = fyc("inspect", w8a8)
    assert content["size_bytes"] < 0.45 * content["source_bytes"]
    assert content["passes"][0]["metrics"]["expansion"] <= 0.01
    assert fyc("verify", w8a8)["ok"]
    assert 0.97 < ratio(w8a8, smollm2) < 1.08


def test_half_int4_keeps_most_of_it(smollm2: Path, tmp_path: Path) -> None:
    artifact = converted("flatten-mixed", smollm2, tmp_path / "out", "passes.0.options.branch_windows=1")
    metrics = fyc("inspect", artifact)["passes"][0]["metrics"]
    assert metrics["int4_share"] >= 0.4829
    assert metrics["expansion"] <= 0.05
    assert metrics["largest_group_expansion"] <= 0.1
    assert ratio(artifact, smollm2) < 1.5


def test_the_program_and_transformers_generate_the_same(w8a8: Path) -> None:
    said = fyc("generate", w8a8, "--prompt", PROMPT, "--max-new-tokens", 24, "--threads", torch.get_num_threads())
    assert 4 < said["stats"]["new_tokens"] <= 24  # it may have come to an end
    tokenizer = AutoTokenizer.from_pretrained(w8a8)
    given = tokenizer(PROMPT, return_tensors="pt")
    model = AutoModelForCausalLM.from_pretrained(w8a8)
    tokens = model.generate(**given, max_new_tokens=24, do_sample=False)[0, given["input_ids"].shape[1] :]
    assert tokenizer.decode(tokens, skip_special_tokens=True) == said["text"]


def test_transformers_alone_refuses_it(w8a8: Path) -> None:
    load = f"from transformers import AutoModelForCausalLM; AutoModelForCausalLM.from_pretrained({str(w8a8)!r})"
    done = subprocess.run([sys.executable, "-c", load], capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "size" in done.stderr

"""`make demo` from start to end, on a model so small that it takes a minute."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
import torch
import transformers

from fyc.models import load_tokenizer

DEMO = Path(__file__).parents[2] / "examples" / "demo.py"


@pytest.mark.slow
@pytest.mark.assets
def test_the_demo(
    smollm2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    config = transformers.LlamaConfig(
        vocab_size=49152, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=1024, bos_token_id=1, eos_token_id=2, tie_word_embeddings=True,
    )  # fmt: skip
    torch.manual_seed(0)
    transformers.LlamaForCausalLM(config).save_pretrained(tmp_path / "model")
    load_tokenizer(smollm2).save_pretrained(tmp_path / "model")
    demo = runpy.run_path(str(DEMO))
    demo["main"].__globals__["MODEL"] = "./model"
    demo["main"]()
    printed = capsys.readouterr().out
    for line in ("float32 (the original)", "naive INT8, one scale a tensor", "flatten-quant W8A8"):
        assert line in printed
    assert (tmp_path / "out/demo/w8a8/fyc.json").is_file()

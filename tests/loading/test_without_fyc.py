"""In a process without fyc, transformers must raise: an unknown method alone only logs a warning and loads garbage."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import toys
from children import fresh

import fyc

CLASSES = {
    "llama": ["AutoModelForCausalLM", "AutoModel", "LlamaForCausalLM", "LlamaModel", "LlamaForSequenceClassification"],
    "untied": ["AutoModelForCausalLM", "LlamaForCausalLM"],
    "gpt2": ["AutoModelForCausalLM", "AutoModel", "GPT2LMHeadModel", "GPT2Model"],
    "opt": ["AutoModelForCausalLM", "AutoModel", "OPTForCausalLM", "OPTModel"],
    "bert": ["AutoModelForMaskedLM", "AutoModel", "BertForMaskedLM", "BertModel", "BertForSequenceClassification"],
    "albert": ["AutoModelForMaskedLM", "AutoModel", "AlbertForMaskedLM", "AlbertModel"],
}
PASSES = ["toy-round", "toy-rows"]
CASES = [(family, name, cls) for family, classes in CLASSES.items() for name in PASSES for cls in classes]

CHILD = """
import json, sys
sys.modules["fyc"] = None
import transformers
outcomes = []
for folder, name in json.loads(sys.argv[1]):
    try:
        model = getattr(transformers, name).from_pretrained(folder)
        outcomes.append("loaded")
    except Exception as error:
        outcomes.append(f"{type(error).__name__}: {error}")
assert not [name for name in sys.modules if name.startswith("fyc.")]
print(json.dumps(outcomes))
"""


@cache
def outcomes() -> dict[tuple[str, str, str], str]:
    """What every class makes of every artifact, all in one child; the plain models too, to show that it can load."""
    cases = [(str(toys.artifact(family, name).path), cls) for family, name, cls in CASES]
    plain = [(str(toys.model(family)), cls) for family, name, cls in CASES if name == PASSES[0]]
    child = fresh(f"import sys; sys.argv.append({json.dumps(json.dumps(cases + plain))})\n{CHILD}")
    assert child.returncode == 0, child.stderr
    found = json.loads(child.stdout.splitlines()[-1])
    assert set(found[len(cases) :]) == {"loaded"}
    return dict(zip(CASES, found, strict=False))


@pytest.mark.parametrize(("family", "name", "cls"), CASES)
def test_transformers_alone_refuses(family: str, name: str, cls: str) -> None:
    outcome = outcomes()[family, name, cls]
    assert outcome != "loaded"
    assert "mismatch" in outcome.lower() or "size" in outcome.lower(), outcome


@pytest.mark.parametrize("family", toys.FAMILIES)
def test_the_guard_is_a_tensor_that_every_class_loads(family: str) -> None:
    made = toys.artifact(family)
    stored = made.tensors()[made.manifest.guard.name]
    assert stored.shape == (1, *made.manifest.guard.shape)
    model = fyc.load(made.path)
    assert made.manifest.guard.name.startswith(f"{model.base_model_prefix}.")
    assert list(model.get_parameter(made.manifest.guard.name).shape) == made.manifest.guard.shape


ORDERS = {
    "fyc first": """
import fyc, sys
assert "torch" not in sys.modules and "transformers" not in sys.modules
from transformers import AutoModelForCausalLM as cls
""",
    "fyc last": """
import transformers
from transformers import AutoModelForCausalLM as cls, LlamaForCausalLM
import fyc
""",
}


@pytest.mark.parametrize("order", ORDERS)
def test_after_import_fyc_transformers_loads_it(order: str, tmp_path: Path) -> None:
    reference = tmp_path / "logits.pt"
    ids = torch.arange(2, 26).reshape(2, 12)
    with torch.no_grad():
        torch.save(fyc.load(toys.artifact().path)(ids).logits, reference)
    code = f"""{ORDERS[order]}
import torch
torch.set_num_threads(1)
model = cls.from_pretrained({str(toys.artifact().path)!r})
with torch.no_grad():
    found = model(torch.arange(2, 26).reshape(2, 12)).logits
assert torch.equal(found, torch.load({str(reference)!r}, weights_only=True))
print("equal")
"""
    child = fresh(code)
    assert child.stdout.strip() == "equal", child.stderr


def test_the_model_card_says_how_to_load() -> None:
    text: Any = (toys.artifact().path / "report.md").read_text(encoding="utf-8")
    assert "fyc.load" in text

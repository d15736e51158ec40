"""Convert with llm-compressor's W8A8 (SmoothQuant, then GPTQ or rounding) and measure perplexity on token windows.

`peer.py` calls it in an environment of its own: pip install torch==2.13.0 llmcompressor. It imports nothing of fyc.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from importlib.metadata import version
from pathlib import Path

import torch
import torch.nn.functional as F
from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme
from datasets import Dataset
from llmcompressor import oneshot
from llmcompressor.modifiers.gptq import GPTQModifier
from llmcompressor.modifiers.quantization import QuantizationModifier
from llmcompressor.modifiers.transform.smoothquant import SmoothQuantModifier
from transformers import AutoModelForCausalLM, AutoTokenizer

#: The preset W8A8 scales activations token by token while the model runs; fyc's scales are static, one a tensor.
#: Both have int8 weights with a scale for each output channel.
ACTIVATIONS = {
    "dynamic": QuantizationArgs(num_bits=8, strategy="token", dynamic=True),
    "static": QuantizationArgs(num_bits=8, strategy="tensor", dynamic=False),
}


def perplexity(model: torch.nn.Module, windows: torch.Tensor) -> float:
    """Windows are int64 [windows, length]; each scores length - 1 tokens."""
    total, count = 0.0, 0
    with torch.no_grad():
        for row in windows:
            logits = model(row.unsqueeze(0)).logits[0, :-1].float()
            total += float(F.cross_entropy(logits, row[1:], reduction="sum"))
            count += len(row) - 1
    return math.exp(total / count)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("windows", type=Path, help="JSON: {'calibration': [[ids]], 'evaluation': {name: [[ids]]}}")
    parser.add_argument("result", type=Path)
    parser.add_argument("--rounding", choices=["gptq", "nearest"], default="gptq")
    parser.add_argument("--activations", choices=list(ACTIVATIONS), default="dynamic")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    data = json.loads(arguments.windows.read_text())
    model = AutoModelForCausalLM.from_pretrained(arguments.model, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    calibration = Dataset.from_list(
        [{"input_ids": row, "attention_mask": [1] * len(row)} for row in data["calibration"]]
    )
    quantize = {"gptq": GPTQModifier, "nearest": QuantizationModifier}[arguments.rounding]
    scheme = QuantizationScheme(
        targets=["Linear"],
        weights=QuantizationArgs(num_bits=8, strategy="channel"),
        input_activations=ACTIVATIONS[arguments.activations],
    )
    recipe = [
        SmoothQuantModifier(smoothing_strength=0.8),
        quantize(config_groups={"linear": scheme}, ignore=["lm_head"]),
    ]
    started = time.monotonic()
    oneshot(
        model=model, processor=tokenizer, dataset=calibration, recipe=recipe,
        max_seq_length=len(data["calibration"][0]), num_calibration_samples=len(data["calibration"]),
    )  # fmt: skip
    seconds = time.monotonic() - started
    result = {
        "version": version("llmcompressor"),
        "seconds": seconds,
        "perplexity": {name: perplexity(model, torch.tensor(rows)) for name, rows in data["evaluation"].items()},
    }
    arguments.result.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()

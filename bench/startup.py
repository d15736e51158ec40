"""Time `fyc --help` as a whole process, and tracing a 24-layer Llama on the meta device."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path


def help_seconds(runs: int) -> list[float]:
    program = str(Path(sys.executable).with_name("fyc"))
    times = []
    for _ in range(runs + 1):
        started = time.perf_counter()
        subprocess.run([program, "--help"], check=True, capture_output=True)
        times.append(time.perf_counter() - started)
    return times[1:]


def trace_seconds(runs: int) -> list[float]:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from fyc import ir

    config = LlamaConfig(
        hidden_size=256, intermediate_size=688, num_hidden_layers=24, num_attention_heads=8, num_key_value_heads=4
    )
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    times = []
    for _ in range(runs + 1):
        started = time.perf_counter()
        ir.trace_model(model)
        times.append(time.perf_counter() - started)
    return times


def main() -> None:
    result = {
        "help_seconds": _summary(help_seconds(15)),
        "trace_24_layers_first_seconds": (traces := trace_seconds(5))[0],
        "trace_24_layers_seconds": _summary(traces[1:]),
    }
    print(json.dumps(result, indent=1))


def _summary(times: list[float]) -> dict[str, float]:
    return {"median": statistics.median(times), "min": min(times), "max": max(times), "runs": len(times)}


if __name__ == "__main__":
    main()

"""Peak memory (VmHWM) of `fyc convert flatten-w8a8` on a random 2.2 GB bf16 checkpoint, 64 x 512 tokens."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from random_checkpoint import TINYLLAMA, write_checkpoint


def measure(model: Path, folder: Path, rounding: str, samples: int) -> dict[str, object]:
    """Convert in a process of its own, which reports its peak resident size; getrusage would add this process's."""
    output = folder / f"out-{rounding}"
    command = [str(Path(sys.executable).with_name("fyc")), "convert", "flatten-w8a8", "--model", str(model),
               "--calibration", str(model / "text.txt"), "-o", str(output), "--json",
               "--set", f"calibration.samples={samples}", "--set", f"passes.0.options.rounding={rounding}"]  # fmt: skip
    started = time.monotonic()
    process = subprocess.run(command, stdout=subprocess.PIPE, stderr=sys.stderr, check=False)
    data = json.loads(process.stdout or b"{}")
    shutil.rmtree(output, ignore_errors=True)
    return {
        "rounding": rounding,
        "exit": process.returncode,
        "peak_gb": data.get("peak_memory_bytes", 0) / 1e9,
        "seconds": time.monotonic() - started,
        "size_bytes": data.get("size_bytes"),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--rounding", nargs="+", default=["nearest", "gptq"])
    parser.add_argument("--model", type=Path, help="a checkpoint that random_checkpoint.py wrote; made if not given")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        model = arguments.model or Path(scratch) / "llama-1.1b"
        if arguments.model is None:
            write_checkpoint(model, 4, TINYLLAMA)
        rows = [measure(model, Path(scratch), rounding, arguments.samples) for rounding in arguments.rounding]
    print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()

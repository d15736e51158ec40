"""Convert one model in several ways with `fyc convert`, evaluate each on the same tokens, print one table.

Every row is a run of the shipped command line in a process of its own. Calibration: first half of the Wikipedia text in
gensim's test data; evaluation: its second half, and a second source.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

FYC = str(Path(sys.executable).with_name("fyc"))
W8A8 = "flatten-w8a8"
MIXED = "flatten-mixed"
_PLAIN = ["smoothing=none", "shift=false", "search=none", "headroom=1", "expansion=0", "rounding=nearest"]
ROWS: dict[str, tuple[str, list[str]]] = {
    "naive per-tensor W8A8": (W8A8, _PLAIN),
    "flatten-w8a8 (radix, 1 %)": (W8A8, []),
    "flatten-w8a8, unary split": (W8A8, ["split=unary"]),
    "flatten-w8a8, no smoothing, no shift": (W8A8, ["smoothing=none", "shift=false"]),
    "flatten-w8a8, no extra columns": (W8A8, ["expansion=0"]),
    "flatten-w8a8, per-tensor weights": (W8A8, ["granularity=tensor"]),
    "flatten-w8a8, rounding to nearest": (W8A8, ["rounding=nearest"]),
    "flatten-w8a8, int8 embedding and head": (W8A8, ["head=int8"]),
    "flatten-mixed (select by divergence)": (MIXED, []),
    "flatten-mixed, select by kl (our reading of the paper)": (MIXED, ["select=kl"]),
    "flatten-mixed, select at random": (MIXED, ["select=random"]),
    "flatten-mixed, select in layer order": (MIXED, ["select=order"]),
    "flatten-mixed, rounding to nearest": (MIXED, ["rounding=nearest"]),
}


def run(command: list[str]) -> dict[str, Any]:
    """Run a command that prints one JSON document; stderr goes on."""
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def measure(name: str, model: str, folder: Path, texts: list[str], tokens: int, extra: list[str]) -> dict[str, Any]:
    """Convert and evaluate one row."""
    recipe, options = ROWS[name]
    output = folder / "artifact"
    shutil.rmtree(output, ignore_errors=True)
    settings = [word for option in options for word in ("--set", f"passes.0.options.{option}")]
    gate = ["--set", "verify=null"]
    started = time.monotonic()
    made = run([FYC, "convert", recipe, "--model", model, "-o", str(output), "--json", *settings, *gate, *extra])
    seconds = time.monotonic() - started
    row: dict[str, Any] = {
        "row": name,
        "convert_seconds": seconds,
        "size_bytes": made["size_bytes"],
        "source_bytes": made["source_bytes"],
        "metrics": made["passes"][0]["metrics"],
        "texts": {},
    }
    for text in texts:
        command = [FYC, "eval", str(output), "--text", text, "--against", model, "--json", "--max-tokens", str(tokens)]
        row["texts"][text] = run(command)
    shutil.rmtree(output)
    return row


def table(rows: list[dict[str, Any]], texts: list[str]) -> str:
    """Markdown: one line a row."""
    lines = ["| | size | convert | " + " | ".join(f"{text} | ratio (95 %)" for text in texts) + " |"]
    lines.append("|---" * (3 + 2 * len(texts)) + "|")
    for row in rows:
        cells = [row["row"], f"{row['size_bytes'] / 1e6:.0f} MB", f"{row['convert_seconds']:.0f} s"]
        for text in texts:
            found = row["texts"][text]
            low, high = found["ratio_interval"]
            cells += [f"{found['perplexity']:.2f}", f"{found['ratio']:.3f} ({low:.3f} to {high:.3f})"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="a folder, GGUF file or hub id")
    parser.add_argument("--rows", nargs="*", default=list(ROWS), help="names of rows, or parts of them")
    parser.add_argument("--text", nargs="+", default=["asset:wikipedia-evaluation", "asset:lee"])
    parser.add_argument("--tokens", type=int, default=51_200)
    parser.add_argument("--folder", type=Path, default=Path("bench-perplexity"))
    parser.add_argument("--set", action="append", default=[], dest="settings")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    chosen = [name for name in ROWS if any(part in name for part in arguments.rows)]
    extra = [word for setting in arguments.settings for word in ("--set", setting)]
    rows = []
    for name in chosen:
        rows.append(measure(name, arguments.model, arguments.folder, arguments.text, arguments.tokens, extra))
        (arguments.folder / "rows.json").write_text(json.dumps(rows, indent=1))
        print(table(rows[-1:], arguments.text).splitlines()[-1], file=sys.stderr, flush=True)
    print(table(rows, arguments.text))


if __name__ == "__main__":
    main()

"""Convert one model in several ways with `fyc convert`, evaluate each on the same tokens, print one table.

Every row is a run of the shipped command line in a process of its own. Calibration: first half of the Wikipedia text in
gensim's test data; evaluation: its second half, and a second source. The artifacts stay in the folder, each with the
command that made it, so that a run that was stopped goes on, and more rows and texts can be added to a table later.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

FYC = str(Path(sys.executable).with_name("fyc"))
W8A8 = "flatten-w8a8"
MIXED = "flatten-mixed"
_NAIVE = ["smoothing=none", "shift=false", "search=none", "headroom=1", "expansion=0", "rounding=nearest"]
ROWS: dict[str, tuple[str, list[str]]] = {
    "naive W8A8, one scale a tensor": (W8A8, [*_NAIVE, "granularity=tensor"]),
    "naive W8A8, weight scales by output channel": (W8A8, _NAIVE),
    "flatten-w8a8 (radix, 1 %)": (W8A8, []),
    "flatten-w8a8, unary split": (W8A8, ["split=unary"]),
    "flatten-w8a8, no smoothing, no shift": (W8A8, ["smoothing=none", "shift=false"]),
    "flatten-w8a8, no extra columns": (W8A8, ["expansion=0"]),
    "flatten-w8a8, per-tensor weights": (W8A8, ["granularity=tensor"]),
    "flatten-w8a8, GPTQ": (W8A8, ["rounding=gptq"]),
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


def convert(name: str, model: str, output: Path, extra: list[str]) -> None:
    """Convert one row without a gate (what it loses is what the table is about), unless that was done already."""
    recipe, options = ROWS[name]
    settings = [word for option in options for word in ("--set", f"passes.0.options.{option}")]
    command = [FYC, "convert", recipe, "--model", model, "-o", str(output), "--set", "verify=null", *settings, *extra]
    made_by = output.with_suffix(".command")
    if (output / "fyc.json").is_file():
        if made_by.read_text() != shlex.join(command):
            sys.exit(f"{output} was made by another command: {made_by.read_text()}")
        return
    made_by.write_text(shlex.join(command))
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)


def measure(name: str, model: str, output: Path, texts: list[str], tokens: int) -> dict[str, Any]:
    """Evaluate one artifact beside the model it was made from."""
    made = run([FYC, "inspect", str(output), "--json"])
    row: dict[str, Any] = {
        "row": name,
        "convert_seconds": json.loads((output / "run.json").read_text())["seconds"],
        "size_bytes": made["size_bytes"],
        "source_bytes": made["source_bytes"],
        "metrics": made["passes"][0]["metrics"],
        "texts": {},
    }
    for text in texts:
        command = [FYC, "eval", str(output), "--text", text, "--against", model, "--json", "--max-tokens", str(tokens)]
        row["texts"][text] = run(command)
    return row


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: one line for each row and text."""
    lines = ["| | text | tokens | perplexity | float32 | ratio (95 %) | INT4 MACs | extra columns | size | convert |"]
    lines.append("|---" * 10 + "|")
    for row in rows:
        metrics = row["metrics"]
        made = [
            f"{metrics['int4_share']:.2%}",
            f"{metrics['expansion']:.2%}, at most {metrics['largest_group_expansion']:.1%}",
            f"{row['size_bytes'] / 1e6:.0f} MB",
            f"{row['convert_seconds']:.0f} s",
        ]
        for text, found in row["texts"].items():
            low, high = found["ratio_interval"]
            ratio = f"{found['ratio']:.3f} ({low:.3f} to {high:.3f})"
            cells = [row["row"], text.removeprefix("asset:"), f"{found['tokens']:,}", f"{found['perplexity']:.2f}"]
            lines.append("| " + " | ".join([*cells, f"{found['reference_perplexity']:.2f}", ratio, *made]) + " |")
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
    stored = arguments.folder / "rows.json"
    rows = {row["row"]: row for row in json.loads(stored.read_text())} if stored.is_file() else {}
    extra = [word for setting in arguments.settings for word in ("--set", setting)]
    for name in ROWS:
        if not any(part in name for part in arguments.rows):
            continue
        output = arguments.folder / re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
        convert(name, arguments.model, output, extra)
        row = measure(name, arguments.model, output, arguments.text, arguments.tokens)
        row["texts"] = rows.get(name, row)["texts"] | row["texts"]
        rows[name] = row
        stored.write_text(json.dumps(list(rows.values()), indent=1))
        print(table([row]).partition("|\n|---")[2].split("\n", 1)[1], file=sys.stderr, flush=True)
    print(table(list(rows.values())))


if __name__ == "__main__":
    main()

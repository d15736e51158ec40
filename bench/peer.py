"""fyc's W8A8 beside llm-compressor's: the same calibration windows, the same evaluation windows, one table.

llm-compressor lives in an environment of its own (pip install torch==2.13.0 llmcompressor); `peer_llmcompressor.py`
runs there. Both tools get the machine to themselves, one after the other.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from perplexity import FYC, run

from fyc.models import load_tokenizer, open_folder, read_text, windows
from fyc.plugins import load_plugins

CALIBRATION = "asset:wikipedia-calibration"
SAMPLES, LENGTH = 64, 512


def write_windows(model: Path, texts: list[str], tokens: int, path: Path) -> None:
    """The windows that `fyc convert` calibrates on and `fyc eval` evaluates on, as token ids."""
    tokenizer = load_tokenizer(model)
    evaluation = {
        text: windows(tokenizer, read_text(text), tokens // (LENGTH - 1), LENGTH, exact=False).tolist()
        for text in texts
    }
    calibration = windows(tokenizer, read_text(CALIBRATION), SAMPLES, LENGTH).tolist()
    path.write_text(json.dumps({"calibration": calibration, "evaluation": evaluation}))


def convert_with_fyc(model: Path, texts: list[str], tokens: int, output: Path) -> tuple[list[str], dict[str, float]]:
    """One row of the table, and the perplexities of the float model."""
    command = [FYC, "convert", "flatten-w8a8", "--model", str(model), "-o", str(output), "--set", "verify=null"]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    seconds = json.loads((output / "run.json").read_text())["seconds"]
    cells, reference = ["fyc flatten-w8a8", f"{seconds:.0f} s"], {}
    for text in texts:
        against = ["--against", str(model), "--json", "--max-tokens", str(tokens)]
        found = run([FYC, "eval", str(output), "--text", text, *against])
        reference[text] = found["reference_perplexity"]
        cells.append(f"{found['perplexity']:.2f} ({found['ratio']:.3f})")
    return cells, reference


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="a folder, GGUF file or hub id")
    parser.add_argument("--peer-python", required=True, help="python of the environment with llm-compressor")
    parser.add_argument("--text", nargs="+", default=["asset:wikipedia-evaluation", "asset:lee"])
    parser.add_argument("--tokens", type=int, default=51_200)
    parser.add_argument("--folder", type=Path, default=Path("bench-peer"))
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True)
    model = open_folder(arguments.model, sources=load_plugins().sources)
    cut = arguments.folder / "windows.json"
    write_windows(model, arguments.text, arguments.tokens, cut)
    cells, reference = convert_with_fyc(model, arguments.text, arguments.tokens, arguments.folder / "fyc")
    rows = [["float32", "", *(f"{reference[text]:.2f}" for text in arguments.text)], cells]
    script = Path(__file__).with_name("peer_llmcompressor.py")
    for rounding, activations in (("gptq", "static"), ("gptq", "dynamic"), ("nearest", "dynamic")):
        result = arguments.folder / f"llm-compressor-{rounding}-{activations}.json"
        command = [arguments.peer_python, str(script), str(model), str(cut), str(result)]
        command += ["--rounding", rounding, "--activations", activations]
        subprocess.run(command, stdout=sys.stderr, check=True)  # it logs to stdout
        found = json.loads(result.read_text())
        ratios = [f"{found['perplexity'][t]:.2f} ({found['perplexity'][t] / reference[t]:.3f})" for t in arguments.text]
        name = f"llm-compressor {found['version']}, SmoothQuant and {rounding}, {activations} activations"
        rows.append([name, f"{found['seconds']:.0f} s", *ratios])
    print("| | convert | " + " | ".join(text.removeprefix("asset:") for text in arguments.text) + " |")
    print("|---" * len(rows[0]) + "|")
    print("\n".join("| " + " | ".join(row) + " |" for row in rows))


if __name__ == "__main__":
    main()

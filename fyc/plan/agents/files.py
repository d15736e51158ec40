"""The files of a plan, named in its report once they are written."""

from __future__ import annotations

from pathlib import Path

from fyc.artifact.files import write_text
from fyc.plan.agents.reporter import FILES_MARK

#: What each file of a plan is for, in the order of the report.
_KNOWN = {
    "launch.sh": "starts it, on every machine",
    "launch.sbatch": "starts it under Slurm: `sbatch launch.sbatch`",
    "plan.json": "the job, the chosen layout and the frontier, for programs",
    "pool.jsonl": "every message that this report cites",
    "transcript.jsonl": "what the language model was asked and answered",
    "job.json": "what was asked for, for `fyc plan resume`",
}


def name_files(folder: Path) -> None:
    """Put the list of the files that are there into report.md, below the summary. Without a mark nothing is changed."""
    report = folder / "report.md"
    text = report.read_text(encoding="utf-8")
    if FILES_MARK not in text:
        return
    there = {path.name for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")}
    others = sorted(there - _KNOWN.keys() - {"report.md"})
    lines = ["## Files", ""]
    if "launch.sh" not in there:
        lines.append("- no launch script: the backend has none yet, or cannot run this layout; `plan.json` holds it")
    lines += [f"- `{name}`: {what}" for name, what in _KNOWN.items() if name in there]
    lines += [f"- `{name}`: what `launch.sh` reads" for name in others if "launch.sh" in there]
    write_text(report, text.replace(FILES_MARK, "\n".join(lines), 1))

"""`fyc plan diagnose`: what a training log says went wrong."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fyc.cli.options import Json

if TYPE_CHECKING:
    from fyc.plan.diagnosis import Diagnosis, Progress

#: Exit code for a log that holds neither a known failure nor progress.
NOTHING_FOUND = 7


def add_to(app: typer.Typer) -> None:
    """Add the command to `fyc plan`."""
    app.command("diagnose")(diagnose_command)


def diagnose_command(
    log: Annotated[Path, typer.Argument(metavar="LOG", help="What the job wrote to stdout and stderr; may be gzip.")],
    json: Json = False,
) -> None:
    """Say what went wrong in a training run: the first failing rank, the cause, what may be changed.

    Knows the messages of PyTorch, NCCL, Megatron-LM, torchtitan, DeepSpeed, torchrun and Slurm. Measures step time,
    throughput and memory on the way. Exits 0 also when the run failed, and 7 when the log holds neither a known failure
    nor progress.
    """
    from fyc.cli.runtime import print_json
    from fyc.plan.diagnosis import diagnose

    found = diagnose(log)
    if json:
        print_json(found.model_dump(mode="json"))
    else:
        _show(found)
    if found.is_empty:
        raise typer.Exit(NOTHING_FOUND)


def _show(found: Diagnosis) -> None:
    from fyc.ui.tables import show_pairs, show_table

    show_pairs(_summary(found), title=found.log)
    if found.evidence:
        typer.echo()
        rows = [(item.line, item.rank, item.text) for item in found.evidence]
        show_table(("line", "rank", "evidence (text of the log)"), rows)
    others = [finding for finding in found.findings if finding.role != "cause"]
    if others:
        typer.echo()
        columns = ("also in the log", "role", "lines", "first line", "ranks")
        show_table(columns, [(f.kind, f.role, f.count, f.first_line, _ranks(f.ranks)) for f in others])
    if found.progress is not None:
        typer.echo()
        show_pairs(_progress(found.progress), title="progress")


def _summary(found: Diagnosis) -> dict[str, Any]:
    """What a person wants to know first."""
    pairs: dict[str, Any] = {"status": found.status}
    if found.kind is None:
        if found.is_empty:
            pairs["found"] = "neither a failure that fyc knows nor a line about progress"
        return pairs
    pairs |= {"failure": found.kind, "cause": found.cause}
    if found.rank is not None:
        names = {"global": "", "local": " (local rank)", "task": " (task of the launcher)"}
        pairs["first rank"] = f"{found.rank}{names[found.rank_kind or 'global']}"
    pairs["line"] = found.line
    pairs["after step"] = found.after_step if found.after_step is not None else "none: before the first step"
    pairs["next"] = found.next
    if found.allowed_edits:
        pairs["may be changed"] = "; ".join(map(str, found.allowed_edits))
    return pairs


def _progress(progress: Progress) -> dict[str, Any]:
    units = {
        "step_s": "step (median)", "step_s_low": "10th percentile", "step_s_high": "90th percentile",
        "samples_per_s": "samples/s", "tokens_per_s": "tokens/s", "tokens_per_s_per_gpu": "tokens/s/GPU",
        "tflops_per_gpu": "TFLOP/s/GPU", "peak_allocated_gib": "peak allocated, GiB",
        "peak_reserved_gib": "peak reserved, GiB",
    }  # fmt: skip
    of = f" of {progress.total_steps}" if progress.total_steps else ""
    pairs: dict[str, Any] = {
        "framework": progress.framework,
        "steps": f"{progress.first_step} to {progress.last_step}{of}; {progress.measured} lines measured",
    }
    for name, label in units.items():
        value = getattr(progress, name)
        if value is not None:
            text = f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"
            pairs[label] = f"{text} s" if name.startswith("step_s") else text
    return pairs


def _ranks(ranks: tuple[int, ...]) -> str:
    shown = ", ".join(map(str, ranks[:8]))
    return f"{shown}, ..." if len(ranks) > 8 else shown

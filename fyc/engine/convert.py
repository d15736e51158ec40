"""Run a plan: sweep by sweep, pass by pass, into an artifact that appears only when it is complete."""

from __future__ import annotations

import errno
import math
import platform
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from fyc.artifact import Artifact, open_artifact
from fyc.engine.assemble import Outcome, assemble, write_run_json
from fyc.engine.live import LiveModel
from fyc.engine.prepare import RunPlan, check_resources
from fyc.engine.streams import BranchScores
from fyc.engine.sweeps import Sweeper
from fyc.engine.workspace import Step, Workspace
from fyc.errors import Interrupted, PassError, RecipeError, resource_error
from fyc.models import peak_memory_bytes
from fyc.ui.events import Event, EventSink, ignore


def convert(
    plan: RunPlan, *, resume: bool = False, dump_ir: Path | None = None, events: EventSink = ignore
) -> Artifact:
    """Convert a model.

    Args:
        plan: what `prepare` made of a recipe.
        resume: go on with an interrupted run of the same plan; the result is byte-identical.
        dump_ir: folder for the graphs before and after every pass.
        events: gets progress, metrics and warnings.

    Returns:
        The artifact in the plan's output folder.

    Raises:
        PassError: FYC-X02 when the verify gate is missed; the artifact is then kept as `DIR.rejected`.
        Interrupted: FYC-I01 on Ctrl-C; the run can be resumed.
        ResourceError: FYC-S01, FYC-S02 when disk or memory run out; the run can be resumed.
    """
    started = time.monotonic()
    workspace = Workspace(plan.output)
    if resume:
        workspace.require()
    if not (resume and workspace.finished):
        check_resources(plan, resume=resume)
    use = [pass_plan.pass_.name for pass_plan in plan.passes]
    data = {"recipe": plan.recipe.name, "model": plan.recipe.model.source, "output": str(plan.output), "passes": use}
    events(Event("run", data))
    for finding in plan.findings:
        kind = "warning" if finding.level == "warning" else "note"
        events(Event(kind, {"message": finding.message, "where": finding.where}))
    fingerprint = plan.fingerprint()
    with _faults(plan.output), workspace.open(fingerprint, resume=resume):
        if not workspace.finished:
            _run(plan, workspace, events, dump_ir, fingerprint["source"])
        workspace.remove()
    artifact = open_artifact(plan.output)
    seconds = time.monotonic() - started
    events(Event("done", {"output": str(plan.output), "seconds": seconds, "peak_memory_bytes": peak_memory_bytes()}))
    plan.host.notify("fyc_artifact_written", events, artifact=artifact)
    return artifact


def _run(plan: RunPlan, workspace: Workspace, events: EventSink, dump: Path | None, source: str) -> None:
    started = time.monotonic()
    live = LiveModel(plan, workspace)
    outcome = _run_passes(plan, workspace, live, events, dump)
    folder = workspace.folder / "artifact"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    assemble(plan, live, folder, outcome, source)
    write_run_json(folder, _run_data(time.monotonic() - started))
    for name, value in outcome.metrics.items():
        events(Event("metric", {"name": name, "value": value}))
    missed = _missed_gate(plan, outcome)
    if missed is None:
        workspace.announce(folder / "fyc.json")
        _publish(folder, plan.output)
        return
    workspace.drop_rejected()
    _publish(folder, workspace.rejected)
    workspace.remove()
    raise PassError(
        "FYC-X02",
        "the verify gate was missed",
        where=plan.recipe.where("verify"),
        why=missed,
        next=f"the output is kept in {workspace.rejected}; relax the gate, or change the options",
    )


def _run_passes(plan: RunPlan, workspace: Workspace, live: LiveModel, events: EventSink, dump: Path | None) -> Outcome:
    metrics: dict[str, float] = {}
    for position, pass_plan in enumerate(plan.passes):
        pass_ = pass_plan.pass_
        sweeper = Sweeper(plan, workspace, live, position, events, dump)
        stage = workspace.stage(position, pass_.name)
        surveyed = Step(stage / "survey" / "done")
        if not surveyed.done:
            wanted = pass_plan.surveys or (position == 0 and plan.held_out is not None)
            surveys, scores, before = sweeper.survey(baseline=position == 0) if wanted else ({}, BranchScores(), None)
            decided = sweeper.decide(surveys, scores) if pass_plan.surveys else {}
            surveyed.write({"before": before, "plan": decided, "surveyed": sorted(surveys)})
        facts = surveyed.data()
        surveys = {path: sweeper.stored_survey(path) for path in facts["surveyed"]}
        after = sweeper.convert(surveys, facts["plan"])
        if facts["before"] is not None:
            metrics["held_out_perplexity_before"] = _perplexity(facts["before"])
        if after is not None:
            metrics["held_out_perplexity_after"] = _perplexity(after)
    if {"held_out_perplexity_before", "held_out_perplexity_after"} <= metrics.keys():
        ratio = metrics["held_out_perplexity_after"] / metrics["held_out_perplexity_before"]
        metrics["held_out_perplexity_ratio"] = ratio
    return Outcome(metrics, sweeper.samples, sweeper.sample_tensors)


def _perplexity(loss: float) -> float:
    """exp(loss), or the largest number there is: a model that was wrecked altogether is no overflow."""
    return math.exp(loss) if loss < math.log(sys.float_info.max) else sys.float_info.max


def _missed_gate(plan: RunPlan, outcome: Outcome) -> str | None:
    gate = plan.recipe.verify
    if gate is None:
        return None
    increase = outcome.metrics["held_out_perplexity_ratio"] - 1
    if increase <= gate.max_perplexity_increase:
        return None
    before, after = (outcome.metrics[f"held_out_perplexity_{when}"] for when in ("before", "after"))
    return (
        f"perplexity on {gate.samples} held-out windows rose from {before:.3f} to {after:.3f}, by {increase:.2%}; "
        f"the recipe allows {gate.max_perplexity_increase:.2%}"
    )


def _publish(folder: Path, target: Path) -> None:
    """Rename the complete folder into place; an empty folder gives way.

    Raises:
        RecipeError: FYC-R08 when somebody has put something there while the run went on; nothing is lost.
    """
    try:
        folder.replace(target)
    except OSError as error:
        if error.errno not in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR}:
            raise
        raise RecipeError(
            "FYC-R08",
            "the output folder is not empty any more",
            where=str(target),
            why="something was put there while the conversion ran",
            next="move it away, then repeat the command with --resume",
        ) from error


def _run_data(seconds: float) -> dict[str, object]:
    return {
        "seconds": round(seconds, 3),
        "peak_memory_bytes": peak_memory_bytes(),
        "host": platform.node(),
        "platform": platform.platform(),
        "threads": torch.get_num_threads(),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


@contextmanager
def _faults(output: Path) -> Iterator[None]:
    """Turn what the machine does to a run into errors that say how to go on."""
    resume = "repeat the command with --resume"
    try:
        yield
    except KeyboardInterrupt as error:
        raise Interrupted("FYC-I01", "interrupted", where=str(output), next=resume) from error
    except (MemoryError, RuntimeError, OSError) as error:
        short = resource_error(error, where=str(output), next=resume)
        if short is None:
            raise
        raise short from error

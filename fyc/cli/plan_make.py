"""`fyc plan` itself and `fyc plan resume`: from a model and a cluster to a folder with a plan."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fyc.cli.options import Json, Offline

if TYPE_CHECKING:
    from fyc.errors import EndpointError
    from fyc.plan.agents.coordinator import Outcome
    from fyc.plan.job import Job
    from fyc.plan.messages import Message
    from fyc.plan.planning import Request

TrialsOption = Annotated[int, typer.Option("--trials", min=1, help="Layouts to try, the customary one included.")]
FixOption = Annotated[
    list[str] | None,
    typer.Option("--fix", metavar="NAME=VALUES", help="Fix or bound a dimension: tp=8, pp=1-4, recompute=none,full."),
]
ExecutorOption = Annotated[str, typer.Option("--executor", help="What tries them: `model` is the cost model.")]
ReasonerOption = Annotated[
    str,
    typer.Option(
        "--reasoner",
        help="rules; llm: a language model chooses; llm-rank: its log-probabilities do; auto: llm if one is named.",
    ),
]


def add_to(app: typer.Typer) -> None:
    """Make the group a command, and add `resume`."""
    app.callback(invoke_without_command=True)(plan_command)
    app.command("resume")(resume_command)


def plan_command(
    context: typer.Context,
    model: Annotated[str | None, typer.Option("--model", help="config.json, a model folder, or a hub id.")] = None,
    cluster: Annotated[
        Path | None, typer.Option("--cluster", help="YAML file: gpu, nodes, gpus_per_node, network_gbs.")
    ] = None,
    seq: Annotated[int | None, typer.Option("--seq", min=1, help="Tokens of one sequence.")] = None,
    global_batch: Annotated[
        int | None, typer.Option("--global-batch", min=1, help="Sequences of one optimizer step.")
    ] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Folder to write the plan into.")] = None,
    backend: Annotated[str, typer.Option("--backend", help="torchtitan, megatron, deepspeed or fsdp2.")] = "torchtitan",
    precision: Annotated[str, typer.Option("--precision", help="bf16, fp16, fp8, mxfp8 or nvfp4.")] = "bf16",
    trials: TrialsOption = 20,
    fix: FixOption = None,
    executor: ExecutorOption = "model",
    reasoner: ReasonerOption = "auto",
    calibration: Annotated[Path | None, typer.Option("--calibration", help="What `fyc plan calibrate` wrote.")] = None,
    offline: Offline = False,
    json: Json = False,
) -> None:
    """Plan distributed training: which layout, will it fit, how fast, and why."""
    if context.invoked_subcommand is not None:
        return
    given = {"--model": model, "--cluster": cluster, "--seq": seq, "--global-batch": global_batch, "-o": output}
    missing = [name for name, value in given.items() if value is None]
    if missing:
        raise typer.BadParameter(f"a plan needs {', '.join(missing)}; `fyc plan --help` says more")
    assert model is not None
    assert cluster is not None
    assert seq is not None
    assert global_batch is not None
    assert output is not None
    from fyc.plan.constraints import parse_limits
    from fyc.plan.inputs import make_job, read_correction
    from fyc.plan.planning import Request
    from fyc.plan.read_model import read_config

    job = make_job(model, cluster, seq, global_batch, backend, precision, offline=offline)
    request = Request(job, parse_limits(fix or (), job), read_correction(calibration), trials)
    failure = _make(request, output, executor, reasoner, json)
    _launch(job, output, read_config(model, offline=offline), quiet=json)
    if failure is not None:
        raise failure


def resume_command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a plan.")],
    trials: TrialsOption = 20,
    executor: ExecutorOption = "model",
    reasoner: ReasonerOption = "auto",
    json: Json = False,
) -> None:
    """Go on with a plan that was interrupted, or give it more trials."""
    from fyc.plan.planning import read_request
    from fyc.plan.read_model import read_config

    request = read_request(folder, trials)
    job = request.job
    failure = _make(request, folder, executor, reasoner, json)
    if (folder / "config.json").is_file():
        _launch(job, folder, read_config(folder / "config.json"), quiet=json)
    if failure is not None:
        raise failure


def _launch(job: Job, folder: Path, config: dict[str, Any], *, quiet: bool) -> None:
    """Write the launch script of the plan in a folder, where the backend has a launcher."""
    from json import loads

    from fyc.plan.launch import Target, write_launch
    from fyc.plan.layout import Layout
    from fyc.plan.registry import launchers
    from fyc.plugins import load_plugins

    found = next((one for one in launchers(load_plugins()).values() if one.stack == job.stack.name), None)
    best = loads((folder / "plan.json").read_text(encoding="utf-8"))["best"]
    if best is None or found is None:
        if found is None and not quiet:
            typer.echo(f"there is no launcher for {job.stack.name} yet: the layout is in {folder}/plan.json")
        return
    write_launch(found, Target(job, Layout.model_validate(best["layout"]), config), folder)
    if not quiet:
        typer.echo(f"{folder}/launch.sh starts it, {folder}/launch.sbatch under Slurm")


def _make(request: Request, folder: Path, executor: str, reasoner: str, json: bool) -> EndpointError | None:
    """Make the plan and print what came of it; the error to end with, where the language model decided nothing."""
    from fyc.cli.plan_reasoner import Followed, make_reasoner
    from fyc.cli.runtime import print_json
    from fyc.plan.planning import make_plan
    from fyc.plan.registry import executor as find_executor
    from fyc.plugins import load_plugins

    chosen, close = make_reasoner(reasoner, folder)
    followed = Followed((lambda _: None) if json else _show)
    try:
        outcome = make_plan(request, find_executor(load_plugins(), executor), chosen, folder, followed)
    finally:
        close()
    failure = followed.failure(reasoner, folder)
    if not json:
        _print_outcome(outcome, folder)
        if failure is None and followed.note():
            typer.echo(followed.note(), err=True)
    elif failure is None:
        print_json(_summary(outcome, folder) | {"decisions": followed.decisions, "failed_calls": followed.failed})
    return failure


def _show(message: Message) -> None:
    """One line on stderr for what a person wants to follow."""
    from fyc.plan.messages import Decision, Failure, Trial

    payload = message.payload
    if isinstance(payload, Trial):
        result = f"{payload.iteration_s:.3f} s" if payload.iteration_s is not None else payload.status
        typer.echo(f"  trial {message.iteration + 1}: {result}", err=True)
    elif isinstance(payload, Decision):
        typer.echo(f"{message.reasoner}: {message.rationale}", err=True)
    elif isinstance(payload, Failure):
        typer.echo(
            f"{payload.attempted_by} failed ({payload.what}: {payload.why}); {payload.fallback} decide", err=True
        )


def _summary(outcome: Outcome, folder: Path) -> dict[str, Any]:
    return {
        "folder": str(folder),
        "best": None if outcome.best is None else outcome.best.model_dump(),
        "iteration_s": outcome.best_s,
        "expert": outcome.expert.model_dump(),
        "expert_s": outcome.expert_s,
        "gain": outcome.gain,
        "trials": outcome.trials,
        "reason": outcome.reason,
    }


def _print_outcome(outcome: Outcome, folder: Path) -> None:
    if outcome.best is None or outcome.best_s is None:
        typer.echo(f"no layout ran: {outcome.reason}")
        return
    gain = "" if outcome.gain is None else f", {outcome.gain:+.1%} over the customary setting"
    typer.echo(f"{outcome.best}: {outcome.best_s:.3f} s a step{gain}")
    typer.echo(f"{outcome.trials} trials; {folder}/report.md says why, {folder}/plan.json holds the figures")

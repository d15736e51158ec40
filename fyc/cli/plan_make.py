"""`fyc plan` itself and `fyc plan resume`: from a model and a cluster to a folder with a plan."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fyc.cli.options import Json, Offline, Progress
from fyc.errors import Interrupted
from fyc.ui.events import Event, EventSink
from fyc.ui.progress import Mode

if TYPE_CHECKING:
    from fyc.errors import EndpointError
    from fyc.plan.agents.coordinator import Outcome
    from fyc.plan.executor import Executor
    from fyc.plan.follow import Follower
    from fyc.plan.job import Job
    from fyc.plan.planning import Request

TrialsOption = Annotated[int, typer.Option("--trials", min=1, help="Layouts to try, the customary one included.")]
FixOption = Annotated[
    list[str] | None,
    typer.Option("--fix", metavar="NAME=VALUES", help="Fix or bound a dimension: tp=8, pp=1-4, recompute=none,full."),
]
ExecutorOption = Annotated[
    str,
    typer.Option("--executor", help="What tries them: `model` is the cost model, `local` and `slurm` run training."),
]
StepsOption = Annotated[
    int | None, typer.Option("--trial-steps", min=5, help="Steps of a trial that runs training; 8 if not given.")
]
TimeoutOption = Annotated[
    float | None, typer.Option("--trial-timeout", min=1, help="Seconds of such a trial; 600 if not given.")
]
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
    trial_steps: StepsOption = None,
    trial_timeout: TimeoutOption = None,
    reasoner: ReasonerOption = "auto",
    calibration: Annotated[Path | None, typer.Option("--calibration", help="What `fyc plan calibrate` wrote.")] = None,
    offline: Offline = False,
    progress: Progress = "auto",
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
    from fyc.plan.planning import Request, TriedBy
    from fyc.plan.read_model import read_config

    tried_by = TriedBy(executor=executor, steps=trial_steps, timeout_s=trial_timeout)

    def read() -> Request:
        job = make_job(model, cluster, seq, global_batch, backend, precision, offline=offline)
        return Request(job, parse_limits(fix or (), job), read_correction(calibration), trials, tried_by)

    with _resumable(output):
        config = read_config(model, offline=offline)
        made = _make(read, output, config, reasoner, progress, json)
        _finish(made, output, config, json)
    if made.failure is not None:
        raise made.failure


def resume_command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a plan.")],
    trials: TrialsOption = 20,
    reasoner: ReasonerOption = "auto",
    progress: Progress = "auto",
    json: Json = False,
) -> None:
    """Go on with a plan that was interrupted, or give it more trials; what tries them stays the same."""
    from fyc.plan.planning import read_request
    from fyc.plan.read_model import read_config

    with _resumable(folder):
        copies = [folder / "config.json", *sorted(folder.glob("trials/*/config.json"))]
        config = next((read_config(path) for path in copies if path.is_file()), None)
        made = _make(lambda: read_request(folder, trials), folder, config, reasoner, progress, json)
        _finish(made, folder, config, json)
    if made.failure is not None:
        raise made.failure


def _finish(made: _Made, folder: Path, config: dict[str, Any] | None, json: bool) -> None:
    """Write the launch files and, with `--json`, print the plan that names them; an error would be the one document."""
    from fyc.cli.runtime import print_json

    files: list[Path] = []
    with _files_named(folder):
        if config is not None:
            files = _launch(made.request.job, folder, config, quiet=json)
    if made.summary is not None:
        print_json(made.summary | {"launch_files": [str(path) for path in files]})


def _launch(job: Job, folder: Path, config: dict[str, Any], *, quiet: bool) -> list[Path]:
    """Write the launch script of the plan in a folder, where the backend has a launcher; returns what was written."""
    from json import dumps, loads

    from fyc.artifact.files import write_text
    from fyc.plan.launch import Target, write_launch
    from fyc.plan.layout import Layout
    from fyc.plan.registry import launchers
    from fyc.plugins import load_plugins

    found = next((one for one in launchers(load_plugins()).values() if one.stack == job.stack.name), None)
    best = loads((folder / "plan.json").read_text(encoding="utf-8"))["best"]
    if best is None or found is None:
        if found is None and not quiet:
            typer.echo(f"there is no launcher for {job.stack.name} yet: the layout is in {folder}/plan.json")
        return []
    write_text(folder / "config.json", dumps(config, indent=1) + "\n")  # for `fyc plan resume`
    written = write_launch(found, Target(job, Layout.model_validate(best["layout"]), config), folder)
    if not quiet:
        typer.echo(f"{folder}/launch.sh starts it, {folder}/launch.sbatch under Slurm")
        others = [path.name for path in written if path.name not in ("launch.sh", "launch.sbatch")]
        if others:
            typer.echo(f"beside them: {', '.join(others)}")
    return written


@dataclass(frozen=True)
class _Made:
    """A plan that was made.

    Attributes:
        request: what was asked for.
        failure: the error to end with, where a language model decided nothing.
        summary: what `--json` prints, if it was given and nothing failed.
    """

    request: Request
    failure: EndpointError | None
    summary: dict[str, Any] | None = None


@contextmanager
def _files_named(folder: Path) -> Iterator[None]:
    """Around the writing of launch files: the report names those that are there, also where it fails."""
    from fyc.plan.agents.files import name_files

    try:
        yield
    finally:
        name_files(folder)


@contextmanager
def _resumable(folder: Path) -> Iterator[None]:
    """Around the work: Ctrl-C says how to go on."""
    try:
        yield
    except (KeyboardInterrupt, Interrupted) as error:
        advice = "repeat the command"
        if (folder / "pool.jsonl").is_file():
            advice = f"every trial so far is kept; go on with: {shlex.join(['fyc', 'plan', 'resume', str(folder)])}"
        raise Interrupted("FYC-I01", "interrupted", next=advice) from error


def _prepared(request: Request, folder: Path, config: dict[str, Any] | None) -> Executor:
    """The executor that is asked for, ready to try layouts of the job."""
    from fyc.errors import PlanError
    from fyc.plan.executor import RunningExecutor, Trials
    from fyc.plan.registry import executor, launchers
    from fyc.plugins import load_plugins

    host, asked = load_plugins(), request.tried_by
    found = executor(host, asked.executor)
    lengths = {"steps": asked.steps, "timeout_s": asked.timeout_s}
    given = {name: value for name, value in lengths.items() if value is not None}
    if not isinstance(found, RunningExecutor):
        if given:
            raise typer.BadParameter(
                f"--executor {found.name} runs no training: it has no --trial-steps or --trial-timeout"
            )
        return found
    if config is None:
        what, advice = "the folder does not hold the model's configuration", "give the command of the plan again"
        raise PlanError("FYC-L12", what, where=str(folder), next=advice)
    launcher = next((one for one in launchers(host).values() if one.stack == request.job.stack.name), None)
    return found.prepare(request.job, Trials(folder.absolute(), config, launcher, **given))  # type: ignore[arg-type]


def _make(
    read: Callable[[], Request], folder: Path, config: dict[str, Any] | None, reasoner: str, mode: Mode, json: bool
) -> _Made:
    """Make the plan, show how it goes, and print what came of it."""
    from fyc.cli.plan_reasoner import Followed, make_reasoner
    from fyc.plan.planning import make_plan
    from fyc.ui.live import PlanView
    from fyc.ui.progress import progress

    started = time.monotonic()
    _reach(folder)
    with progress(mode, terminal=PlanView) as show:
        show(Event("note", {"message": "reading what is asked for"}))
        request = read()
        tries = _prepared(request, folder, config)
        chosen, close = make_reasoner(reasoner, folder)
        follower = _follower(show, request.trials, folder)
        show(Event("plan", _announced(request, folder) | {"done": follower.count}))
        show(Event("note", {"message": "looking at every legal layout"}))
        followed = Followed(follower)
        try:
            outcome = make_plan(request, tries, chosen, folder, followed)
        finally:
            close()
        failure = followed.failure(reasoner, folder)
        if failure is None and followed.note():
            show(Event("warning", {"message": followed.note().removeprefix("warning: "), "where": ""}))
        show(Event("done", {"output": str(folder), "seconds": time.monotonic() - started, **_peak()}))
    if not json:
        _print_outcome(outcome, folder)
    if not json or failure is not None:
        return _Made(request, failure)
    counts = {"decisions": followed.decisions, "failed_calls": followed.failed}
    return _Made(request, failure, _summary(outcome, folder) | counts)


def _announced(request: Request, folder: Path) -> dict[str, Any]:
    """The data of the event `plan`."""
    job = request.job
    return {"model": job.model.name, "gpus": job.cluster.gpus, "gpu": job.cluster.gpu.name, "backend": job.stack.name,
            "trials": request.trials, "output": str(folder)}  # fmt: skip


def _reach(folder: Path) -> None:
    """See early that a folder can be looked into, before minutes are spent on what goes there."""
    from fyc.errors import PlanError

    try:
        (folder / "job.json").exists()
    except OSError as error:
        why, where = error.strerror or "", str(folder)[:300]
        raise PlanError(
            "FYC-L18", "the plan cannot be written", where=where, why=why, next="take another -o"
        ) from error


def _follower(show: EventSink, budget: int, folder: Path) -> Follower:
    """Shows messages; those that an earlier run left are known."""
    from fyc.plan.follow import Follower
    from fyc.plan.pool import replay

    before = replay(folder / "pool.jsonl") if (folder / "pool.jsonl").is_file() else ()
    return Follower(show, budget, before)


def _peak() -> dict[str, int]:
    import resource

    return {"peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}


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
    plural = "trial" if outcome.trials == 1 else "trials"
    typer.echo(f"{outcome.trials} {plural}; {folder}/report.md says why, {folder}/plan.json holds the figures")

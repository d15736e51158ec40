"""`fyc plan estimate | validate | gpus`: the cost model on the command line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fyc.cli.options import Json, Offline

if TYPE_CHECKING:
    from fyc.plan.estimate import Estimate
    from fyc.plan.job import Job
    from fyc.plan.validate import Validation

ModelOption = Annotated[str, typer.Option("--model", help="config.json, a model folder, or a hub id.")]
ClusterOption = Annotated[Path, typer.Option("--cluster", help="YAML file: gpu, nodes, gpus_per_node, network_gbs.")]
SeqOption = Annotated[int, typer.Option("--seq", min=1, help="Tokens of one sequence.")]
BatchOption = Annotated[int, typer.Option("--global-batch", min=1, help="Sequences of one optimizer step.")]
BackendOption = Annotated[str, typer.Option("--backend", help="torchtitan, megatron, deepspeed or fsdp2.")]
PrecisionOption = Annotated[str, typer.Option("--precision", help="bf16, fp16, fp8, mxfp8 or nvfp4.")]
CalibrationOption = Annotated[Path | None, typer.Option("--calibration", help="What `fyc plan calibrate` wrote.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands to `fyc plan`."""
    app.command("estimate")(estimate_command)
    app.command("validate")(validate_command)
    app.command("calibrate")(calibrate_command)
    app.command("gpus")(gpus_command)


def estimate_command(
    model: ModelOption,
    cluster: ClusterOption,
    seq: SeqOption,
    global_batch: BatchOption,
    backend: BackendOption = "torchtitan",
    precision: PrecisionOption = "bf16",
    tp: Annotated[int, typer.Option(min=1, help="Tensor parallel degree.")] = 1,
    pp: Annotated[int, typer.Option(min=1, help="Pipeline stages.")] = 1,
    vpp: Annotated[int, typer.Option(min=1, help="Model chunks of a stage (interleaving).")] = 1,
    cp: Annotated[int, typer.Option(min=1, help="Context parallel degree.")] = 1,
    ep: Annotated[int, typer.Option(min=1, help="Expert parallel degree.")] = 1,
    micro_batch: Annotated[int, typer.Option("--micro-batch", min=1, help="Sequences of a micro-batch.")] = 1,
    recompute: Annotated[str, typer.Option(help="none, selective or full.")] = "none",
    zero: Annotated[int, typer.Option(min=0, max=3, help="ZeRO stage; 3 is FSDP.")] = 3,
    shard_size: Annotated[int, typer.Option("--shard-size", min=0, help="Ranks that states are sharded over.")] = 0,
    calibration: CalibrationOption = None,
    offline: Offline = False,
    json: Json = False,
) -> None:
    """Time and memory of one configuration.

    Data parallelism takes the GPUs that the other degrees leave.
    """
    from fyc.cli.runtime import print_json
    from fyc.plan.estimate import estimate
    from fyc.plan.inputs import make_job, make_layout, read_correction
    from fyc.plan.layout import Layouts
    from fyc.plan.legal import check

    job = make_job(model, cluster, seq, global_batch, backend, precision, offline=offline)
    degrees = {"tp": tp, "pp": pp, "vpp": vpp, "cp": cp, "ep": ep, "micro_batch": micro_batch}
    layout = make_layout(job, degrees | {"recompute": recompute, "zero": zero, "shard_size": shard_size})
    check(job, layout)
    one = estimate(job, Layouts.of([layout]), read_correction(calibration)).one(0)
    if json:
        print_json(one.model_dump())
    else:
        _print_estimate(job, one)


def validate_command(
    rows: Annotated[Path, typer.Argument(metavar="ROWS.csv", help="Measured rows.")],
    clusters: Annotated[
        Path | None, typer.Option("--clusters", help="YAML with the network and software of each source.")
    ] = None,
    calibrated: Annotated[
        int, typer.Option("--calibrated", min=0, help="Calibrate each source on so many rows; 0 calibrates nothing.")
    ] = 0,
    json: Json = False,
) -> None:
    """Judge the cost model on measured rows."""
    from fyc.cli.runtime import print_json
    from fyc.plan.rows import read_sources
    from fyc.plan.validate import validate

    result = validate(rows, read_sources(clusters), calibration_rows=calibrated)
    if json:
        print_json(result.model_dump())
    else:
        _print_validation(result)


def calibrate_command(
    logs: Annotated[list[Path], typer.Option("--log", help="Log of a training run; may be given several times.")],
    plans: Annotated[
        list[Path], typer.Option("--plan", help="The plan.json that the run of the same place among --log followed.")
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="File to write.")] = Path("calibration.json"),
    json: Json = False,
) -> None:
    """Fit the cost model to runs of your own cluster."""
    from fyc.cli.runtime import print_json
    from fyc.plan.calibrate import calibrate
    from fyc.plan.inputs import observe, write_correction
    from fyc.ui.tables import show_table

    if len(logs) != len(plans):
        raise typer.BadParameter(
            f"{len(logs)} --log, but {len(plans)} --plan: each log needs the plan that it followed"
        )
    observations = [observe(log, plan) for log, plan in zip(logs, plans, strict=True)]
    source = ", ".join(str(log) for log in logs)
    correction = calibrate(observations, source=source, check=len(observations) > 2)
    write_correction(correction, output)
    if json:
        print_json(correction.model_dump())
        return
    factors = correction.model_dump(exclude={"source", "memory_gib"}).items()
    rows = [*((name, f"{value:.3f}") for name, value in factors), ("constant", f"{correction.memory_gib:+.2f} GiB")]
    show_table(("part", "factor on what is predicted"), rows)
    typer.echo(f"{output}: give it to `fyc plan` and `fyc plan estimate` with --calibration")


def gpus_command(
    name: Annotated[str | None, typer.Argument(help="One type; without it, all are listed.")] = None,
    json: Json = False,
) -> None:
    """GPU types and the source of their constants."""
    from fyc.cli.runtime import print_json
    from fyc.plan.hardware import gpu, gpu_names
    from fyc.ui.tables import show_table

    if name is None:
        if json:
            print_json(gpu_names())
        else:
            typer.echo("\n".join(gpu_names()))
        return
    found = gpu(name).model_dump(exclude_none=True)
    if json:
        print_json(found)
        return
    rows = [(key, f"{value['value']:g}", str(value["source"])) for key, value in _flat(found)]
    show_table(("constant", "value", "source"), rows)


def _flat(data: dict[str, Any], prefix: str = "") -> list[tuple[str, dict[str, Any]]]:
    found: list[tuple[str, dict[str, Any]]] = []
    for key, value in data.items():
        if isinstance(value, dict) and "source" in value:
            found.append((prefix + key, value))
        elif isinstance(value, dict):
            found += _flat(value, f"{prefix}{key}.")
    return found


def _print_estimate(job: Job, one: Estimate) -> None:
    from fyc.ui.tables import show_pairs, show_table

    verdict = "fits" if one.fits else "does not fit"
    limit = job.cluster.gpu.memory_gib.value
    pairs = {
        "step": f"{one.iteration_s:.2f} s, in 8 of 10 cases {one.iteration_low_s:.2f} to {one.iteration_high_s:.2f} s",
        "throughput": f"{one.tokens_per_s_per_gpu:,.0f} tokens/s on a GPU",
        "model FLOPs": f"{one.tflops_per_gpu:.0f} TFLOP/s on a GPU, {one.mfu:.1%} of the 16-bit peak",
        "memory": f"{one.peak_memory_gib:.1f} of {limit:.1f} GiB: {verdict}",
        "chance": f"the GPU holds it with a probability of {one.fit_probability:.0%}",
    }
    show_pairs(pairs, title=f"{job.model.name}: {one.layout}")
    times = sorted(((v, k) for k, v in one.time_s.items() if v > 0.001 * one.iteration_s), reverse=True)
    sizes = sorted(((v, k) for k, v in one.memory_gib.items() if v > 0.01), reverse=True)
    typer.echo()
    show_table(("time", "s", "share"), [(k, f"{v:.3f}", f"{v / one.iteration_s:.1%}") for v, k in times])
    typer.echo()
    show_table(("memory", "GiB"), [(k, f"{v:.1f}") for v, k in sizes])


def _print_validation(result: Validation) -> None:
    from fyc.ui.tables import show_table

    columns = ("set", "", "rows", "error", "median", "bias", "rank", "in 80 %", "constant MFU")
    show_table(
        columns,
        [
            (
                score.name, score.kind, score.rows, f"{score.mape:.1%}", f"{score.median:.1%}", f"{score.bias:+.1%}",
                _share(score.spearman, "{:.2f}"), _share(score.inside, "{:.0%}"), _share(score.constant_mfu, "{:.1%}"),
            )
            for score in result.scores
        ],
    )  # fmt: skip
    if result.regrets:
        typer.echo()
        show_table(
            ("choosing by prediction", "groups", "best one chosen", "mean loss", "worst"),
            [(r.name, r.groups, r.exact, f"{r.mean:.2%}", f"{r.worst:.1%}") for r in result.regrets],
        )
    typer.echo(f"\n{result.predicted} of {result.rows} rows predicted")
    for reason, count in result.skipped.items():
        typer.echo(f"  {count} not: {reason}")
    typer.echo(f"{result.oom_called_feasible} of {result.oom_rows} rows that ran out of memory are called feasible")


def _share(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)

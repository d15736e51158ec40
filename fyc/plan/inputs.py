"""What the user gives, made into a job and a layout, with errors that name what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from fyc.errors import PlanError
from fyc.plan.calibrate import Observation
from fyc.plan.cluster import read_cluster
from fyc.plan.cost.memory import memory_use
from fyc.plan.cost.rates import Correction
from fyc.plan.job import Job, Precision
from fyc.plan.layout import Layout, Layouts
from fyc.plan.messages import describe
from fyc.plan.stack import stack
from fyc.ui.text import did_you_mean

BACKENDS = {"torchtitan": "torchtitan", "megatron": "megatron-core", "deepspeed": "deepspeed", "fsdp2": "fsdp2"}
MOST_TOKENS = 100_000_000


def make_job(
    model: str, cluster: Path, sequence: int, global_batch: int, backend: str, precision: str, *, offline: bool = False
) -> Job:
    """A job from the options of the command line.

    Raises:
        PlanError: FYC-L02, L03, L04, L06, L09, L16 or L17 with the option that is wrong.
    """
    from fyc.plan.read_model import read_model

    if backend not in BACKENDS:
        raise PlanError(
            "FYC-L03", f"there is no backend `{backend}`", where="--backend", next=did_you_mean(backend, BACKENDS)
        )
    if precision not in get_args(Precision):
        next_ = did_you_mean(precision, get_args(Precision))
        raise PlanError("FYC-L09", f"there is no precision `{precision}`", where="--precision", next=next_)
    found = read_cluster(cluster)
    lowest = {"fp8": found.gpu.peak_8, "mxfp8": found.gpu.peak_8, "nvfp4": found.gpu.peak_4}
    if precision in lowest and lowest[precision] is None:
        raise PlanError("FYC-L09", f"{found.gpu.name} has no {precision}", where="--precision", next="take bf16")
    shape = read_model(model, offline=offline)
    if shape.positions and sequence > shape.positions:
        raise PlanError(
            "FYC-L17", f"a sequence of {sequence} tokens is longer than the model has positions", where="--seq",
            why=f"{shape.name} learns a vector for each of {shape.positions} positions",
            next=f"take --seq {shape.positions} or less, or raise the number in config.json to train from scratch",
        )  # fmt: skip
    if sequence > MOST_TOKENS or global_batch > MOST_TOKENS:
        name = "--seq" if sequence > MOST_TOKENS else "--global-batch"
        raise PlanError("FYC-L16", f"`{name}` is more than {MOST_TOKENS}", where=name, next="correct the value")
    return Job(
        model=shape,
        cluster=found,
        stack=stack(BACKENDS[backend]),
        sequence=sequence,
        global_batch=global_batch,
        precision=precision,
    )


def make_layout(job: Job, values: dict[str, Any]) -> Layout:
    """A layout whose data parallel degree is what the other degrees leave.

    Raises:
        PlanError: FYC-L07, the degrees do not divide the GPUs, or a value is not allowed.
    """
    used = values["tp"] * values["pp"] * values["cp"]
    if job.cluster.gpus % used:
        why = f"tp * pp * cp is {used}, the cluster has {job.cluster.gpus} GPUs"
        raise PlanError("FYC-L07", "the layout is not legal", why=why, next="take degrees that divide the GPUs")
    try:
        return Layout(**values, dp=job.cluster.gpus // used, sequence_parallel=values["tp"] > 1)
    except ValidationError as error:
        item = error.errors()[0]
        name = "--" + "-".join(str(part) for part in item["loc"]).replace("_", "-")
        raise PlanError("FYC-L07", f"the layout is not legal: {item['msg']}", where=name) from error


def observe(log: Path, plan: Path) -> Observation:
    """What a training log measured of the layout of a plan.

    Raises:
        PlanError: FYC-L01 the log, FYC-L12 the plan; FYC-L10 the log holds no step after the first three.
    """
    from fyc.plan.diagnosis import parse_progress

    try:
        data = json.loads(plan.read_text(encoding="utf-8"))
        job = Job.model_validate(data["job"])
        layout = Layout.model_validate(data["best"]["layout"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        why = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise PlanError("FYC-L12", "this is no plan", where=str(plan), why=why, next="`fyc plan` writes one") from error
    progress = parse_progress(log)
    if progress is None or progress.measured == 0:
        why = "no throughput line after the first three steps" if progress else "no throughput lines"
        raise PlanError(
            "FYC-L10", "nothing can be calibrated", where=str(log), why=why, next="let the run go on longer"
        )
    seconds = progress.step_s
    if seconds is None and progress.tokens_per_s_per_gpu:
        seconds = job.tokens / progress.tokens_per_s_per_gpu / layout.world_size
    memory = progress.peak_reserved_gib
    if memory is not None:
        use = memory_use(job, Layouts.of([layout]))
        memory += float((use.device - use.reserved)[0])
    return Observation(job, layout, seconds=seconds, memory_gib=memory)


def write_correction(correction: Correction, path: Path) -> None:
    """Write a calibration, by rename."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(correction.model_dump_json(indent=1) + "\n", encoding="utf-8")
    temporary.replace(path)


def read_correction(path: Path | None) -> Correction | None:
    """A calibration from its file.

    Raises:
        PlanError: FYC-L10, the file is missing or wrong.
    """
    if path is None:
        return None
    try:
        return Correction.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        why = describe(list(error.errors())) if isinstance(error, ValidationError) else str(error).splitlines()[0]
        next_ = "`fyc plan calibrate` writes such a file"
        raise PlanError("FYC-L10", "the calibration cannot be read", where=str(path), why=why, next=next_) from error

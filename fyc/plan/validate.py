"""Judging the cost model on measured rows: error, bias, rank correlation and regret, by source."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from fyc.plan.calibrate import PRIOR, Observation, calibrate
from fyc.plan.cost.rates import Correction, Rates
from fyc.plan.cost.step import step_time
from fyc.plan.estimate import Estimate, Estimates, estimate
from fyc.plan.layout import Floats, Layout, Layouts
from fyc.plan.rows import Case, Reason, Row, Source, case_of, read_rows

MIN_CALIBRATION = 3
MIN_GROUP = 4  # configurations that a group needs so that choosing among them says something


class Prediction(BaseModel):
    """One row beside its prediction, both in the row's own metric."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    line: int = Field(description="Line in the file, the header being 1.")
    source: str
    model: str
    gpus: int
    gpu_type: str
    low_precision: bool = Field(description="Whether products run in fp8 or less.")
    metric: str
    measured: float
    predicted: float = Field(description="In the unit of the metric; for `oom` the peak memory over the GPU's.")
    error: float = Field(description="predicted / measured - 1; for times and throughput, of the step time.")
    inside: bool | None = Field(None, description="Whether a measured time lies in the 80 % interval.")
    fits: bool = Field(description="Whether the layout is called feasible.")
    assumed: tuple[str, ...] = Field(description="What the row leaves open and the prediction assumed.")
    calibrated: bool = Field(description="Whether the prediction used a calibration on other rows of the source.")


class Score(BaseModel):
    """Errors over a set of rows of one kind."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    source: str | None = Field(description="Of the rows, as the file has it; None for all together.")
    kind: str = Field(description="time or memory.")
    rows: int
    mape: float = Field(description="Mean absolute error, as a share.")
    median: float = Field(description="Median absolute error.")
    bias: float = Field(description="Mean error.")
    spearman: float | None = Field(None, description="Rank correlation of predicted and measured step times.")
    inside: float | None = Field(None, description="Share of measured times in the 80 % interval.")
    constant_mfu: float | None = Field(None, description="Mean absolute error of the best single MFU for these rows.")


class Regret(BaseModel):
    """What choosing by prediction costs, over groups of configurations of one job."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    groups: int
    exact: int = Field(description="Groups in which the predicted best is the measured best.")
    mean: float = Field(description="Mean of time of the choice over the best time, less 1.")
    worst: float


class Validation(BaseModel):
    """All that `fyc plan validate` found."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rows: int
    predicted: int
    skipped: dict[str, int] = Field(description="Rows that cannot be predicted, by reason.")
    skipped_lines: dict[str, list[int]] = Field(description="Their lines.")
    scores: list[Score]
    regrets: list[Regret]
    oom_rows: int = Field(description="Rows that ran out of memory.")
    oom_called_feasible: int = Field(description="Those of them that the model calls feasible.")
    predictions: list[Prediction]


def validate(path: Path, sources: Sequence[Source], *, calibration_rows: int = 0) -> Validation:
    """Predict every row of a file.

    Args:
        path: rows in the format of `fyc.plan.rows.COLUMNS`.
        sources: published facts about the sources.
        calibration_rows: calibrate each source on so many of its rows, which are then left out; 0 is uncalibrated.

    Raises:
        PlanError: FYC-L05, the file cannot be read.
    """
    rows = read_rows(path)
    cases, skipped = split_cases(rows, sources)
    corrections, used = _corrections(cases, calibration_rows) if calibration_rows else ({}, [])
    kept = [case for case in cases if not any(_same_step(case, other) for other in used)]
    estimates = [_estimate(case, corrections.get(calibration_group(case))) for case in kept]
    pairs = list(zip(kept, estimates, strict=True))
    predictions = [_prediction(case, e, bool(calibration_rows)) for case, e in pairs]
    oom = [p for p in predictions if p.metric == "oom"]
    return Validation(
        rows=len(rows),
        predicted=len(predictions),
        skipped={reason: len(lines) for reason, lines in skipped.items()},
        skipped_lines=skipped,
        scores=_scores(pairs, predictions),
        regrets=_regrets(pairs),
        oom_rows=len(oom),
        oom_called_feasible=sum(p.fits for p in oom),
        predictions=predictions,
    )


def split_cases(rows: Iterable[Row], sources: Sequence[Source]) -> tuple[list[Case], dict[str, list[int]]]:
    """The rows that can be predicted, and the lines of the others by reason."""
    cases: list[Case] = []
    skipped: dict[str, list[int]] = {}
    for row in rows:
        case: Case | Reason = case_of(row, sources)
        if isinstance(case, Case):
            cases.append(case)
        else:
            skipped.setdefault(case, []).append(row.line)
    return cases, skipped


def calibration_group(case: Case) -> tuple[str, str]:
    """Rows that share one calibration: of one GPU type and one paper, or one source where no paper is named."""
    paper = re.search(r"arXiv \d+\.\d+", case.row.source)
    return paper[0] if paper else case.row.source, case.row.gpu_type


def choose_rows(cases: Sequence[Case], count: int) -> list[int]:
    """Indices of the rows to calibrate on: typical of all (greedy k-medoids of their steps' parts)."""
    if count == 0:
        return []
    parts = np.array([_sensitivity(case) for case in cases])
    distance = ((parts[:, None] - parts[None]) ** 2).sum(axis=2)
    chosen = [int(np.argmin(distance.sum(axis=0)))]
    while len(chosen) < min(count, len(cases)):
        nearest = distance[:, chosen].min(axis=1)
        gain = np.maximum(nearest[:, None] - distance, 0).sum(axis=0)
        gain[chosen] = -1.0
        chosen.append(int(np.argmax(gain)))
    return chosen


def _sensitivity(case: Case) -> Floats:
    """Share of each factor's part in the predicted step."""
    time = step_time(
        case.job, Layouts.of([case.layout]), Rates.of(case.job.cluster, case.job.stack, case.job.precision)
    )
    parts = {
        "product": ("product", "attention", "head"),
        "streaming": ("streaming", "optimizer"),
        "tensor": ("tensor", "context", "expert"),
        "data": ("data", "boundary", "shard"),
        "host": ("host",),
    }
    return np.array([float(time.share(*parts[name])[0]) for name in PRIOR])


def _same_step(case: Case, used: Case) -> bool:
    """Whether a row is one that was used, or says the same of the same step in another unit."""
    if case.row.line == used.row.line:
        return True
    both_timed = case.seconds is not None and used.seconds is not None and case.row.metric != used.row.metric
    same = calibration_group(case) == calibration_group(used) and case.layout == used.layout
    return both_timed and same and job_key(case)[1:] == job_key(used)[1:]


def _corrections(cases: Sequence[Case], count: int) -> tuple[dict[tuple[str, str], Correction], list[Case]]:
    """A calibration for each group that has rows to spare, and the rows that were used."""
    corrections: dict[tuple[str, str], Correction] = {}
    used: list[Case] = []
    for group in dict.fromkeys(calibration_group(case) for case in cases):
        members = [case for case in cases if calibration_group(case) == group]
        metrics = Counter(case.row.metric for case in members if case.seconds is not None)
        timed = [case for case in members if metrics and case.row.metric == metrics.most_common(1)[0][0]]
        weighed = [case for case in members if case.row.metric in ("peak_mem_gb", "peak_mem_gib")]
        chosen = [timed[i] for i in choose_rows(timed, _affordable(timed, count))]
        chosen += [weighed[i] for i in choose_rows(weighed, _affordable(weighed, count))]
        if chosen:
            corrections[group] = calibrate([_observation(case) for case in chosen], source=group[0])
            used += chosen
    return corrections, used


def _affordable(cases: Sequence[Case], count: int) -> int:
    """How many rows to calibrate on: not fewer than three, and as many are left to judge it on."""
    affordable = min(count, len(cases) - MIN_CALIBRATION)
    return affordable if affordable >= MIN_CALIBRATION else 0


def _observation(case: Case) -> Observation:
    row = case.row
    if row.metric == "peak_mem_gb":
        return Observation(case.job, case.layout, memory_gib=row.value)
    if row.metric == "peak_mem_gib":
        memory = _estimate(case, None).memory
        return Observation(case.job, case.layout, memory_gib=row.value + float((memory.device - memory.reserved)[0]))
    return Observation(case.job, case.layout, seconds=case.seconds)


def _estimate(case: Case, correction: Correction | None) -> Estimates:
    return estimate(case.job, Layouts.of([case.layout]), correction)


def _prediction(case: Case, estimates: Estimates, calibrated: bool) -> Prediction:
    row, one = case.row, estimates.one(0)
    predicted, error = _in_metric(case, one)
    inside = None if case.seconds is None else one.iteration_low_s <= case.seconds <= one.iteration_high_s
    return Prediction(
        line=row.line, source=row.source, model=row.model, gpus=case.layout.world_size, gpu_type=row.gpu_type,
        low_precision=low_precision(case),
        metric=row.metric, measured=row.value, predicted=predicted, error=error, inside=inside, fits=one.fits,
        assumed=case.assumed, calibrated=calibrated,
    )  # fmt: skip


def _in_metric(case: Case, one: Estimate) -> tuple[float, float]:
    """The prediction in the row's metric, and its error (of the step time where the metric is one of time)."""
    value = case.row.value
    if case.seconds is not None:
        ratio = one.iteration_s / case.seconds
        return (value * ratio if case.row.metric == "iter_s" else value / ratio), ratio - 1
    memory = {
        "peak_mem_gb": one.peak_memory_gib,
        "peak_mem_gib": one.reserved_memory_gib,
        "act_gib": one.memory_gib["activations"],
        "weights_opt_gib": sum(one.memory_gib[name] for name in ("weights", "gradients", "optimizer")),
        "oom": one.peak_memory_gib / case.job.cluster.gpu.memory_gib.value,
    }
    predicted = memory[case.row.metric]
    return predicted, predicted / value - 1


def _scores(pairs: Sequence[tuple[Case, Estimates]], predictions: Sequence[Prediction]) -> list[Score]:
    """A score for each source, GPU type and precision class, times and memory apart, then over everything."""
    sets: dict[tuple[str, str], list[int]] = {}
    for i, (case, _) in enumerate(pairs):
        kind = "time" if case.seconds is not None else "memory"
        if case.row.metric != "oom":
            sets.setdefault((score_name(case), kind), []).append(i)
            sets.setdefault(("all", kind), []).append(i)
    return [
        _score(name, kind, [pairs[i] for i in at], [predictions[i] for i in at]) for (name, kind), at in sets.items()
    ]


def score_name(case: Case) -> str:
    """The set a row is counted in: repository and file of the source, GPU type, 16-bit or lower precision."""
    low = " fp8" if low_precision(case) else ""
    return f"{short_source(case.row.source)} {case.row.gpu_type}{low}"


def low_precision(case: Case) -> bool:
    """Whether the row's products run in fp8 or less."""
    return case.job.precision not in ("bf16", "fp16")


def short_source(source: str) -> str:
    """`owner/repository:folder/file.ext@commit (..)` as `repository/file`."""
    place = source.split("@", maxsplit=1)[0].split(" ", maxsplit=1)[0]
    repository, _, path = place.partition(":")
    return f"{repository.split('/')[-1]}/{Path(path).stem}" if path else place


def _score(name: str, kind: str, pairs: Sequence[tuple[Case, Estimates]], predictions: Sequence[Prediction]) -> Score:
    errors = np.array([p.error for p in predictions])
    extra: dict[str, float | None] = {}
    if kind == "time":
        measured = np.array([case.seconds for case, _ in pairs], dtype=float)
        predicted = np.array([float(e.seconds[0]) for _, e in pairs])
        inside = [p.inside for p in predictions if p.inside is not None]
        extra = {
            "spearman": _spearman(predicted, measured),
            "inside": sum(inside) / len(inside),
            "constant_mfu": _constant_mfu([case for case, _ in pairs], measured),
        }
    absolute = np.abs(errors)
    return Score(
        name=name, source=None if name == "all" else pairs[0][0].row.source, kind=kind, rows=len(errors),
        mape=float(absolute.mean()), median=float(np.median(absolute)),
        bias=float(errors.mean()), **extra,
    )  # fmt: skip


def _spearman(a: Floats, b: Floats) -> float | None:
    if len(a) < 4:
        return None
    ranks = [np.argsort(np.argsort(values)).astype(float) for values in (a, b)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _constant_mfu(cases: Sequence[Case], measured: Floats) -> float:
    """Error of predicting every row with the median MFU of these same rows."""
    ideal = np.array([_ideal_seconds(case) for case in cases])
    predicted = ideal / np.median(ideal / measured)
    return float(np.abs(predicted / measured - 1).mean())


def _ideal_seconds(case: Case) -> float:
    job = case.job
    flops = job.model.flops_per_token(job.sequence) * job.tokens
    return flops / (case.layout.world_size * job.cluster.gpu.peak_16.value * 1e12)


def job_key(case: Case) -> tuple[object, ...]:
    """What makes two rows configurations of the same job."""
    job, row = case.job, case.row
    shape = (job.model.hidden, job.model.layers, job.model.heads, job.model.kv_heads)
    return (row.source, shape, row.gpu_type, case.layout.world_size, job.sequence, job.global_batch, job.precision)


def _regrets(pairs: Sequence[tuple[Case, Estimates]]) -> list[Regret]:
    groups: dict[tuple[object, ...], list[tuple[Case, Estimates]]] = {}
    for case, e in pairs:
        if case.seconds is not None:
            groups.setdefault(job_key(case), []).append((case, e))
    found: dict[str, list[float]] = {}
    for key, members in groups.items():
        if len({case.layout.key() for case, _ in members}) >= MIN_GROUP:
            predicted = [(case, float(estimates.seconds[0])) for case, estimates in members]
            found.setdefault(short_source(str(key[0])), []).append(choice_regret(predicted))
    return [
        Regret(name=name, groups=len(v), exact=sum(r == 0 for r in v), mean=float(np.mean(v)), worst=max(v))
        for name, v in found.items()
    ]


def choice_regret(members: Sequence[tuple[Case, float]]) -> float:
    """Time of the layout with the lowest predicted time over that of the fastest, less 1.

    Args:
        members: measured steps of one job with their predicted seconds; a layout measured twice counts by its median.
    """
    times: dict[Layout, list[float]] = {}
    for case, _ in members:
        times.setdefault(case.layout, []).append(case.seconds or math.inf)
    measured = {layout: median(values) for layout, values in times.items()}
    choice = min(members, key=lambda member: member[1])[0].layout
    return measured[choice] / min(measured.values()) - 1

"""Measured rows: the CSV of published throughput, step time and memory, and the job and layout behind each row."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from fyc.errors import PlanError
from fyc.plan.cluster import Cluster
from fyc.plan.job import Job, Precision
from fyc.plan.known_models import is_gated, known_model
from fyc.plan.layout import Layout, Recompute
from fyc.plan.model import ModelShape
from fyc.plan.stack import stack

COLUMNS = (
    "source", "model", "params_B", "hidden", "layers", "heads", "kv_heads", "ffn", "vocab", "seq", "gpus", "gpu_type",
    "tp", "pp", "dp", "cp", "ep", "vpp", "mbs", "gbs", "precision", "recompute", "zero_or_fsdp", "metric", "value",
    "notes",
)  # fmt: skip
Reason = Literal[
    "architecture not stated",
    "batch or sequence not stated",
    "GPU type unknown",
    "degrees not stated or inconsistent",
    "not full training (LoRA)",
    "metric not predicted",
]
GPU_TYPES = {
    "a100": "a100-80gb",
    "a100_80gb": "a100-80gb",
    "a100_40gb": "a100-40gb",
    "h100": "h100-sxm",
    "h100_80gb": "h100-sxm",
    "h100_sxm": "h100-sxm",
    "h100_pcie": "h100-pcie",
    "h100_96gb_hbm2e_500w": "h100-hbm2e",
    "h100_94gb_hbm2e": "h100-hbm2e",
    "h200": "h200",
    "b200": "b200",
    "b300": "b300",
    "gb200": "gb200",
    "gb300": "gb300",
}
TIME_METRICS = ("iter_s", "tokens_s_gpu", "tflops_per_gpu", "mfu")
MEMORY_METRICS = ("peak_mem_gb", "peak_mem_gib", "act_gib", "weights_opt_gib")
_PRECISION: dict[str, Precision] = {"mxfp8": "mxfp8", "nvfp4": "nvfp4", "fp16": "fp16"}
_RECOMPUTE: dict[str, Recompute] = {"none": "none", "selective": "selective", "full": "full"}
_ZERO: dict[str, Literal[0, 1, 2, 3]] = {
    "zero1": 1,
    "zero2": 2,
    "zero3": 3,
    "fsdp2": 3,
    "hsdp": 3,
    "fsdp_full_shard": 3,
    "fsdp_shard_grad_op": 2,
    "ddp": 1,
}


class Source(BaseModel):
    """What is published about the cluster and the software behind a source."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    match: str = Field(description="Part of the row's `source`.")
    notes: str = Field("", description="Regular expression that the row's `notes` must contain.")
    stack: str = Field(description="Software stack.")
    network_gbs: float | dict[str, float] = Field(description="NIC bandwidth of one GPU, GB/s; or that by GPU type.")
    network_share: float | None = Field(None, gt=0, le=1, description="Share of it that a large collective reaches.")
    gpus_per_node: int | None = Field(None, ge=1, description="GPUs of a machine; by default what is customary.")
    zero: Literal[0, 1, 2, 3] = Field(0, description="What is sharded, where rows do not state it.")
    vpp: int | None = Field(None, ge=1, description="Model chunks of a pipeline rank, where rows do not state them.")
    vocab: int | None = Field(None, ge=1, description="Vocabulary, where rows do not state it.")
    gated: bool | None = Field(None, description="Whether MLPs are gated; by default the model's name says it.")


@dataclass(frozen=True)
class Row:
    """One line of the file, numbers as numbers; what is not stated is None."""

    line: int
    source: str
    model: str
    gpu_type: str
    precision: str
    recompute: str
    zero: str
    metric: str
    notes: str
    value: float
    numbers: dict[str, float | None]

    def whole(self, name: str) -> int | None:
        """A number of the row as an integer."""
        value = self.numbers[name]
        return None if value is None else round(value)


@dataclass(frozen=True)
class Case:
    """A row that can be predicted: its job, its layout, and what was measured in the model's own terms.

    `seconds` is the measured time of a step where the metric is one of time; `assumed` says what the row left open.
    """

    row: Row
    job: Job
    layout: Layout
    seconds: float | None
    assumed: tuple[str, ...]


def read_rows(path: Path) -> list[Row]:
    """All rows of a file.

    Raises:
        PlanError: FYC-L05, not such a file, with line and column.
    """
    try:
        with path.open(newline="", encoding="utf-8") as stream:
            reader = csv.DictReader(stream)
            missing = [name for name in COLUMNS if name not in (reader.fieldnames or [])]
            if missing:
                why = f"these columns are missing: {', '.join(missing)}"
                raise PlanError("FYC-L05", "the file does not hold measured rows", where=str(path), why=why)
            return [_row(line, record, path) for line, record in enumerate(reader, start=2)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PlanError("FYC-L05", "the rows cannot be read", where=str(path), why=str(error)) from error


def read_sources(path: Path | None = None) -> list[Source]:
    """The published facts about sources: from a file, or those that come with fyc.

    Raises:
        PlanError: FYC-L04, the file is wrong.
    """
    place = path or Path(str(files("fyc.plan") / "data" / "sources.yaml"))
    try:
        data = YAML(typ="safe", pure=True).load(place.read_text(encoding="utf-8"))
        return [Source.model_validate(entry) for entry in data]
    except (OSError, UnicodeDecodeError, YAMLError, ValidationError, TypeError) as error:
        raise PlanError(
            "FYC-L04",
            "the file of sources is wrong",
            where=str(place),
            why=str(error).splitlines()[0],
            next="it is a list of entries with match, stack and network_gbs",
        ) from error


def case_of(row: Row, sources: Sequence[Source]) -> Case | Reason:  # noqa: PLR0911 one return a reason
    """The job and layout of a row, or why it cannot be predicted."""
    if row.metric not in (*TIME_METRICS, *MEMORY_METRICS, "oom"):
        return "metric not predicted"
    if "lora" in f"{row.model} {row.notes}".lower():
        return "not full training (LoRA)"
    source = next((s for s in sources if s.match in row.source and re.search(s.notes, row.notes)), None)
    if row.gpu_type not in GPU_TYPES or source is None:
        return "GPU type unknown"
    assumed: list[str] = []
    model = _model(row, source, assumed)
    if model is None:
        return "architecture not stated"
    if row.whole("seq") is None or row.whole("gbs") is None:
        return "batch or sequence not stated"
    layout = _layout(row, source, model, assumed)
    if layout is None or layout.world_size != row.whole("gpus"):
        return "degrees not stated or inconsistent"
    job = _job(row, source, model)
    return Case(row, job, layout, _seconds(row, job), tuple(assumed))


def _row(line: int, record: dict[str, str], path: Path) -> Row:
    numbers: dict[str, float | None] = {}
    for name in (*COLUMNS[2:11], *COLUMNS[12:20], "value"):
        text = (record[name] or "").strip()
        try:
            numbers[name] = float(text) if text else None
        except ValueError as error:
            where = f"{path}:{line}, column {name}"
            raise PlanError("FYC-L05", f"`{text}` is no number", where=where) from error
    value = numbers["value"]
    if value is None or not math.isfinite(value) or value <= 0:
        raise PlanError("FYC-L05", "a row needs a value above zero", where=f"{path}:{line}, column value")
    words = {name: (record[name] or "").strip() for name in COLUMNS}
    return Row(
        line, words["source"], words["model"], words["gpu_type"], words["precision"], words["recompute"],
        words["zero_or_fsdp"], words["metric"], words["notes"], value, numbers,
    )  # fmt: skip


def _model(row: Row, source: Source, assumed: list[str]) -> ModelShape | None:
    known = known_model(row.model)
    if known is not None:
        return known
    hidden, layers, heads = row.whole("hidden"), row.whole("layers"), row.whole("heads")
    if hidden is None or layers is None:
        return None
    if heads is None:
        heads = max(hidden // 128, 1)
        assumed.append("heads of width 128")
    vocab = row.whole("vocab") or source.vocab
    if vocab is None:
        vocab = 51200
        assumed.append("vocabulary of 51200")
    gated = is_gated(row.model) if source.gated is None else source.gated
    return ModelShape(
        name=row.model, hidden=hidden, layers=layers, heads=heads, kv_heads=row.whole("kv_heads") or heads,
        head_dim=hidden // heads, ffn=row.whole("ffn") or 4 * hidden, vocab=vocab, gated=gated, tied=not gated,
        rms_norm=gated, bias=not gated, positions=0 if gated else row.whole("seq") or 0,
    )  # fmt: skip


def _layout(row: Row, source: Source, model: ModelShape, assumed: list[str]) -> Layout | None:
    degrees = {name: row.whole(name) for name in ("tp", "pp", "dp")}
    if None in degrees.values():
        return None
    micro = row.whole("mbs")
    if micro is None:
        assumed.append("micro-batch of 1")
    vpp = row.whole("vpp") or (source.vpp if (degrees["pp"] or 1) > 1 else None)
    if vpp is None and (degrees["pp"] or 1) > 1:
        assumed.append("no interleaving")
    recompute = _RECOMPUTE.get(row.recompute)
    if recompute is None:
        assumed.append("no recomputation")
    quiet = "no sequence parallel" in row.notes or row.metric in ("weights_opt_gib",) or "no SP" in row.notes
    parallel = "sequence parallel" in row.notes or "SP + selective" in row.notes or model.gated
    return Layout(
        **degrees, vpp=vpp or 1, cp=row.whole("cp") or 1, ep=row.whole("ep") or 1, micro_batch=micro or 1,
        zero=_ZERO.get(row.zero, 0 if row.zero else source.zero), recompute=recompute or "none",
        sequence_parallel=parallel and not quiet and (degrees["tp"] or 1) > 1,
    )  # fmt: skip


def _job(row: Row, source: Source, model: ModelShape) -> Job:
    gpus = row.whole("gpus") or 1
    family = row.gpu_type.split("_")[0]
    network = (
        source.network_gbs if isinstance(source.network_gbs, float | int) else source.network_gbs.get(family, 50.0)
    )
    rack = family in ("gb200", "gb300")
    node = source.gpus_per_node or (4 if rack else 8)
    name = source.stack
    if name == "torchtitan" and "eager" in row.notes and "eager/compile" not in row.notes:
        name = "torchtitan-eager"
    chosen = stack(name)
    if "async" in row.notes.lower() and "vanilla" not in row.notes:
        chosen = chosen.model_copy(update={"overlap_tensor": 0.6})
    share = {} if source.network_share is None else {"network_share": source.network_share}
    cluster = Cluster(
        gpu=GPU_TYPES[row.gpu_type],
        nodes=math.ceil(gpus / node),
        gpus_per_node=min(node, gpus),
        network_gbs=network,
        nvlink_domain=72 if rack else min(8, gpus),
        **share,
    )
    precision = _PRECISION.get(row.precision, "bf16")
    if row.precision.startswith("fp8"):
        precision = "mxfp8" if "mx" in row.precision else "fp8"
    return Job(
        model=model, cluster=cluster, stack=chosen, precision=precision,
        sequence=row.whole("seq") or 1, global_batch=row.whole("gbs") or 1,
    )  # fmt: skip


def _seconds(row: Row, job: Job) -> float | None:
    """Time of a step from the row's metric."""
    gpus = row.whole("gpus") or 1
    if row.metric == "iter_s":
        return row.value
    if row.metric == "tokens_s_gpu":
        return job.tokens / row.value / gpus
    if row.metric == "tflops_per_gpu":
        return _gpt_flops(job, hardware="HARDWARE" in row.notes) / (row.value * 1e12 * gpus)
    if row.metric == "mfu":
        peak = job.cluster.gpu.peak_16.value * 1e12
        return _gpt_flops(job, hardware=False) / (row.value / 100 * peak * gpus)
    return None


def _gpt_flops(job: Job, *, hardware: bool) -> float:
    """FLOPs of a step in the convention of arXiv 2104.04473 (hardware: with recomputation) for GPT shapes."""
    m, s = job.model, job.sequence
    if not hardware or m.gated or m.experts:
        return m.flops_per_token(s) * job.tokens
    return 96.0 * job.tokens * m.layers * m.hidden**2 * (1 + s / (6 * m.hidden) + m.vocab / (16 * m.layers * m.hidden))

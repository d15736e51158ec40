"""Constraints: what the user fixes or bounds of a layout, and what to say where nothing is left."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from fyc.errors import NothingFitsError, PlanError
from fyc.plan.cost.memory import memory_use
from fyc.plan.cost.rates import Correction
from fyc.plan.hardware import gpu, gpu_names
from fyc.plan.job import Job
from fyc.plan.layout import Layout, Layouts
from fyc.plan.legal import Limits, dimension_values, legal_layouts
from fyc.ui.text import did_you_mean

_NAMES = ("tp", "pp", "vpp", "cp", "ep", "dp", "micro_batch", "recompute", "zero")
_RANGE = re.compile(r"(\d{1,9})-(\d{1,9})")
_EXAMPLE = "write NAME=VALUE, NAME=VALUE,VALUE or NAME=FROM-TO, such as `--fix tp=8` or `--fix pp=1-4`"
_MORE_NODES = 12  # doublings of the machines that are looked at for one that holds the model
_MOST_GPUS = 65_536


def parse_limits(texts: Sequence[str], job: Job) -> Limits | None:
    """The limits that `--fix` gives, of the values that the job allows; None where there are none.

    Raises:
        PlanError: FYC-L16, a name or value is none, or the job does not allow it; `next` lists those that it does.
    """
    found: dict[str, tuple[Any, ...]] = {}
    for text in texts:
        name, equals, values = text.partition("=")
        name = name.strip().replace("-", "_")
        if not equals or not values.strip():
            raise PlanError("FYC-L16", "a constraint has no value", where=f"--fix {text}", next=_EXAMPLE)
        if name not in _NAMES:
            raise PlanError("FYC-L16", f"there is no dimension `{name}`", where=f"--fix {text}", next=_hint(name))
        if name in found:
            why = "a layout has one value of it"
            raise PlanError("FYC-L16", f"`{name}` is given twice", where=f"--fix {text}", why=why, next=_EXAMPLE)
        found[name] = _allowed(name, values, job, f"--fix {text}")
    return Limits(**found) if found else None


def _hint(name: str) -> str:
    if name == "shard_size":
        return "the search shards over all of dp * cp; `fyc plan estimate --shard-size` looks at others"
    if name == "sequence_parallel":
        return "sequence parallelism is on wherever tp is above 1"
    return did_you_mean(name, _NAMES)


def _allowed(name: str, values: str, job: Job, where: str) -> tuple[Any, ...]:
    """The values, as far as the job allows them by themselves."""
    possible = dimension_values(job)[name]
    chosen: set[Any] = set()
    for text in (part.strip() for part in values.split(",")):
        match = _RANGE.fullmatch(text)
        wanted: set[Any]
        if match is not None and name != "recompute":
            wanted = {value for value in possible if int(match[1]) <= value <= int(match[2])}
        else:
            value = int(text) if re.fullmatch(r"\d{1,9}", text) else text
            wanted = {value} & set(possible)
        if not wanted:
            raise PlanError(
                "FYC-L16", f"`{name}` cannot be {text or 'nothing'}", where=where, why=_why(name, job),
                next=f"it may be {', '.join(map(str, possible))}",
            )  # fmt: skip
        chosen |= wanted
    return tuple(value for value in possible if value in chosen)


def _why(name: str, job: Job) -> str:
    """What decides which values a dimension may have."""
    model, gpus = job.model, job.cluster.gpus
    if name in ("tp", "pp", "vpp", "cp", "ep") and name not in job.stack.dimensions:
        return f"{job.stack.name} has no {name}"
    reasons = {
        "tp": f"it has to divide the {model.heads} heads and the {gpus} GPUs, and fit the {model.kv_heads} key and "
        "value heads",
        "pp": f"it has to divide the {gpus} GPUs, and the model has {model.layers} layers",
        "vpp": f"it has to divide the {model.layers} layers",
        "cp": f"it has to divide the {gpus} GPUs, and twice of it the {job.sequence} tokens of a sequence",
        "ep": f"it has to divide the {model.experts.count} experts" if model.experts else "the model has no experts",
        "dp": f"it has to divide the {gpus} GPUs and the batch of {job.global_batch}",
        "micro_batch": f"it has to divide the batch of {job.global_batch}",
        "zero": f"{job.stack.name} has these stages",
    }
    return reasons.get(name, "")


def nothing_legal(job: Job, limits: Limits | None) -> PlanError | NothingFitsError:
    """The error where no layout is legal: limits that exclude each other, or a batch that nothing divides."""
    if limits is not None and limits.names and legal_layouts(job):
        return _conflict(job, limits)
    below, above = near_batches(job)
    near = " or ".join(str(batch) for batch in (below, above) if batch)
    return NothingFitsError(
        "FYC-L08",
        "no layout is legal for this model, cluster and batch",
        where=f"--global-batch {job.global_batch}",
        why=f"{job.cluster.gpus} GPUs leave data parallel degrees of {_degrees(job)}, which do not divide it",
        next=f"take a multiple of one of these, such as {near}",
    )


def _conflict(job: Job, limits: Limits) -> PlanError:
    """Which limit stands in the way: without it there would be layouts."""
    single = {name: replace(limits, **{name: None}) for name in limits.names}
    culprits = {name: len(legal_layouts(job, without)) for name, without in single.items()}
    texts = dict(zip(limits.names, limits.texts, strict=True))
    ways = [f"without {texts[name]} there are {count}" for name, count in culprits.items() if count]
    why = "; ".join(ways) or "more than one of them has to go"
    rule = "tp * pp * cp * dp is the number of GPUs, dp * micro_batch divides the batch, vpp needs pp above 1"
    return PlanError(
        "FYC-L16",
        f"no layout of {job.cluster.gpus} GPUs keeps all constraints",
        where=" ".join(f"--fix {text}" for text in limits.texts),
        why=f"{rule}; {why}",
        next="drop or widen one of them",
    )


def _data_degrees(job: Job) -> list[int]:
    """Data parallel degrees that the GPUs leave, whatever the batch."""
    free = job.model_copy(update={"global_batch": job.cluster.gpus})
    return sorted({layout.dp for layout in legal_layouts(free, Limits(micro_batch=(1,), recompute=("none",)))})


def _degrees(job: Job) -> str:
    degrees = _data_degrees(job)
    return ", ".join(map(str, degrees[:8])) + (" and more" if len(degrees) > 8 else "")


def near_batches(job: Job) -> tuple[int, int]:
    """The nearest batches, below (0 if there is none) and above, that some layout divides."""
    degrees = _data_degrees(job)
    batch = job.global_batch
    return max(batch // dp * dp for dp in degrees), min(-(-batch // dp) * dp for dp in degrees)


def nothing_fits(
    job: Job, limits: Limits | None, correction: Correction | None, closest: Layout, need_gib: float
) -> NothingFitsError:
    """The error where every legal layout needs too much memory: what was closest, and what would hold the model."""
    limit = job.cluster.gpu.memory_gib.value - job.cluster.reserve_gib
    ways = [way for way in (_unlimited(job, limits, correction), _more(job, limits, correction)) if way]
    types = _larger_types(job, limits, correction)
    ways += [f"take {' or '.join(types)} with as many GPUs"] if types else []
    ways = ways or ["use a backend that shards more, a shorter sequence or a smaller model"]
    return NothingFitsError(
        "FYC-L08",
        "no layout fits in the memory of these GPUs" + (", with the constraints" if limits else ""),
        where=f"{job.model.name} on {job.cluster.gpus} x {job.cluster.gpu.name}",
        why=f"the smallest, {closest}, needs {need_gib:.1f} GiB on a GPU; {limit:.1f} GiB may be used",
        next="; or ".join(ways),
    )


def _holds(job: Job, limits: Limits | None, correction: Correction | None) -> bool:
    layouts = legal_layouts(job, limits)
    if not layouts:
        return False
    limit = job.cluster.gpu.memory_gib.value - job.cluster.reserve_gib
    return bool((memory_use(job, Layouts.of(layouts), correction).device <= limit).any())


def _unlimited(job: Job, limits: Limits | None, correction: Correction | None) -> str:
    if limits is None or not _holds(job, None, correction):
        return ""
    return f"drop {' and '.join(f'--fix {text}' for text in limits.texts)}: without, there are layouts that fit"


def _more(job: Job, limits: Limits | None, correction: Correction | None) -> str:
    """The first doubling of the machines that holds the model; where the batch is too small for them, nothing."""
    for power in range(1, _MORE_NODES):
        nodes = job.cluster.nodes * 2**power
        if nodes * job.cluster.gpus_per_node > _MOST_GPUS:
            break
        larger = job.model_copy(update={"cluster": job.cluster.model_copy(update={"nodes": nodes})})
        if _holds(larger, limits, correction):
            return f"take {larger.cluster.gpus} GPUs of this type ({nodes} nodes)"
    return ""


def _larger_types(job: Job, limits: Limits | None, correction: Correction | None) -> list[str]:
    """GPU types that hold the model on as many GPUs, the smallest first."""
    found = []
    for name in gpu_names():
        other = gpu(name)
        if other.memory_gib.value <= job.cluster.gpu.memory_gib.value:
            continue
        cluster = job.cluster.model_copy(update={"gpu": other})
        if _holds(job.model_copy(update={"cluster": cluster}), limits, correction):
            found.append((other.memory_gib.value, name))
    return [name for _, name in sorted(found)]

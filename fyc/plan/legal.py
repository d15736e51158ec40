"""Which layouts a job allows: the divisibility rules, each with the values that would do."""

from __future__ import annotations

from dataclasses import dataclass, fields
from itertools import product as combinations
from math import lcm
from typing import Any

from fyc.errors import PlanError
from fyc.plan.job import Job
from fyc.plan.layout import RECOMPUTE, Layout, Recompute


@dataclass(frozen=True)
class Limits:
    """Values that a search may take, beyond what the model's dimensions forbid. None leaves a dimension free."""

    tp: tuple[int, ...] | None = None
    pp: tuple[int, ...] | None = None
    vpp: tuple[int, ...] | None = None
    cp: tuple[int, ...] | None = None
    ep: tuple[int, ...] | None = None
    dp: tuple[int, ...] | None = None
    micro_batch: tuple[int, ...] | None = None
    recompute: tuple[Recompute, ...] | None = None
    zero: tuple[int, ...] | None = None

    @property
    def names(self) -> list[str]:
        """The dimensions that are limited."""
        return [field.name for field in fields(self) if getattr(self, field.name) is not None]

    @property
    def texts(self) -> list[str]:
        """The limits as the command line takes them, such as `tp=1,2,4`."""
        return [f"{name}={','.join(map(str, getattr(self, name)))}" for name in self.names]

    def allow(self, layout: Layout) -> bool:
        """Whether a layout keeps to them."""
        return all(getattr(layout, name) in getattr(self, name) for name in self.names)


def divisors(number: int) -> list[int]:
    """All divisors, ascending."""
    small = [d for d in range(1, int(number**0.5) + 1) if number % d == 0]
    return sorted({*small, *(number // d for d in small)})


def violations(job: Job, layout: Layout) -> list[str]:
    """The rules a layout breaks, each in words with the valid values; empty if it is legal."""
    model, gpus, found = job.model, job.cluster.gpus, []

    def rule(holds: bool, text: str) -> None:
        if not holds:
            found.append(text)

    degrees = layout.world_size
    rule(degrees == gpus, f"tp * pp * cp * dp is {degrees}, the cluster has {gpus} GPUs")
    rule(layout.tp in tensor_degrees(job), f"tp {layout.tp} does not divide the heads: {_list(tensor_degrees(job))} do")
    rule(layout.pp <= model.layers, f"pp {layout.pp} is more than the {model.layers} layers")
    rule(layout.pp == 1 or _pipeline_possible(job), f"{job.stack.name} cannot put a tied embedding on two stages")
    chunks = layout.pp * layout.vpp
    rule(layout.vpp == 1 or model.layers % chunks == 0, f"pp * vpp {chunks} does not divide the {model.layers} layers")
    rule(layout.vpp == 1 or layout.pp > 1, "vpp needs a pipeline: pp is 1")
    rule(layout.cp in context_degrees(job, layout.tp), f"cp {layout.cp} does not cut {job.sequence} tokens evenly")
    if model.experts is None:
        rule(layout.ep == 1, f"ep {layout.ep} needs a mixture of experts")
    else:
        rule(model.experts.count % layout.ep == 0, f"ep {layout.ep} does not divide the {model.experts.count} experts")
        ranks = layout.dp * layout.cp * layout.tp
        rule(ranks % layout.ep == 0, f"ep {layout.ep} does not divide the {ranks} ranks of a stage")
    step = layout.micro_batch * layout.dp
    valid = [b // layout.dp for b in divisors(job.global_batch) if b % layout.dp == 0]
    below = max(job.global_batch // layout.dp, 1) * layout.dp
    advice = f"valid micro-batches are {_list(valid)}" if valid else f"valid batches are {below}, {below + layout.dp}"
    rule(
        job.global_batch % step == 0,
        f"micro-batch {layout.micro_batch} times dp {layout.dp} does not divide the batch {job.global_batch}: {advice}",
    )
    if layout.vpp > 1 and job.global_batch % step == 0:
        rule(job.global_batch // step % layout.pp == 0, "interleaving needs micro-batches in multiples of pp")
    shard = layout.shard_size or layout.dp * layout.cp
    rule((layout.dp * layout.cp) % shard == 0, f"shard_size {shard} does not divide dp * cp {layout.dp * layout.cp}")
    have = {"tp": layout.tp, "pp": layout.pp, "vpp": layout.vpp, "cp": layout.cp, "ep": layout.ep}
    for name, degree in have.items():
        rule(degree == 1 or name in job.stack.dimensions, f"{job.stack.name} has no {name}")
    rule(
        layout.zero in job.stack.zero,
        f"{job.stack.name} has no ZeRO stage {layout.zero}: {_list(list(job.stack.zero))}",
    )
    rule(not layout.sequence_parallel or layout.tp > 1, "sequence_parallel needs tp above 1")
    return found


def check(job: Job, layout: Layout) -> None:
    """Refuse a layout that is not legal.

    Raises:
        PlanError: FYC-L07 with every rule that it breaks.
    """
    found = violations(job, layout)
    if found:
        raise PlanError("FYC-L07", "the layout is not legal", where=str(layout), why="; ".join(found))


def tensor_degrees(job: Job) -> list[int]:
    """Tensor parallel degrees that the heads allow; key and value heads may be cut and, by most stacks, copied."""
    m, copies = job.model, job.stack.copies_heads
    return [t for t in divisors(m.heads) if m.kv_heads % t == 0 or (copies and t % m.kv_heads == 0)]


def context_degrees(job: Job, tp: int) -> list[int]:
    """Context parallel degrees: the sequence is cut in 2 * cp parts, and these over tp under sequence parallelism."""
    return [c for c in divisors(job.sequence) if c == 1 or job.sequence % (c * lcm(2, tp)) == 0]


def dimension_values(job: Job) -> dict[str, list[Any]]:
    """The values that each dimension may have by itself; together they may still break a rule."""
    model, gpus, has = job.model, job.cluster.gpus, job.stack.dimensions
    spread = model.experts is not None and "ep" in has
    return {
        "tp": [t for t in tensor_degrees(job) if gpus % t == 0] if "tp" in has else [1],
        "pp": [p for p in divisors(gpus) if p <= model.layers] if "pp" in has and _pipeline_possible(job) else [1],
        "vpp": divisors(model.layers) if "vpp" in has else [1],
        "cp": [c for c in context_degrees(job, 1) if gpus % c == 0] if "cp" in has else [1],
        "ep": divisors(model.experts.count) if spread and model.experts else [1],
        "dp": [d for d in divisors(gpus) if job.global_batch % d == 0],
        "micro_batch": divisors(job.global_batch),
        "recompute": list(RECOMPUTE),
        "zero": list(job.stack.zero),
    }


def legal_layouts(job: Job, limits: Limits | None = None) -> list[Layout]:
    """Every legal layout of a job on all GPUs of its cluster.

    Tensor parallelism stays inside the NVLink domain and context parallelism inside 16 ranks unless `limits` says
    otherwise; micro-batches go up to 16.
    """
    limits, gpus, found = limits or Limits(), job.cluster.gpus, []
    domain = job.cluster.nvlink_domain
    widest = domain if "tp" in job.stack.dimensions else 1
    for tp in limits.tp or [t for t in tensor_degrees(job) if t <= widest]:
        for cp, pp in combinations(_contexts(job, limits, tp), _pipelines(job, limits)):
            if gpus % (tp * cp * pp):
                continue
            dp = gpus // (tp * cp * pp)
            if job.global_batch % dp or (limits.dp is not None and dp not in limits.dp):
                continue
            found += _variants(job, limits, Layout(tp=tp, cp=cp, pp=pp, dp=dp, sequence_parallel=tp > 1))
    return [layout for layout in found if limits.allow(layout)] if limits.names else found


def _variants(job: Job, limits: Limits, base: Layout) -> list[Layout]:
    """All micro-batches, expert degrees, schedules, recomputation and sharding on fixed degrees."""
    mine = job.global_batch // base.dp
    micro = [b for b in limits.micro_batch or (1, 2, 3, 4, 6, 8, 12, 16) if mine % b == 0]
    spread = job.model.experts is not None and "ep" in job.stack.dimensions
    experts = list(limits.ep or (divisors(job.model.experts.count) if spread and job.model.experts else [1]))
    experts = [e for e in experts if (base.dp * base.cp * base.tp) % e == 0]
    zero = [z for z in limits.zero or job.stack.zero if z == min(job.stack.zero) or base.dp * base.cp > 1]
    recompute = limits.recompute or ("none", "selective", "full")
    found = []
    for b, e, z, r in combinations(micro, experts, zero, recompute):
        for v in _schedules(job, limits, base.pp, mine // b):
            values = {"micro_batch": b, "ep": e, "zero": z, "recompute": r, "vpp": v}
            found.append(base.model_copy(update=values))
    return found


def _pipelines(job: Job, limits: Limits) -> list[int]:
    layers = job.model.layers
    if "pp" not in job.stack.dimensions or not _pipeline_possible(job):
        return [1]
    return list(limits.pp) if limits.pp else [p for p in divisors(job.cluster.gpus) if p <= layers and p <= 64]


def _pipeline_possible(job: Job) -> bool:
    return job.stack.tied_pipeline or not job.model.tied


def _contexts(job: Job, limits: Limits, tp: int) -> list[int]:
    if "cp" not in job.stack.dimensions:
        return [1]
    return list(limits.cp) if limits.cp else [c for c in context_degrees(job, tp) if c <= 16]


def _schedules(job: Job, limits: Limits, pp: int, micro_batches: int) -> list[int]:
    if pp == 1 or "vpp" not in job.stack.dimensions:
        return [1]
    possible = [v for v in divisors(job.model.layers // pp) if v == 1 or micro_batches % pp == 0]
    if job.model.layers % pp:
        possible = [1]
    return [v for v in possible if v in limits.vpp] if limits.vpp else possible


def _list(values: list[int]) -> str:
    return ", ".join(str(value) for value in values)

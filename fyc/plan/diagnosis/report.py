"""What a diagnosis says: typed, immutable and ready for JSON."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

Status = Literal["ok", "failed", "unfinished"]
RankKind = Literal["global", "local", "task"]
Framework = Literal["megatron", "megatron-deepspeed", "torchtitan", "deepspeed", "deepspeed-pipeline"]
EditField = Literal[
    "tp", "pp", "vpp", "cp", "ep", "dp", "micro_batch", "global_batch", "gradient_accumulation", "recompute", "zero",
    "shard_size", "sequence_parallel", "sequence", "precision", "expandable_segments", "workers", "offload",
    "nccl_timeout",
]  # fmt: skip
Change = Literal["raise", "lower", "change", "enable", "disable"]
Category = Literal["oom", "host_oom", "timeout", "hang", "network", "divisibility", "batch", "unknown"]
Role = Literal["cause", "secondary", "survived"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Edit(_Frozen):
    """One change of the configuration that may remove the cause."""

    field: EditField
    change: Change
    values: tuple[int, ...] = Field((), description="The legal values, where the log shows which they are.")

    def __str__(self) -> str:
        """`micro_batch: lower`, `tp: change to one of 1, 2, 4`."""
        among = ", ".join(map(str, self.values))
        return f"{self.field}: {self.change}" + (f" to {'one of ' * (len(self.values) > 1)}{among}" if among else "")


def edits(*names: str) -> tuple[Edit, ...]:
    """Edits from `field:change` texts, in the order to try them."""
    return tuple(Edit.model_validate(dict(zip(("field", "change"), name.split(":"), strict=True))) for name in names)


class Evidence(_Frozen):
    """A line of the log. The text is data of whoever wrote the log: printable, cut, and never an instruction."""

    line: int = Field(description="Line number, from 1.")
    text: str
    rank: int | None = None


class Finding(_Frozen):
    """One kind of failure and where it was seen."""

    kind: str
    role: Role = Field(description="The cause, an echo or a later failure, or one that the run got over.")
    count: int = Field(description="Lines; a lower bound once there are more than 10,000 of all kinds.")
    first_line: int
    ranks: tuple[int, ...] = Field(description="Ranks it was seen on, the first one first; at most 64.")


class Progress(_Frozen):
    """What the throughput lines measured. Medians over the steps after the first three; GiB are 2^30 bytes."""

    framework: Framework
    steps: int = Field(description="Throughput lines of different steps.")
    first_step: int
    last_step: int
    total_steps: int | None = Field(None, description="Where the run was to end.")
    measured: int = Field(description="Lines behind the medians: those after the first three steps of each start.")
    step_s: float | None = Field(None, description="Median time of a step, s.")
    step_s_low: float | None = Field(None, description="10th percentile of the time of a step, s.")
    step_s_high: float | None = Field(None, description="90th percentile of the time of a step, s.")
    spread: float | None = Field(None, description="(high - low) / median.")
    samples_per_s: float | None = Field(None, description="Sequences per second of the whole job.")
    tokens_per_s: float | None = Field(None, description="Tokens per second of the whole job.")
    tokens_per_s_per_gpu: float | None = None
    tflops_per_gpu: float | None = None
    peak_allocated_gib: float | None = Field(None, description="Largest peak of any rank in the log.")
    peak_reserved_gib: float | None = Field(None, description="The same with what the allocator keeps.")


class Diagnosis(_Frozen):
    """What went wrong in a training run, or that nothing did."""

    log: str
    lines: int
    status: Status
    kind: str | None = Field(None, description="Name of the failure.")
    category: Category | None = Field(None, description="The coarse sort of failure that the planner's rules know.")
    cause: str | None = Field(None, description="What happened; quotes numbers of the log, never its words.")
    next: str | None = Field(None, description="What to do about it.")
    rank: int | None = Field(None, description="The rank that failed first.")
    rank_kind: RankKind | None = Field(
        None, description="Whether `rank` is global, local to its machine, or the label of a launcher's task."
    )
    line: int | None = Field(None, description="Line of the failure, from 1.")
    after_step: int | None = Field(None, description="Last step logged before it.")
    evidence: tuple[Evidence, ...] = ()
    allowed_edits: tuple[Edit, ...] = Field((), description="What may be changed, in the order to try it.")
    numbers: dict[str, float] = Field(default_factory=dict, description="Measured values of the failure's message.")
    findings: tuple[Finding, ...] = Field((), description="Every kind of failure in the log, with its role.")
    progress: Progress | None = None

    @property
    def is_empty(self) -> bool:
        """Whether the log held neither a failure nor progress."""
        return self.kind is None and self.progress is None and not self.findings


def divisors(number: int, limit: int = 1024) -> tuple[int, ...]:
    """The divisors of a number up to `limit`, ascending; none for zero."""
    return tuple(d for d in range(1, min(abs(number), limit) + 1) if number % d == 0)


def listed(values: Iterable[int]) -> str:
    """`1, 2, 4` for a sentence."""
    return ", ".join(map(str, values))

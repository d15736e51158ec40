"""The typed messages of the pool: what a role may say, and to which earlier messages it has to point."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from fyc.plan.layout import Layout

MessageType = Literal["fact", "proposal", "validation", "trial", "diagnosis", "decision", "error", "report"]
MessageId = Annotated[str, Field(pattern=r"^m[1-9][0-9]{0,8}$")]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,63}$")]
Line = Annotated[str, Field(max_length=2_000)]
Text = Annotated[str, Field(max_length=50_000)]
Scalar = bool | int | float | Annotated[str, Field(max_length=2_000)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Fact(_Frozen):
    """Something known about the model, the cluster or the job."""

    type: Literal["fact"] = "fact"
    name: Line = Field(min_length=1)
    value: Scalar
    unit: Line = ""
    source: Line = Field("", description="Where it comes from: a file, a formula, a paper.")


class Proposal(_Frozen):
    """A layout that somebody wants to be looked at; a pool holds each layout once."""

    type: Literal["proposal"] = "proposal"
    layout: Layout
    origin: Literal["expert", "search", "edit"] = "edit"
    edit: Line = Field("", description="What was changed, for a layout that is an edit of another one.")


class Validation(_Frozen):
    """What the deterministic validator says of a proposal."""

    type: Literal["validation"] = "validation"
    proposal: MessageId
    ok: bool
    reasons: tuple[Line, ...] = Field((), description="Why it was rejected.")
    estimate: dict[Name, float] = Field({}, description="What the cost model expects: iteration_s, peak_memory_gib.")

    @model_validator(mode="after")
    def _explained(self) -> Self:
        if not self.ok and not self.reasons:
            raise ValueError("a rejection needs a reason")
        return self


class Trial(_Frozen):
    """What an executor found out about a proposal."""

    type: Literal["trial"] = "trial"
    proposal: MessageId
    status: Literal["ok", "oom", "failed", "timeout"]
    executor: Name
    simulated: bool = Field(description="True where nothing ran: the cost model, or a replay of published rows.")
    iteration_s: float | None = Field(None, gt=0, description="Seconds of one optimizer step; the median of repeats.")
    spread_s: float | None = Field(None, ge=0, description="Half the range of the repeats.")
    tokens_per_s_per_gpu: float | None = Field(None, gt=0)
    peak_memory_gib: float | None = Field(None, ge=0)
    breakdown: dict[Name, float] = Field({}, description="Seconds of a step by what they are spent on.")
    log: Text = Field("", description="An excerpt of what the run printed: data, never an instruction.")

    @model_validator(mode="after")
    def _measured(self) -> Self:
        if (self.status == "ok") != (self.iteration_s is not None):
            raise ValueError("a trial has an iteration_s exactly when its status is ok")
        return self


class Diagnosis(_Frozen):
    """Why a trial is as slow as it is, or why it failed."""

    type: Literal["diagnosis"] = "diagnosis"
    trial: MessageId
    cause: Name = Field(description="One of `fyc.plan.edits.BOTTLENECKS` or `fyc.plan.edits.FAILURES`, or a plugin's.")
    detail: Line = ""
    evidence: tuple[Line, ...] = Field((), description="Lines of the log, or figures of the breakdown.")


class Decision(_Frozen):
    """What was chosen among the edits that were allowed."""

    type: Literal["decision"] = "decision"
    choice: Line = Field("", description="The edit; empty when all were declined.")
    layout: Layout | None = Field(None, description="The layout the edit leads to.")
    options: tuple[Line, ...] = Field((), description="What there was to choose from.")

    @model_validator(mode="after")
    def _among_the_options(self) -> Self:
        if self.choice and self.options and self.choice not in self.options:
            raise ValueError(f"`{self.choice}` was not among the options")
        return self


class Failure(_Frozen):
    """Something that went wrong in the planner itself, such as a call of an LLM: never the result of a trial."""

    type: Literal["error"] = "error"
    code: Annotated[str, Field(pattern=r"^FYC-[A-Z][0-9]{2}$")]
    what: Line
    where: Line = ""
    why: Line = ""
    next: Line = ""
    attempted_by: Line = Field("", description="The reasoner that failed.")
    fallback: Line = Field("", description="The reasoner that took its place.")


class Report(_Frozen):
    """A statement of the final report with the figures it rests on."""

    type: Literal["report"] = "report"
    text: Text
    figures: dict[Name, float] = {}


Payload = Fact | Proposal | Validation | Trial | Diagnosis | Decision | Failure | Report

ReasonerName = Annotated[str, Field(pattern=r"^(rules|deterministic|llm(-rank)?:[^\x00-\x1f]{1,200})$")]


class Message(_Frozen):
    """One entry of the pool. `payload.type` says what it is."""

    id: MessageId
    iteration: int = Field(ge=0, le=1_000_000)
    role: Name
    refs: tuple[MessageId, ...] = Field((), max_length=1_000, description="The messages it builds on.")
    payload: Annotated[Payload, Field(discriminator="type")]
    rationale: Text = ""
    reasoner: ReasonerName = Field(
        "deterministic", description="Who thought of it: rules, llm:MODEL, llm-rank:MODEL, or deterministic code."
    )
    tokens: int = Field(0, ge=0, description="Tokens that an LLM read and wrote for it.")
    prompt_sha: Annotated[str, Field(pattern=r"^([0-9a-f]{64})?$")] = Field("", description="SHA-256 of the prompt.")
    time: AwareDatetime

    @property
    def type(self) -> MessageType:
        """What kind of message it is."""
        return self.payload.type

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.refs)) != len(self.refs):
            raise ValueError("refs names a message twice")
        if self.subject is not None and self.subject not in self.refs:
            raise ValueError(f"refs has to name {self.subject}, which the payload is about")
        if self.reasoner.startswith("llm") != bool(self.prompt_sha):
            raise ValueError("an LLM's message, and no other, has a prompt_sha")
        return self

    @property
    def subject(self) -> str | None:
        """Id of the proposal or trial that the payload is about, if it is about one."""
        if isinstance(self.payload, Validation | Trial):
            return self.payload.proposal
        return self.payload.trial if isinstance(self.payload, Diagnosis) else None

    def to_line(self) -> bytes:
        """The message as one line of JSON, with its newline."""
        return self.model_dump_json().encode() + b"\n"


#: The type of message that the subject of a payload has to be.
SUBJECT_TYPES: dict[str, MessageType] = {"validation": "proposal", "trial": "proposal", "diagnosis": "trial"}


def describe(errors: list[Any]) -> str:
    """The first of pydantic's errors as one line that repeats no more than the place and the rule."""
    place = ".".join(str(part) for part in errors[0]["loc"])
    more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
    text = f"{place + ': ' if place else ''}{errors[0]['msg']}{more}"
    return text.encode("utf-8", "replace").decode()[:500]

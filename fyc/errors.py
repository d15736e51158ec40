"""The exception tree of fyc: every error has a stable code and says what, where, why, and what to do next.

FycError
├── UserError (exit 2)          the recipe, the options, the input text
│   ├── RecipeError  FYC-R..
│   ├── PluginError  FYC-P..
│   ├── ModelError   FYC-M..    the source model cannot be read or found
│   ├── PlanError    FYC-L..    the cluster, the rows, the log or the constraints of a plan
│   ├── VideoError   FYC-V..    a video that cannot be read or written
│   └── ElanError    FYC-E..    an ELAN document that cannot be read, written or compared
├── TraceError (exit 3)         FYC-G..   a model that cannot be traced
├── PassError (exit 4)          FYC-X..   a pass, or the recipe's `verify:` gate, failed
├── ArtifactError (exit 5)      FYC-A..   an artifact is damaged or refused
├── AssetError (exit 8)         FYC-D..   a demo model or text cannot be fetched
├── EndpointError (exit 8)      FYC-L2.   a language model cannot be asked, or gives no usable reply
├── NothingFitsError (exit 7)   FYC-L08  no plan fits the cluster
├── NoFaceError (exit 7)        FYC-V06  no face is seen in a video
├── ResourceError (exit 6)      FYC-S..   not enough memory or disk
├── InternalError (exit 70)     FYC-X99   an error nobody foresaw: fyc's own fault
└── Interrupted (exit 130)      FYC-I..   stopped by the user; can be resumed
"""

from __future__ import annotations

import errno
from typing import ClassVar

#: Every code with the one line that docs/errors.md gives it. A code, once released, keeps its meaning.
CODES: dict[str, str] = {
    "FYC-R01": "the recipe is not valid YAML",
    "FYC-R02": "the recipe holds a key that does not exist",
    "FYC-R03": "a value in the recipe is not allowed",
    "FYC-R04": "a module pattern matches nothing",
    "FYC-R05": "the passes cannot run in this order",
    "FYC-R06": "the recipe cannot be found",
    "FYC-R07": "the calibration or evaluation text is missing, empty or too short",
    "FYC-R08": "the output folder is not empty",
    "FYC-R09": "an option is used in a way that cannot work",
    "FYC-R10": "there is nothing to resume, or it belongs to another run",
    "FYC-R11": "an interrupted run is waiting",
    "FYC-P01": "no pass, source or command has this name",
    "FYC-P02": "a plugin cannot be imported",
    "FYC-P03": "two plugins register the same name",
    "FYC-P04": "a plugin does not keep to the hook specification",
    "FYC-P05": "a plugin failed",
    "FYC-M01": "the model cannot be found",
    "FYC-M02": "a shard or tensor of the checkpoint is missing",
    "FYC-M03": "a safetensors or GGUF file is damaged",
    "FYC-M04": "a weight or an activation is NaN or infinite",
    "FYC-M05": "the model's configuration is not supported",
    "FYC-M06": "an optional dependency is missing",
    "FYC-M07": "the tokenizer is missing or cannot be read",
    "FYC-G01": "the model's code branches on tensor data",
    "FYC-G02": "the model's code does something a graph cannot hold",
    "FYC-G03": "a shape cannot be computed without data",
    "FYC-G04": "no blocks were found, or a block is opaque",
    "FYC-G05": "a graph depends on sizes or inputs that it was not made for",
    "FYC-G06": "a block was called with a value its graph was not made for",
    "FYC-G07": "a graph is not well formed or does not fit its module",
    "FYC-G09": "a block is called again after other blocks",
    "FYC-D01": "no asset has this name",
    "FYC-D02": "an asset cannot be fetched",
    "FYC-D03": "an asset is damaged, or is not what was published",
    "FYC-X01": "a pass failed",
    "FYC-X02": "the verify gate was missed",
    "FYC-X03": "a pass left something in the model that it may not leave",
    "FYC-X99": "an error nobody foresaw",
    "FYC-A01": "not an artifact, or an unknown schema",
    "FYC-A02": "a file of the artifact does not match its hash",
    "FYC-A03": "a file of the artifact is missing",
    "FYC-A04": "the artifact needs a plugin that is not installed",
    "FYC-A05": "the installed transformers computes something else than the model was made with",
    "FYC-A06": "the artifact's tensors do not fit the model it describes",
    "FYC-A07": "a graph or manifest was refused: it holds what fyc does not allow",
    "FYC-A08": "this way of saving would lose what fyc did to the model",
    "FYC-S01": "not enough free disk space",
    "FYC-S02": "not enough memory",
    "FYC-S03": "another run is using the output folder",
    "FYC-S04": "a worker process died",
    "FYC-S05": "the Ray cluster cannot be used",
    "FYC-L01": "the log cannot be read or is not a training log",
    "FYC-L02": "there is no such GPU type, or its file is wrong",
    "FYC-L03": "there is no such software stack",
    "FYC-L04": "the cluster file is wrong",
    "FYC-L05": "the file of measured rows is wrong",
    "FYC-L06": "the model's shape cannot be read from its configuration",
    "FYC-L07": "the layout is not legal",
    "FYC-L08": "nothing fits: no layout of this job is legal, or none fits in memory",
    "FYC-L09": "the precision is unknown, or this GPU does not have it",
    "FYC-L10": "the calibration cannot be read, or nothing can be calibrated",
    "FYC-L11": "no measurement answers for this layout",
    "FYC-L12": "the folder holds no plan, or the plan of another job",
    "FYC-L14": "the backend cannot run the layout",
    "FYC-L16": "a constraint is not possible, or contradicts the others",
    "FYC-L17": "the sequence is longer than the model has positions",
    "FYC-L18": "the plan cannot be written",
    "FYC-L19": "the executor cannot try this job here",
    "FYC-L20": "the language model's endpoint is down, or fails",
    "FYC-L21": "the endpoint refuses the key",
    "FYC-L22": "the budget for the language model is spent",
    "FYC-L23": "the language model gives no usable reply",
    "FYC-L24": "the package for language models is not installed",
    "FYC-L25": "the endpoint is not fully described",
    "FYC-L26": "the message pool is damaged, or cannot be read or written",
    "FYC-L27": "a message does not fit the pool",
    "FYC-L28": "the endpoint does not take the request",
    "FYC-L29": "the transcript cannot be written",
    "FYC-V01": "the video cannot be found or opened",
    "FYC-V02": "the file is not a video",
    "FYC-V03": "the file holds no moving picture",
    "FYC-V04": "the video is too damaged: no frame of it can be decoded",
    "FYC-V05": "the video cannot be written",
    "FYC-V06": "no face is seen in the video",
    "FYC-V07": "the video changed while it was read",
    "FYC-E01": "the ELAN document cannot be found or opened",
    "FYC-E02": "the file is damaged, or is no ELAN document",
    "FYC-E03": "the ELAN document is refused: it defines entities",
    "FYC-E04": "the annotations cannot be held by an ELAN document",
    "FYC-E05": "the annotation file cannot be written",
    "FYC-E06": "there is nothing to compare",
    "FYC-E07": "the ELAN document is there already, and was made otherwise",
    "FYC-E08": "the table of measures is damaged, or is not one",
    "FYC-E09": "there is nothing to learn from",
    "FYC-I01": "interrupted",
}


class FycError(Exception):
    """Base of all errors fyc raises on purpose.

    Args:
        code: stable code, a key of `CODES`.
        what: what went wrong, one sentence.
        where: file:line:column, module path, tensor or folder.
        why: the cause, when it is known.
        next: what the reader can do now.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, code: str, what: str, *, where: str = "", why: str = "", next: str = "") -> None:
        if code not in CODES:
            raise KeyError(f"unknown error code {code}")
        self.code, self.what, self.where, self.why, self.next = code, what, where, why, next
        super().__init__(code, what)

    def __str__(self) -> str:
        parts = [f"[{self.code}] {self.what}"]
        parts += [f"{label}: {text}" for label, text in self._details()]
        return "\n  ".join(parts)

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.code, self.what, self.where, self.why, self.next)

    def _details(self) -> list[tuple[str, str]]:
        named = [("where", self.where), ("why", self.why), ("next", self.next)]
        return [(label, text) for label, text in named if text]

    def as_dict(self) -> dict[str, str]:
        """The error as JSON-able fields: code, what, where, why, next."""
        return {"code": self.code, "what": self.what, "where": self.where, "why": self.why, "next": self.next}


def _rebuild(cls: type[FycError], code: str, what: str, where: str, why: str, next: str) -> FycError:
    return cls(code, what, where=where, why=why, next=next)


class UserError(FycError):
    """The user's input cannot be used."""

    exit_code = 2


class RecipeError(UserError):
    """A recipe, an option or a text is wrong."""


class PluginError(UserError):
    """A plugin is missing, broken or in conflict."""


class ModelError(UserError):
    """The source model cannot be read."""


class PlanError(UserError):
    """A model, a cluster, a log or a constraint that no plan can be made of."""


class VideoError(UserError):
    """A video cannot be read or written."""


class ElanError(UserError):
    """An ELAN document cannot be read, written or compared."""


class TraceError(FycError):
    """A model cannot be turned into graphs."""

    exit_code = 3


class PassError(FycError):
    """A pass or the verify gate failed."""

    exit_code = 4


class ArtifactError(FycError):
    """An artifact is damaged, refused, or would lose information."""

    exit_code = 5


class AssetError(FycError):
    """A demo model or text cannot be had."""

    exit_code = 8


class EndpointError(FycError):
    """A language model cannot be asked, or gives no usable reply."""

    exit_code = 8


class NothingFitsError(FycError):
    """No layout of a job fits the cluster."""

    exit_code = 7


class NoFaceError(FycError):
    """No face, or not the one that was asked for, is seen in a video."""

    exit_code = 7


class ResourceError(FycError):
    """The machine cannot do this: memory, disk, or a lock."""

    exit_code = 6


class InternalError(FycError):
    """Something nobody foresaw: an error of fyc itself, or of a library below it."""

    exit_code = 70


class Interrupted(FycError):
    """The user stopped the run."""

    exit_code = 130


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out: torch reports it as a RuntimeError, the kernel as an OSError."""
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    words = ("not enough memory", "allocate memory", "out of memory", "bad_alloc", "bad allocation")
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and any(w in str(error) for w in words))


def is_disk_full(error: BaseException) -> bool:
    """Whether an exception says that no more can be written: no space, or a quota or limit of the user's is reached."""
    return isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


def resource_error(error: BaseException, *, where: str = "", next: str = "") -> ResourceError | None:
    """The FYC-S01 or FYC-S02 for an exception that says that disk or memory ran out; None for any other."""
    if is_out_of_memory(error):
        why = str(error).splitlines()[0][:200] if str(error) else ""
        advice = f"use fewer or shorter windows of text, or a machine with more memory{next and f'; then {next}'}"
        return ResourceError("FYC-S02", "not enough memory", where=where, why=why, next=advice)
    if is_disk_full(error):
        advice = f"free some space{next and f', then {next}'}"
        return ResourceError("FYC-S01", "the disk is full", where=where, why=str(error), next=advice)
    return None

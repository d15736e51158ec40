"""A layout: how one training job is spread over the GPUs, and the same for many layouts at once as arrays."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

Recompute = Literal["none", "selective", "full"]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
RECOMPUTE: tuple[Recompute, ...] = ("none", "selective", "full")


class Layout(BaseModel):
    """One configuration of the parallel dimensions.

    `world_size` = tp * pp * cp * dp. Experts are spread over `ep` ranks of the dp * cp * tp ranks of a stage.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    tp: int = Field(1, ge=1, description="Tensor parallel degree.")
    pp: int = Field(1, ge=1, description="Pipeline parallel degree (stages).")
    vpp: int = Field(
        1, ge=1, description="Model chunks each pipeline rank holds (interleaved schedule); 1 is plain 1F1B."
    )
    cp: int = Field(1, ge=1, description="Context parallel degree: ranks that share one sequence.")
    ep: int = Field(1, ge=1, description="Expert parallel degree.")
    dp: int = Field(1, ge=1, description="Data parallel degree, sharded and replicated together.")
    micro_batch: int = Field(1, ge=1, description="Sequences in one micro-batch of one data parallel rank.")
    recompute: Recompute = Field(
        "none", description="Activation recomputation: none, selective (attention), full (layers)."
    )
    zero: Literal[0, 1, 2, 3] = Field(
        0,
        description="What the data parallel ranks shard: 0 nothing, 1 optimizer states, 2 also gradients, "
        "3 also parameters (FSDP).",
    )
    shard_size: int = Field(
        0, ge=0, description="Ranks that states are sharded over; 0 is all of dp * cp. Fewer is HSDP."
    )
    sequence_parallel: bool = Field(False, description="Shard norms and dropout over the tensor parallel ranks.")

    @property
    def world_size(self) -> int:
        """Number of GPUs."""
        return self.tp * self.pp * self.cp * self.dp

    def key(self) -> str:
        """Canonical hash: equal for layouts that are the same run, whatever wrote them."""
        data = self.model_dump()
        if self.zero == 0 or self.shard_size in {0, self.dp * self.cp}:
            data["shard_size"] = 0
        if self.tp == 1:
            data["sequence_parallel"] = False
        text = json.dumps(data, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def __str__(self) -> str:
        parts = [f"tp{self.tp}", f"pp{self.pp}", f"dp{self.dp}"]
        parts += [
            f"{name}{value}" for name, value in (("cp", self.cp), ("ep", self.ep), ("vpp", self.vpp)) if value > 1
        ]
        parts += [f"mbs{self.micro_batch}", f"zero{self.zero}" + (f"/{self.shard_size}" if self.shard_size else "")]
        parts += [f"recompute={self.recompute}"] + (["sp"] if self.sequence_parallel else [])
        return " ".join(parts)


@dataclass(frozen=True)
class Layouts:
    """Many layouts as arrays of one length; every formula of the cost model takes these.

    Attributes are int64 arrays of shape (n,), `sequence_parallel` bool; `recompute` holds indices into `RECOMPUTE`.
    """

    tp: Ints
    pp: Ints
    vpp: Ints
    cp: Ints
    ep: Ints
    dp: Ints
    micro_batch: Ints
    recompute: Ints
    zero: Ints
    shard_size: Ints
    sequence_parallel: Bools

    @classmethod
    def of(cls, layouts: Iterable[Layout]) -> Layouts:
        """Arrays of a list of layouts; `shard_size` 0 becomes dp * cp."""
        rows = list(layouts)
        columns: dict[str, Any] = {}
        for field in fields(cls):
            values = [getattr(row, field.name) for row in rows]
            if field.name == "recompute":
                values = [RECOMPUTE.index(value) for value in values]
            columns[field.name] = np.array(values, dtype=bool if field.name == "sequence_parallel" else np.int64)
        columns["shard_size"] = np.where(
            columns["shard_size"] == 0, columns["dp"] * columns["cp"], columns["shard_size"]
        )
        return cls(**columns)

    def __len__(self) -> int:
        return len(self.tp)

    def __getitem__(self, index: int) -> Layout:
        values = {field.name: getattr(self, field.name)[index].item() for field in fields(self)}
        values["recompute"] = RECOMPUTE[values["recompute"]]
        if values["shard_size"] == values["dp"] * values["cp"]:
            values["shard_size"] = 0
        return Layout(**values)

    def select(self, which: Ints | Bools) -> Layouts:
        """The layouts at these indices, or where this mask is true."""
        return Layouts(**{field.name: getattr(self, field.name)[which] for field in fields(self)})

    @property
    def world_size(self) -> Ints:
        """GPUs of each layout."""
        return self.tp * self.pp * self.cp * self.dp

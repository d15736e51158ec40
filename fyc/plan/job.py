"""A job: which model is trained, on which cluster, with which batch, by which software."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from fyc.plan.cluster import Cluster
from fyc.plan.model import ModelShape
from fyc.plan.stack import Stack

Precision = Literal["fp16", "bf16", "fp8", "mxfp8", "nvfp4"]


class Job(BaseModel):
    """What is to be trained, before anything is said about the layout."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: ModelShape
    cluster: Cluster
    stack: Stack
    sequence: int = Field(ge=1, description="Tokens of one sequence.")
    global_batch: int = Field(ge=1, description="Sequences of one optimizer step.")
    precision: Precision = Field("bf16", description="What the matrix products compute in.")

    @property
    def tokens(self) -> int:
        """Tokens of one optimizer step."""
        return self.sequence * self.global_batch

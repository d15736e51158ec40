"""A cluster: which GPUs, how many, and how they are connected."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from fyc.plan.description import read_description
from fyc.plan.hardware import Gpu, gpu

MOST_NODES = 100_000


class Cluster(BaseModel):
    """GPUs and their network. Bandwidths are GB/s (1e9 bytes) for one GPU in one direction."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    gpu: Gpu = Field(description="A GPU type by name, or the path of a hardware file.")
    nodes: int = Field(ge=1, le=MOST_NODES, description="Machines.")
    gpus_per_node: int = Field(8, ge=1, le=1024, description="GPUs in one machine.")
    network_gbs: float = Field(gt=0, description="Network bandwidth that one GPU has to itself, GB/s.")
    network_share: float = Field(0.916, gt=0, le=1, description="Share of it that a large collective reaches.")
    latency_us: float = Field(14.7, ge=0, description="Latency of one step of a collective between machines.")
    nvlink_domain: int = Field(0, ge=0, description="GPUs that NVLink connects; 0 is those of one machine.")
    reserve_gib: float = Field(2.0, ge=0, description="Memory of a GPU to leave free, GiB.")
    host_memory_gib: float | None = Field(None, gt=0, description="Memory of one machine, GiB.")

    @field_validator("gpu", mode="before")
    @classmethod
    def _named(cls, value: Any) -> Any:
        return gpu(value) if isinstance(value, str) else value

    @field_validator("nodes", "gpus_per_node", "nvlink_domain", "network_gbs", mode="before")
    @classmethod
    def _a_number(cls, value: Any) -> Any:
        if isinstance(value, bool):
            raise PydanticCustomError("number", "Input should be a number")
        return value

    @model_validator(mode="after")
    def _leaves_memory(self) -> Self:
        if self.reserve_gib >= self.gpu.memory_gib.value:
            raise ValueError(f"reserve_gib {self.reserve_gib:g} leaves nothing of {self.gpu.memory_gib.value:.1f} GiB")
        return self

    def model_post_init(self, context: Any) -> None:
        """Give the NVLink domain its default."""
        del context
        if self.nvlink_domain == 0:
            object.__setattr__(self, "nvlink_domain", self.gpus_per_node)

    @property
    def gpus(self) -> int:
        """GPUs in all."""
        return self.nodes * self.gpus_per_node


def read_cluster(path: Path) -> Cluster:
    """A cluster from its YAML file; a hardware file that it names is looked for beside it.

    Raises:
        PlanError: FYC-L04 with the field that is missing or wrong; FYC-L02 for an unknown GPU.
    """
    example = "it needs gpu, nodes, gpus_per_node and network_gbs, as docs/plan.md shows"
    return read_description(path, Cluster, "FYC-L04", "cluster file", example, beside=("gpu",))

"""A cluster: which GPUs, how many, and how they are connected."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from fyc.errors import PlanError
from fyc.plan.hardware import Gpu, gpu


class Cluster(BaseModel):
    """GPUs and their network. Bandwidths are GB/s (1e9 bytes) for one GPU in one direction."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gpu: Gpu = Field(description="A GPU type by name, or the path of a hardware file.")
    nodes: int = Field(ge=1, description="Machines.")
    gpus_per_node: int = Field(8, ge=1, description="GPUs in one machine.")
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
    """A cluster from its YAML file.

    Raises:
        PlanError: FYC-L04 with the field that is missing or wrong; FYC-L02 for an unknown GPU.
    """
    try:
        data = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise PlanError("FYC-L04", "the cluster file cannot be read", where=str(path), why=str(error)) from error
    except YAMLError as error:
        raise PlanError("FYC-L04", "the cluster file is not YAML", where=str(path), why=str(error)) from error
    try:
        return Cluster.model_validate(data)
    except ValidationError as error:
        item = error.errors()[0]
        name = ".".join(str(part) for part in item["loc"])
        raise PlanError(
            "FYC-L04",
            f"the cluster file is not valid: {name + ': ' if name else ''}{item['msg']}",
            where=str(path),
            next="it needs gpu, nodes, gpus_per_node and network_gbs; nothing about hardware is guessed",
        ) from error

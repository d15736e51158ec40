"""GPU types: published specifications and micro-benchmark constants, each with its source, from one file a type."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from fyc.errors import PlanError
from fyc.plan.description import read_description
from fyc.ui.text import did_you_mean


class Constant(BaseModel):
    """A number with where it comes from and how far it may be off."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    value: float = Field(gt=0)
    source: str = Field(min_length=3, description="Document, or the measurement and what it was fitted on.")


class AttentionRates(BaseModel):
    """Share of the peak that one attention kernel reaches on long sequences, causal work counted once."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    forward: Constant
    backward: Constant


class Gpu(BaseModel):
    """A GPU type. Units: GiB, TFLOP/s (dense), GB/s (1e9 bytes, one direction), microseconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    device: Literal["cuda", "cpu"] = Field("cuda", description="What trains: a GPU, or a process on CPU cores.")
    memory_gib: Constant = Field(description="Memory that an allocation can use, GiB.")
    sms: Constant = Field(description="Streaming multiprocessors.")
    peak_16: Constant = Field(description="Dense peak of fp16 and bf16, TFLOP/s.")
    peak_8: Constant | None = Field(None, description="Dense peak of fp8, TFLOP/s; absent where there is none.")
    peak_4: Constant | None = Field(None, description="Dense peak of nvfp4, TFLOP/s.")
    hbm: Constant = Field(description="Memory bandwidth, GB/s.")
    nvlink: Constant = Field(description="NVLink bandwidth of one GPU, one direction, GB/s.")
    gemm_16: Constant = Field(description="Share of the 16-bit peak that a large product sustains.")
    gemm_8: Constant | None = Field(None, description="Share of the fp8 peak that a large product sustains.")
    gemm_4: Constant | None = Field(None, description="Share of the fp4 peak that a large product sustains.")
    hbm_share: Constant = Field(description="Share of the memory bandwidth that a streaming kernel reaches.")
    nvlink_share: Constant = Field(description="Share of the NVLink bandwidth that a large collective reaches.")
    nvlink_latency_us: Constant = Field(description="Latency of one step of a collective inside the NVLink domain.")
    kernel_us: Constant = Field(description="Time from one kernel to the next in a busy stream.")
    attention: dict[str, AttentionRates] = Field(description="Flash attention kernels by generation.")
    context_gib: Constant = Field(description="CUDA context and loaded kernels, GiB.")


def gpu(name: str) -> Gpu:
    """A GPU type by name, or from a YAML file of the user's.

    Raises:
        PlanError: FYC-L02, there is no such type or the file is wrong.
    """
    if name.endswith((".yaml", ".yml")):
        return read_gpu(Path(name))
    known = gpu_names()
    if name not in known:
        raise PlanError(
            "FYC-L02",
            f"there is no GPU type `{name}`",
            next=did_you_mean(name, known) or f"known types: {', '.join(known)}; or give a YAML file of your own",
        )
    return _shipped(name)


@cache
def _shipped(name: str) -> Gpu:
    return read_gpu(_folder() / f"{name}.yaml")


def gpu_names() -> list[str]:
    """The GPU types that come with fyc."""
    return sorted(path.stem for path in _folder().glob("*.yaml"))


def read_gpu(path: Path) -> Gpu:
    """A GPU type from its file.

    Raises:
        PlanError: FYC-L02 with the field that is missing or wrong.
    """
    example = "compare it with a shipped one: `fyc plan gpus h100-sxm`"
    return read_description(path, Gpu, "FYC-L02", "hardware file", example)


def _folder() -> Path:
    return Path(str(files("fyc.plan") / "data" / "gpus"))

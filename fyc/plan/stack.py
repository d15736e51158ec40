"""Software stacks: what a training framework does that changes time and memory, each fact with its source."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from ruamel.yaml import YAML

from fyc.errors import PlanError
from fyc.ui.text import did_you_mean

Dimension = Literal["tp", "pp", "vpp", "cp", "ep"]


class Stack(BaseModel):
    """A training framework of one era. Shares lie between 0 and 1; bytes are for one parameter or one logit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    source: str = Field(min_length=3, description="Where the facts come from.")
    dimensions: tuple[Dimension, ...] = Field(description="Parallel dimensions it has besides data parallelism.")
    zero: tuple[Literal[0, 1, 2, 3], ...] = Field(description="What it can shard over data parallel ranks.")
    attention: str = Field(description="`unfused`, or a flash attention generation of the hardware files.")
    causal: bool = Field(True, description="Whether the attention kernel skips what the causal mask hides.")
    elementwise: float = Field(ge=0.5, description="Memory traffic between the products, relative to fused kernels.")
    dropout: bool = Field(False, description="Whether dropout is on, with its masks kept for the backward pass.")
    host_us: float = Field(ge=0, description="Host time to launch one layer forward; the step is never faster.")
    gradient_bytes: int = Field(description="Bytes of one gradient between backward and optimizer.")
    reduce_bytes: float = Field(description="Bytes of one gradient on the network.")
    reduce_whole: bool = Field(False, description="Gradients are all-reduced also where optimizer states are sharded.")
    weight_bytes: int = Field(2, description="Bytes of one weight that the passes compute with and that stay resident.")
    optimizer_bytes: int = Field(12, description="Bytes of master weight and optimizer states of one parameter.")
    overlap_tensor: float = Field(0.0, ge=0, le=1, description="Share of tensor parallel traffic hidden by compute.")
    overlap_data: float = Field(0.0, ge=0, le=1, description="Share of the gradient reduction that backward can hide.")
    overlap_shard: float = Field(0.8, ge=0, le=1, description="Share of compute that parameter gathers can hide in.")
    overlap_expert: float = Field(0.0, ge=0, le=1, description="Share of the experts' all-to-all that is hidden.")
    expert_tensor_parallel: bool = Field(False, description="Whether tensor parallelism cuts experts too.")
    scatter_pipeline: bool = Field(True, description="Whether tensor ranks share the sending of stage boundaries.")
    logit_traffic: float = Field(ge=0, description="Bytes moved in all for the loss of one logit, beyond the products.")
    logit_bytes: float = Field(ge=0, description="Bytes alive at the peak for one logit.")
    pad_vocab: int = Field(1, ge=1, description="The vocabulary is padded to a multiple of this, times tp.")
    selective_products: float = Field(0.0, ge=0, le=1, description="Products that selective recomputation repeats.")
    selective_attention: bool = Field(True, description="Whether selective recomputation repeats attention.")
    expert_bias: float = Field(1.0, ge=1, description="Factor on memory traffic of experts with biases, not fused.")
    selective_memory: float = Field(1.0, ge=0, le=1, description="Activations that selective recomputation keeps.")
    boundary_copies: int = Field(
        1, ge=1, description="Tensors of a stage's input that each micro-batch in flight holds."
    )
    copies_heads: bool = Field(True, description="Whether tp may exceed the key and value heads, which are copied.")
    tied_pipeline: bool = Field(True, description="Whether a tied embedding may lie on two pipeline stages.")
    gathered_inputs: bool = Field(False, description="Sequence parallel inputs are kept whole, not only their part.")
    keeps_gathered: bool = Field(False, description="In a pipeline, sharded parameters stay whole for the whole step.")
    workspace_gib: float = Field(0.0, ge=0, description="Buckets and buffers of the framework, GiB.")
    gradient_bytes_bf16: int = Field(0, description="Bytes more of a gradient when training in bf16, not fp16.")
    activation_slack: float = Field(1.0, ge=0.5, description="Activations kept, relative to what backward must have.")


def stack(name: str) -> Stack:
    """A stack that comes with fyc.

    Raises:
        PlanError: FYC-L03, there is none of this name.
    """
    known = stacks()
    if name not in known:
        raise PlanError("FYC-L03", f"there is no software stack `{name}`", next=did_you_mean(name, known))
    return known[name]


@cache
def stacks() -> dict[str, Stack]:
    """All stacks that come with fyc, by name."""
    folder = Path(str(files("fyc.plan") / "data"))
    data = YAML(typ="safe", pure=True).load((folder / "stacks.yaml").read_text(encoding="utf-8"))
    return {name: Stack(name=name, **entry) for name, entry in data.items()}

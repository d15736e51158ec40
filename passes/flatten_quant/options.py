"""The options of flatten-quant."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from fyc_kernels.flatten_quantize import Split
from fyc_passes.flatten_quant.weights import Granularity
from pydantic import Field, model_validator

from fyc import PassOptions

Precision = Literal["int8", "int4", "mixed"]


class FlattenQuantOptions(PassOptions):
    """Options of flatten-quant."""

    weights: Precision = "int8"
    """Bits of the weights; `mixed` chooses INT4 or INT8 group by group."""
    activations: Precision = "int8"
    """Bits of the activations; `mixed` exactly when `weights` is `mixed`."""
    int4_share: Annotated[float, Field(gt=0, le=1)] = 0.4829
    """For `mixed`: share of the linear multiply-accumulates that has INT4 weights and INT4 activations. Extra columns
    do not count."""
    expansion: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Extra columns on average over all groups, as a share of the input columns."""
    max_group_expansion: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Most extra columns of one group, as a share of its input columns."""
    split: Split = "radix"
    """How a large channel is spread over columns: `radix` digits (each extra column adds 4 or 8 bits), or `unary`
    pieces that are added up, as in the paper."""
    granularity: Granularity = "channel"
    """Weight scales: one for each output `channel`, or one for the whole `tensor`, as in the paper."""
    rounding: Literal["auto", "nearest", "gptq"] = "auto"
    """How weights are rounded; `auto` is `gptq` for INT4 and `nearest` for INT8."""
    damping: Annotated[float, Field(gt=0, le=1)] = 0.01
    """For `gptq`: what is added to the diagonal of the Hessian, as a share of its mean."""
    smoothing: Literal["search", "none"] = "search"
    """Move range from activations to weights by a factor for each channel; the strength with the smallest output error
    is chosen for each group."""
    shift: bool = True
    """Subtract an offset from each channel before quantizing (its mean over the first calibration window, in which
    rows count as they do everywhere); what that changes in the output goes into the bias."""
    search: Literal["error", "none"] = "error"
    """How steps are found. `error`: those of activations and weights that give the smallest output error, for the
    activations under the budget of extra columns. `none`: the smallest that clip nothing of the calibration text and
    of the weights."""
    headroom: Annotated[float, Field(ge=1, le=16)] = 2.0
    """How much larger values of other text may be than what calibration saw: the search counts the largest value of
    each channel once more, that much larger. With `search: none` all that range is kept free."""
    select: Literal["divergence", "nll", "kl", "random", "order"] = "divergence"
    """For `mixed`: what ranks the groups. `divergence`: KL divergence of the model's predictions when only this group
    is INT4, per multiply-accumulate; `nll`: the same with the change in loss; `kl`: our reading of the paper, the
    divergence between the group's outputs in float and in INT4; `random`, `order`: for comparison."""
    branch_windows: Annotated[int, Field(ge=0)] = 2
    """Calibration windows on which the effect of each group on the predictions is measured; it decides who gets the
    extra columns, too. 0 measures nothing and takes all groups as equally sensitive."""
    head: Literal["none", "int8"] = "none"
    """Whether the embedding and the language-model head become INT8, with one scale for each row."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if (self.weights == "mixed") != (self.activations == "mixed"):
            raise ValueError("weights and activations are both `mixed`, or neither is")
        if self.expansion > self.max_group_expansion:
            raise ValueError("expansion is an average, so max_group_expansion must be at least as large")
        if self.weights == "mixed" and self.select in ("divergence", "nll") and not self.branch_windows:
            raise ValueError(f"select: {self.select} needs branch_windows of at least 1")
        return self

    @property
    def mixed(self) -> bool:
        """Whether bits are chosen group by group."""
        return self.weights == "mixed"

    def bits(self) -> list[tuple[int, int]]:
        """The (weight, activation) bits that a group can have."""
        if self.mixed:
            return [(8, 8), (4, 4)]
        return [(4 if self.weights == "int4" else 8, 4 if self.activations == "int4" else 8)]

    def rounds_with_gptq(self, weight_bits: int) -> bool:
        """Whether weights of these bits are rounded with GPTQ."""
        return self.rounding == "gptq" or (self.rounding == "auto" and weight_bits == 4)

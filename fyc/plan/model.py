"""The shape of a transformer: the few numbers from which parameters, FLOPs and bytes follow."""

from __future__ import annotations

from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field


class Projection(NamedTuple):
    """A weight matrix of a layer: `k` inputs, `n` outputs, and how tensor parallelism cuts it."""

    k: int
    n: int
    split: Literal["column", "row", "none"]


class Experts(BaseModel):
    """Mixture-of-experts part of the MLP layers."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    count: int = Field(ge=1, description="Routed experts of one layer.")
    top_k: int = Field(ge=1, description="Experts that one token visits.")
    ffn: int = Field(ge=1, description="Inner width of one routed expert.")
    shared_ffn: int = Field(0, ge=0, description="Inner width of the experts every token visits, together.")
    dense_layers: int = Field(0, ge=0, description="Layers whose MLP is dense, of width `ffn` of the model.")
    router_bias: bool = Field(False, description="Whether the router has a bias for each expert.")
    shared_gate: bool = Field(False, description="Whether a learned gate weighs the shared experts.")


class LatentAttention(BaseModel):
    """Multi-head latent attention (DeepSeek-V2, arXiv 2405.04434): low-rank query, key and value projections."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    q_rank: int = Field(ge=0, description="Rank of the query projection; 0 is a full matrix.")
    kv_rank: int = Field(ge=1, description="Rank of the joint key and value projection.")
    nope_dim: int = Field(ge=1, description="Width of a head's part without position.")
    rope_dim: int = Field(ge=1, description="Width of a head's part with rotary position.")
    value_dim: int = Field(ge=1, description="Width of a value head.")


class ModelShape(BaseModel):
    """Dimensions of a decoder-only transformer.

    All counts are of parameters, all widths of features. `counted_parameters` is the number of parameters of the real
    model, when it was built on the meta device; the formulas serve where there are only dimensions.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="What the model is called.")
    hidden: int = Field(ge=1, description="Width of the residual stream.")
    layers: int = Field(ge=1, description="Number of transformer layers.")
    heads: int = Field(ge=1, description="Query heads.")
    kv_heads: int = Field(ge=1, description="Key and value heads.")
    head_dim: int = Field(ge=1, description="Width of one head.")
    ffn: int = Field(ge=1, description="Inner width of a dense MLP.")
    vocab: int = Field(ge=1, description="Tokens in the vocabulary.")
    gated: bool = Field(description="Whether the MLP has a gate (SwiGLU, GeGLU).")
    tied: bool = Field(description="Whether the embedding and the head are one matrix.")
    rms_norm: bool = Field(description="RMS norm (one vector) or layer norm (two).")
    bias: bool = Field(description="Whether all projections have a bias.")
    qkv_bias: bool = Field(False, description="Whether the query, key and value projections have one all the same.")
    output_bias: bool = Field(False, description="Whether the output projection of attention has.")
    mlp_bias: bool = Field(False, description="Whether the projections of the MLPs have.")
    head_bias: bool = Field(False, description="Whether the language model head has a bias.")
    norms: int = Field(2, ge=0, description="Norms of one layer, those of queries and keys not counted.")
    outer_norms: int = Field(1, ge=0, description="Norms outside the layers: the last one, one after the embedding.")
    qk_norm: int = Field(0, ge=0, description="Parameters of the norms of queries and keys of one layer.")
    sinks: bool = Field(False, description="Whether each query head has a learned attention sink.")
    positions: int = Field(0, ge=0, description="Learned positions; 0 with rotary or ALiBi.")
    experts: Experts | None = Field(None, description="Mixture of experts, if it is one.")
    latent: LatentAttention | None = Field(None, description="Latent attention, if it is used.")
    window: int = Field(0, ge=0, description="Sliding attention window of `windowed_layers`; 0 is none.")
    windowed_layers: int = Field(0, ge=0, description="Layers that attend within the window.")
    prediction_layers: int = Field(0, ge=0, description="Extra multi-token prediction layers that training runs.")
    counted_parameters: int | None = Field(None, ge=1, description="Parameters of the real model on the meta device.")

    @property
    def moe_layers(self) -> int:
        """Layers with routed experts."""
        return self.layers - self.experts.dense_layers if self.experts else 0

    @property
    def dense_layers(self) -> int:
        """Layers with a dense MLP."""
        return self.layers - self.moe_layers

    def attention_projections(self) -> tuple[Projection, ...]:
        """The weight matrices of attention, query, key and value as one where they are computed as one."""
        if self.latent is None:
            inner = self.heads * self.head_dim
            joint = inner + 2 * self.kv_heads * self.head_dim
            return Projection(self.hidden, joint, "column"), Projection(inner, self.hidden, "row")
        m = self.latent
        query = self.heads * (m.nope_dim + m.rope_dim)
        first = (
            [Projection(self.hidden, m.q_rank, "none"), Projection(m.q_rank, query, "column")]
            if m.q_rank
            else [Projection(self.hidden, query, "column")]
        )
        return (
            *first,
            Projection(self.hidden, m.kv_rank + m.rope_dim, "none"),
            Projection(m.kv_rank, self.heads * (m.nope_dim + m.value_dim), "column"),
            Projection(self.heads * m.value_dim, self.hidden, "row"),
        )

    def mlp_projections(self, ffn: int) -> tuple[Projection, ...]:
        """The weight matrices of an MLP of inner width `ffn`, gate and up as one."""
        return Projection(self.hidden, ffn * (2 if self.gated else 1), "column"), Projection(ffn, self.hidden, "row")

    @property
    def query_dim(self) -> int:
        """Width of one head of the queries and keys."""
        return self.latent.nope_dim + self.latent.rope_dim if self.latent else self.head_dim

    @property
    def value_dim(self) -> int:
        """Width of one head of the values."""
        return self.latent.value_dim if self.latent else self.head_dim

    @property
    def attention_parameters(self) -> int:
        """Parameters of the attention of one layer."""
        count = _size(self.attention_projections(), self.bias)
        if self.qkv_bias and not self.bias:
            count += (self.heads + 2 * self.kv_heads) * self.head_dim
        if self.output_bias and not self.bias:
            count += self.hidden
        if self.latent:
            count += self.latent.q_rank + self.latent.kv_rank
        return count + self.qk_norm + (self.heads if self.sinks else 0)

    @property
    def norm_parameters(self) -> int:
        """Parameters of the norms of one layer."""
        return self.norms * self._norm

    @property
    def _norm(self) -> int:
        return self.hidden * (1 if self.rms_norm else 2)

    @property
    def _mlp_bias(self) -> bool:
        return self.bias or self.mlp_bias

    @property
    def dense_mlp_parameters(self) -> int:
        """Parameters of one dense MLP."""
        return _size(self.mlp_projections(self.ffn), self._mlp_bias)

    @property
    def expert_parameters(self) -> int:
        """Parameters of all routed experts of one layer."""
        if self.experts is None:
            return 0
        return self.experts.count * _size(self.mlp_projections(self.experts.ffn), self._mlp_bias)

    @property
    def shared_parameters(self) -> int:
        """Parameters of the router and the shared experts of one layer."""
        if self.experts is None:
            return 0
        router = self.experts.count * (self.hidden + self.experts.router_bias)
        gate = self.hidden if self.experts.shared_gate else 0
        if not self.experts.shared_ffn:
            return router + gate
        return router + gate + _size(self.mlp_projections(self.experts.shared_ffn), self._mlp_bias)

    @property
    def embedding_parameters(self) -> int:
        """Parameters of the token embedding; the head has as many where it is not tied."""
        return self.vocab * self.hidden

    @property
    def layer_parameters(self) -> int:
        """Parameters of all layers."""
        each = self.attention_parameters + self.norm_parameters
        dense = self.dense_layers * self.dense_mlp_parameters
        return self.layers * each + dense + self.moe_layers * (self.expert_parameters + self.shared_parameters)

    @property
    def parameters(self) -> int:
        """All parameters: those of the real model if they were counted, else what the formulas say."""
        return self.counted_parameters or self.formula_parameters

    @property
    def formula_parameters(self) -> int:
        """All parameters as the dimensions give them, without multi-token prediction."""
        ends = self.embedding_parameters * (1 if self.tied else 2) + self.positions * self.hidden
        ends += self.vocab if self.head_bias else 0
        return self.layer_parameters + ends + self.outer_norms * self._norm

    @property
    def active_parameters(self) -> int:
        """Parameters of matrices that one token is multiplied with, without embedding and head."""
        mlp = self.dense_layers * self.dense_mlp_parameters
        if self.experts:
            mlp += self.moe_layers * self.shared_parameters
            mlp += self.moe_layers * self.expert_parameters * self.experts.top_k // self.experts.count
        return self.layers * self.attention_parameters + mlp

    def flops_per_token(self, sequence: int) -> float:
        """Model FLOPs of forward and backward for one token, causal attention counted in full (PaLM, appendix B)."""
        full = self.layers - self.windowed_layers
        reach = full * sequence + self.windowed_layers * min(self.window, sequence)
        scores = 2.0 * self.heads * (self.query_dim + self.value_dim) * reach
        return 3.0 * (2.0 * (self.active_parameters + self.embedding_parameters) + scores)


def _size(projections: tuple[Projection, ...], bias: bool) -> int:
    return sum(p.n * (p.k + bias) for p in projections)

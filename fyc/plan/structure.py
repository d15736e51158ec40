"""What a causal language model is made of, read from the modules of the real model: nothing is known by its name
but the parts of attention, of experts, and of norms."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from math import prod
from typing import Any

from torch import nn

from fyc.plan.model import LatentAttention

_QUERY_KEY_VALUE = re.compile(r"(^|\.)(q|k|v|query|key|value|qkv|query_key_value|c_attn|Wqkv)(_proj)?$")
_NORM = re.compile(r"norm|(^|[._])ln($|[._\d])")


class UnknownStructureError(Exception):
    """The model is not the plain transformer that `fyc.plan.model` describes; the message says what differs."""


@dataclass(frozen=True)
class Matrix:
    """A projection: features in, features out, and whether it has a bias."""

    inputs: int
    outputs: int
    bias: bool

    @property
    def size(self) -> int:
        """Its weights."""
        return self.inputs * self.outputs


@dataclass(frozen=True)
class Attention:
    """The attention of a layer. `qk_norm` is the number of parameters of the norms of queries and keys."""

    kv_heads: int
    head_dim: int
    qkv_bias: bool
    output_bias: bool
    qk_norm: int
    sinks: bool
    latent: LatentAttention | None


@dataclass(frozen=True)
class Mlp:
    """A dense MLP, or one expert."""

    ffn: int
    gated: bool
    bias: bool


@dataclass(frozen=True)
class Mixture:
    """The experts of a layer."""

    count: int
    expert: Mlp
    shared_ffn: int
    shared_gate: bool
    router_bias: bool


@dataclass(frozen=True)
class Layer:
    """A layer: attention, its norms of the model's width, and either one MLP or experts."""

    attention: Attention
    norms: int
    norm_bias: bool
    mlp: Mlp | Mixture


@dataclass(frozen=True)
class Ends:
    """What lies outside the layers."""

    vocab: int
    tied: bool
    head_bias: bool
    positions: int
    norms: int
    norm_bias: bool


def unique_parameters(module: nn.Module) -> int:
    """Parameters, each tensor once."""
    return sum(parameter.numel() for parameter in module.parameters())


def read_layers(model: Any, heads: int) -> Counter[Layer]:
    """The kinds of layers of a model, in order of their first use, and how many there are of each.

    Args:
        model: a causal language model of transformers; the meta device will do.
        heads: its query heads.

    Raises:
        UnknownStructureError: a layer is not attention and an MLP.
    """
    hidden = int(model.get_input_embeddings().weight.shape[1])
    kinds: dict[tuple[tuple[str, tuple[int, ...]], ...], Layer] = {}
    found: Counter[Layer] = Counter()
    for layer in _layer_list(model):
        shapes = tuple((name, tuple(p.shape)) for name, p in layer.named_parameters())
        if shapes not in kinds:
            kinds[shapes] = _layer(layer, hidden, heads)
        found[kinds[shapes]] += 1
    return found


def read_ends(model: Any) -> Ends:
    """Embedding, head, learned positions and the norms outside the layers."""
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    if head is None:
        raise UnknownStructureError("it has no language model head")
    vocab, hidden = embedding.weight.shape
    within = {id(m) for m in _layer_list(model).modules()}
    outer = [(name, m) for name, m in model.named_modules() if id(m) not in within]
    tables = [m for _, m in outer if isinstance(m, nn.Embedding) and m is not embedding]
    norms = [m for name, m in outer if _is_norm(name, m, hidden)]
    return Ends(
        vocab=int(vocab),
        tied=head.weight is embedding.weight,
        head_bias=getattr(head, "bias", None) is not None,
        positions=sum(int(table.num_embeddings) for table in tables if table.embedding_dim == hidden),
        norms=len(norms),
        norm_bias=any(getattr(norm, "bias", None) is not None for norm in norms),
    )


def _layer_list(model: nn.Module) -> nn.ModuleList:
    """The list of modules with the most parameters is that of the layers."""
    lists = [m for m in model.modules() if isinstance(m, nn.ModuleList)]
    if not lists:
        raise UnknownStructureError("it has no list of layers")
    return max(lists, key=unique_parameters)


def _layer(layer: nn.Module, hidden: int, heads: int) -> Layer:
    norms: list[nn.Module] = []
    attention: dict[str, nn.Module] = {}
    rest: dict[str, nn.Module] = {}
    for name, child in layer.named_children():
        if _is_norm(name, child, hidden):
            norms.append(child)
        elif any(True for _ in child.parameters()):
            (attention if "attn" in name or "attention" in name else rest)[name] = child
    if len(attention) != 1:
        names = ", ".join(attention) or ", ".join(rest) or "nothing"
        raise UnknownStructureError(f"a layer needs one attention module, this one has {names}")
    return Layer(
        attention=_attention(next(iter(attention.values())), hidden, heads),
        norms=len(norms),
        norm_bias=any(getattr(norm, "bias", None) is not None for norm in norms),
        mlp=_mlp_or_mixture(rest, hidden),
    )


def _is_norm(name: str, module: nn.Module, hidden: int) -> bool:
    own = [p for p in module.parameters(recurse=False) if p is not None]
    named = _NORM.search(name) or "Norm" in type(module).__name__
    return bool(named and own and all(p.ndim == 1 and p.numel() == hidden for p in own))


def _matrices(module: nn.Module) -> dict[str, Matrix]:
    """The projections below a module by path: linear layers, and the transposed ones of GPT-2."""
    found = {}
    for name, child in module.named_modules():
        weight = getattr(child, "weight", None)
        if not isinstance(weight, nn.Parameter) or weight.ndim != 2 or isinstance(child, nn.Embedding):
            continue
        rows, columns = (int(n) for n in weight.shape)
        sides = (rows, columns) if type(child).__name__ == "Conv1D" else (columns, rows)
        found[name] = Matrix(*sides, getattr(child, "bias", None) is not None)
    return found


def _attention(module: nn.Module, hidden: int, heads: int) -> Attention:
    norms = sum(p.numel() for name, p in module.named_parameters() if _NORM.search(name.rpartition(".")[0]))
    sinks = any(name.endswith("sinks") for name, _ in module.named_parameters())
    matrices = {name: m for name, m in _matrices(module).items() if not _NORM.search(name)}
    if any("kv_a_proj" in name for name in matrices):
        return _latent_attention(matrices, norms, hidden, heads)
    inward = {name: m for name, m in matrices.items() if _QUERY_KEY_VALUE.search(name)}
    outward = [m for name, m in matrices.items() if name not in inward]
    if not inward or len(outward) != 1:
        raise UnknownStructureError(f"its attention has the projections {', '.join(matrices) or 'none'}")
    width = outward[0].inputs
    joint = sum(m.outputs for m in inward.values())
    head_dim, kv_heads = width // heads, (joint - width) * heads // (2 * width)
    whole = head_dim * heads == width and width + 2 * kv_heads * head_dim == joint and kv_heads > 0
    if not whole or outward[0].outputs != hidden or any(m.inputs != hidden for m in inward.values()):
        raise UnknownStructureError(f"queries, keys and values of {joint} features do not fit {heads} heads of {width}")
    return Attention(
        kv_heads=kv_heads,
        head_dim=head_dim,
        qkv_bias=_all_or_none("query, key and value", inward.values()),
        output_bias=outward[0].bias,
        qk_norm=norms,
        sinks=sinks,
        latent=None,
    )


def _latent_attention(matrices: dict[str, Matrix], norms: int, hidden: int, heads: int) -> Attention:
    """Attention of DeepSeek-V2 and V3 (arXiv 2405.04434, section 2.1): ranks and widths follow from the matrices."""
    by_name = {name.rpartition(".")[2].removesuffix("_with_mqa"): m for name, m in matrices.items()}
    if by_name.keys() not in ({"q_proj", *_LATENT}, {"q_a_proj", "q_b_proj", *_LATENT}):
        raise UnknownStructureError(f"its latent attention has the projections {', '.join(matrices)}")
    kv_a, kv_b, out = (by_name[name] for name in _LATENT)
    query = by_name.get("q_b_proj") or by_name["q_proj"]
    q_rank, kv_rank = (query.inputs if "q_b_proj" in by_name else 0), kv_b.inputs
    rope, value = kv_a.outputs - kv_rank, out.inputs // heads
    nope = query.outputs // heads - rope
    if kv_b.outputs != heads * (nope + value) or out.outputs != hidden or any(m.bias for m in matrices.values()):
        raise UnknownStructureError(f"the widths of its latent attention do not fit {heads} heads")
    latent = LatentAttention(q_rank=q_rank, kv_rank=kv_rank, nope_dim=nope, rope_dim=rope, value_dim=value)
    return Attention(heads, value, False, False, norms - q_rank - kv_rank, False, latent)


_LATENT = ("kv_a_proj", "kv_b_proj", "o_proj")


def _mlp_or_mixture(parts: dict[str, nn.Module], hidden: int) -> Mlp | Mixture:
    tensors = {f"{name}.{path}": p for name, part in parts.items() for path, p in part.named_parameters()}
    matrices = {f"{name}.{path}".strip("."): m for name, part in parts.items() for path, m in _matrices(part).items()}
    routed = {name: p for name, p in tensors.items() if "expert" in name and "shared" not in name}
    if not routed:
        return _mlp(matrices.values(), hidden)
    shared = {name: m for name, m in matrices.items() if "shared" in name}
    gates = [name for name, m in shared.items() if m.outputs == 1 and name.endswith("_gate")]
    inner = _mlp([m for name, m in shared.items() if name not in gates], hidden).ffn if shared else 0
    router = {name: p for name, p in tensors.items() if name not in routed and "shared" not in name}
    count, expert = _experts(routed, hidden)
    return Mixture(count, expert, inner, bool(gates), any(p.numel() == count for p in router.values()))


def _experts(tensors: dict[str, nn.Parameter], hidden: int) -> tuple[int, Mlp]:
    """Experts stacked in tensors of three dimensions, their biases in tensors of two."""
    stacks = [p for p in tensors.values() if p.ndim == 3]
    if not stacks or any(p.shape[0] != stacks[0].shape[0] or p.ndim not in (2, 3) for p in tensors.values()):
        raise UnknownStructureError(f"its experts are not stacks of equal matrices: {', '.join(tensors)}")
    bias = len(tensors) == 2 * len(stacks)
    matrices = [Matrix(hidden, prod(p.shape[1:]) // hidden, bias) for p in stacks]
    return int(stacks[0].shape[0]), _mlp(matrices, hidden)


def _mlp(matrices: Iterable[Matrix], hidden: int) -> Mlp:
    """Inner width and gate follow from the sizes: up and down are equal, gate and up together are twice as large."""
    sizes = sorted(m.size for m in matrices)
    ffn = sizes[0] // hidden if sizes else 0
    forms = {(1, 1): False, (1, 1, 1): True, (1, 2): True}
    form = tuple(size // (ffn * hidden) for size in sizes) if ffn else ()
    if form not in forms or any(size % (ffn * hidden) for size in sizes):
        raise UnknownStructureError(f"its MLP has {len(sizes)} matrices of {sizes} parameters")
    return Mlp(ffn, forms[form], _all_or_none("MLP", matrices))


def _all_or_none(what: str, matrices: Iterable[Matrix]) -> bool:
    biases = {m.bias for m in matrices}
    if len(biases) > 1:
        raise UnknownStructureError(f"some of the {what} projections have a bias and some have none")
    return biases.pop()

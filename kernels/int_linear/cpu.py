"""Fast integer products on a CPU: oneDNN's quantized linear, and `torch._int_mm`.

Both are silently wrong on CPUs without VNNI instructions (products of two codes saturate in 16 bits), so `dispatch`
tests them before it uses them.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from fyc_kernels.int_linear.reference import epilogue
from torch import Tensor


@dataclass(frozen=True)
class Part:
    """Columns of the flattened activations that one product reads.

    Attributes:
        columns: which columns of the codes.
        weight: int8 `[N, columns]`.
        count: how often the product counts.
    """

    columns: slice | Tensor
    weight: Tensor
    count: int


def parts_of(weight: Tensor, source: Tensor, counts: Tensor, width: int) -> list[Part]:
    """The products that `accumulate` consists of, as few as int8 weights allow.

    A repeated column is multiplied with its count beforehand if that still fits into int8: always for unary digits,
    and for radix digits of int4 codes. One product over all columns is then enough.

    Args:
        weight: int8 `[N, K]`.
        source: int `[E]`.
        counts: int64 `[E]`.
        width: columns of the activations, padding included.
    """
    rows, columns = weight.shape
    repeated = weight[:, source.long()].to(torch.int64) * counts
    if not repeated.numel() or (int(repeated.amin()) >= -128 and int(repeated.amax()) <= 127):
        whole = torch.zeros(rows, width, dtype=torch.int8)
        whole[:, :columns] = weight
        whole[:, columns : columns + source.numel()] = repeated.to(torch.int8)
        return [Part(slice(None), whole, 1)]
    parts = [Part(slice(0, columns), weight, 1)]
    for count in torch.unique(counts).tolist():
        chosen = (counts == count).nonzero()[:, 0]
        parts.append(Part(columns + chosen, weight[:, source.long()[chosen]].contiguous(), int(count)))
    return parts


class OneDnn:
    """`torch.ops.onednn.qlinear_pointwise` on uint8 activations with zero point 128; weights are packed once."""

    def __init__(self, parts: list[Part]) -> None:
        self._rows = parts[0].weight.shape[0]
        self._parts = [
            (part.columns, torch.ops.onednn.qlinear_prepack(part.weight, None), part.count) for part in parts
        ]
        self._zeros = torch.zeros(self._rows, dtype=torch.int32)

    def __call__(self, codes: Tensor, scale: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
        """`[M, K'] -> [M, N]`; see `reference.epilogue` for the other arguments."""
        # With int8 activations oneDNN takes a scalar loop; flipping the sign bit adds 128.
        unsigned = codes.view(torch.uint8) ^ 128
        scale = scale.expand(self._rows).contiguous()
        bias = None if bias is None else bias.to(torch.float32)
        columns, packed, count = self._parts[0]
        output: Tensor = torch.ops.onednn.qlinear_pointwise(
            unsigned[:, columns].contiguous(), float(count), 128, packed, scale, self._zeros, bias,
            1.0, 0, torch.float32, "none", [], "",
        )  # fmt: skip
        for columns, packed, count in self._parts[1:]:
            output = torch.ops.onednn.qlinear_pointwise.binary(
                unsigned[:, columns].contiguous(), float(count), 128, packed, scale, self._zeros, output, None,
                1.0, 0, torch.float32, 1.0, 0, "sum", 1.0, "none", [], "",
            )  # fmt: skip
        return output.to(dtype)


class IntMm:
    """`torch._int_mm` with the reference's epilogue."""

    def __init__(self, parts: list[Part]) -> None:
        self._parts = parts

    def __call__(self, codes: Tensor, scale: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
        """`[M, K'] -> [M, N]`; see `reference.epilogue` for the other arguments."""
        first, *others = self._parts
        sums = torch._int_mm(codes[:, first.columns].contiguous(), first.weight.T)
        for part in others:
            sums += torch._int_mm(codes[:, part.columns].contiguous(), part.weight.T) * part.count
        return epilogue(sums, scale, bias, dtype)

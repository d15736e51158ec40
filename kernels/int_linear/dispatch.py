"""Choose the fastest integer product that computes the right thing on this machine."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Literal

import torch
from fyc_kernels.int_linear.cpu import IntMm, OneDnn, parts_of
from fyc_kernels.int_linear.reference import accumulate, epilogue
from torch import Tensor

Path = Literal["onednn", "int_mm", "reference"]
Product = Callable[[Tensor, Tensor, Tensor | None, torch.dtype], Tensor]

_CLASSES: dict[Path, Callable[..., Product]] = {"onednn": OneDnn, "int_mm": IntMm}


class IntWeight:
    """An integer weight with the flatten map of its input, and what a kernel needs to run it.

    Repeated columns, padding and packing are made on first use and are never copied or stored; the codes themselves
    are asked for when they are needed, so that no second copy of them stays in memory.

    Args:
        codes: returns the weight, int8 `[N, K]`.
        source: int `[E]`, the channel that each extra column repeats.
        counts: int64 `[E]`, what a unit of the extra column counts.
        path: kernel to use; None for the fastest that passed the self-test.
    """

    def __init__(self, codes: Callable[[], Tensor], source: Tensor, counts: Tensor, path: Path | None = None) -> None:
        self._codes, self._source, self._counts = codes, source, counts
        self._path = path
        self._products: dict[int, Product] = {}

    def product(self, width: int) -> Product:
        """The kernel for activations of `width` columns."""
        if width not in self._products:
            self._products[width] = self._make(width)
        return self._products[width]

    def _make(self, width: int) -> Product:
        path = self._path or best_path(self._source.device.type)
        if path == "reference":
            return self._reference
        return _CLASSES[path](parts_of(self._codes(), self._source, self._counts, width))

    def _reference(self, codes: Tensor, scale: Tensor, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
        return epilogue(accumulate(codes, self._codes(), self._source, self._counts), scale, bias, dtype)


def int_linear(
    codes: Tensor, weight: IntWeight, scale: Tensor, bias: Tensor | None, dtype: torch.dtype
) -> Tensor:  # fmt: skip
    """Integer linear layer on flattened activations.

    Args:
        codes: int8 `[..., K + E + padding]`, from `flatten_quantize`.
        weight: the layer's integer weight.
        scale: float32 `[]` or `[N]`, activation scale times weight scale.
        bias: float `[N]` or None.
        dtype: dtype of the output.

    Returns:
        `[..., N]`. The exact paths agree bit for bit; oneDNN rounds once a product instead of once in all.
    """
    rows = codes.reshape(-1, codes.shape[-1])
    output = weight.product(rows.shape[1])(rows, scale, bias, dtype)
    return output.view(*codes.shape[:-1], output.shape[-1])


def best_path(device: str) -> Path:
    """The fastest path for a device type that passed the self-test."""
    usable = fast_paths() if device == "cpu" else {}
    return next((path for path, works in usable.items() if works), "reference")


@functools.cache
def fast_paths() -> dict[Path, bool]:
    """Which fast CPU paths compute the right thing here, fastest first; tested once a process."""
    return {path: _self_test(path) for path in _CLASSES}


def _self_test(path: Path) -> bool:
    """Whether a path agrees with the reference, with extra columns (several products) and without (one)."""
    none = torch.zeros(0, dtype=torch.int64)
    try:
        return _agrees(path, torch.tensor([0, 3]), torch.tensor([256, 256])) and _agrees(path, none, none)
    except (AttributeError, RuntimeError):
        # The private operator is gone, or this build of torch cannot run it.
        return False


def _agrees(path: Path, source: Tensor, counts: Tensor) -> bool:
    """Compare on data that holds the largest products of both signs (255 * 127 as uint8)."""
    weight = torch.full((16, 64), 127, dtype=torch.int8)
    weight[1::2] = -128
    weight[8:] = torch.arange(-128, 128).repeat(2).view(8, 64).to(torch.int8)
    codes = torch.full((8, 80), 127, dtype=torch.int8)
    codes[1::2] = -128
    codes[4:] = torch.arange(-128, 127).repeat(2)[: 4 * 80].view(4, 80).to(torch.int8)
    expected = epilogue(accumulate(codes, weight, source, counts), torch.ones(16), None, torch.float32)
    product = _CLASSES[path](parts_of(weight, source, counts, 80))
    return torch.equal(product(codes, torch.ones(16), None, torch.float32), expected)

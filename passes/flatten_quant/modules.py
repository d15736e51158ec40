"""What the pass leaves in a model: the quantize node, integer linear layers, int8 embedding and head."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from fyc_kernels.flatten_quantize import Split, digit_weight, flatten_quantize, wide_codes, wide_range
from fyc_kernels.flatten_quantize.reference import split_codes
from fyc_kernels.int_linear import IntWeight, int_linear, pack_int4, unpack_int4
from fyc_passes.flatten_quant.split import extra_columns
from fyc_passes.flatten_quant.weights import Granularity
from torch import Tensor

from fyc import FycModule, Json


class _Quantized(FycModule):
    """Buffers are what is stored; what kernels need is made from them on first use and never copied or stored."""

    def __init__(self) -> None:
        super().__init__()
        self._ready: Any = None
        self._made_from: list[tuple[Tensor, int | None]] = []

    def _cached(self, make: Callable[[], Any], *tensors: Tensor) -> Any:
        """What `make` returned, as long as none of `tensors` was replaced or written to."""
        # Tensors that were made in inference mode count no versions.
        current = [(tensor, None if tensor.is_inference() else tensor._version) for tensor in tensors]
        same = len(current) == len(self._made_from) and all(
            old is new and then == now
            for (old, then), (new, now) in zip(self._made_from, current, strict=True)
        )  # fmt: skip
        if not same:
            with torch.inference_mode(False), torch.no_grad():  # what is kept must serve training, too
                self._ready, self._made_from = make(), current
        return self._ready

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_ready": None, "_made_from": []}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> _Quantized:
        """Move like any module, but keep scales in float32: `model.to(bfloat16)` must not round them."""

        def keep_dtype(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            return tensor.to(moved.device) if moved.dtype != tensor.dtype else moved

        super()._apply(keep_dtype, recurse)
        return self


class FlattenQuantize(_Quantized):
    """Quantize the input that a group of linear layers shares, and flatten its large channels.

    Args:
        channels: K.
        extra: number of extra columns, E.
        bits: 4 or 8.
        split: how the digits of a channel count.
        smooth: whether channels have factors of their own.
        shift: whether channels have offsets of their own.

    Buffers: `scale` float32 `[]`; `smooth`, `shift` float32 `[K]`; `flatten_src` int32 `[E]`; `flatten_digit` int8
    `[E]`.
    """

    scale: Tensor
    flatten_src: Tensor
    flatten_digit: Tensor

    def __init__(self, channels: int, extra: int, bits: int, split: Split, smooth: bool, shift: bool) -> None:
        super().__init__()
        _check(bits in (4, 8) and split in ("radix", "unary"), "bits are 4 or 8, split is radix or unary")
        _check(0 < channels < 2**31 and 0 <= extra < 2**31, "channels and extra columns are counts")
        self.channels, self.bits, self.split = channels, bits, split
        self.register_buffer("scale", torch.ones((), dtype=torch.float32))
        self.register_buffer("smooth", torch.ones(channels, dtype=torch.float32) if smooth else None)
        self.register_buffer("shift", torch.zeros(channels, dtype=torch.float32) if shift else None)
        self.register_buffer("flatten_src", torch.zeros(extra, dtype=torch.int32))
        self.register_buffer("flatten_digit", torch.ones(extra, dtype=torch.int8))

    def config(self) -> dict[str, Json]:
        """Keyword arguments of the constructor."""
        return {
            "channels": self.channels,
            "extra": self.flatten_src.numel(),
            "bits": self.bits,
            "split": self.split,
            "smooth": self.smooth is not None,
            "shift": self.shift is not None,
        }

    def forward(self, x: Tensor) -> Tensor:
        """Float `[..., K]` to int8 `[..., K + E + padding]`."""
        multiplier, low, high = self._cached(self.ranges, self.scale, *self._optional(), self.flatten_src)
        return flatten_quantize(
            x, multiplier, self.shift, self.flatten_src, self.flatten_digit,
            low=low, high=high, bits=self.bits, split=self.split,
        )  # fmt: skip

    def extra_repr(self) -> str:
        """What `print(model)` says."""
        return f"{self.channels} + {self.flatten_src.numel()}, bits={self.bits}, split={self.split}"

    def _optional(self) -> list[Tensor]:
        return [] if self.smooth is None else [self.smooth]

    def ranges(self) -> tuple[Tensor, Tensor, Tensor]:
        """Multiplier (float32 `[]` or `[K]`), smallest and largest wide code of each channel (float32 `[K]`)."""
        low, high = wide_range(self.bits, self.split, extra_columns(self.flatten_src, self.channels))
        multiplier = 1 / self.scale if self.smooth is None else self.smooth / self.scale
        return multiplier, low.to(torch.float32), high.to(torch.float32)


class IntLinear(_Quantized):
    """Linear layer on flattened integer codes.

    Args:
        in_features: K, columns of the stored weight; the extra columns repeat some of them at run time.
        out_features: N.
        bits: bits of the weight, 4 (two codes a byte) or 8.
        granularity: one weight scale for the `tensor`, or one for each output `channel`.
        bias: whether there is one.
        activation_bits: bits of the codes it reads.
        split: how the digits of a channel count.

    Buffers: `weight` int8 `[N, K]` or `weight_packed` uint8 `[N, ceil(K / 2)]`; `weight_scale` float32 `[1]` or `[N]`;
    `bias` float32 `[N]`.
    """

    weight_scale: Tensor

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bits: int,
        granularity: Granularity,
        bias: bool,
        activation_bits: int,
        split: Split,
    ) -> None:
        super().__init__()
        _check(bits in (4, 8) and activation_bits in (4, 8), "bits are 4 or 8")
        _check(granularity in ("tensor", "channel") and split in ("radix", "unary"), "unknown granularity or split")
        self.in_features, self.out_features = in_features, out_features
        self.bits, self.granularity, self.activation_bits, self.split = bits, granularity, activation_bits, split
        if bits == 8:
            self.register_buffer("weight", torch.zeros(out_features, in_features, dtype=torch.int8))
        else:
            self.register_buffer("weight_packed", torch.zeros(out_features, (in_features + 1) // 2, dtype=torch.uint8))
        scales = out_features if granularity == "channel" else 1
        self.register_buffer("weight_scale", torch.ones(scales, dtype=torch.float32))
        self.register_buffer("bias", torch.zeros(out_features, dtype=torch.float32) if bias else None)

    def config(self) -> dict[str, Json]:
        """Keyword arguments of the constructor."""
        return {
            "in_features": self.in_features,
            "out_features": self.out_features,
            "bits": self.bits,
            "granularity": self.granularity,
            "bias": self.bias is not None,
            "activation_bits": self.activation_bits,
            "split": self.split,
        }

    def set_codes(self, codes: Tensor) -> None:
        """Store weight codes, int8 `[N, K]`."""
        if self.bits == 8:
            self.weight = codes.to(torch.int8)
        else:
            self.weight_packed = pack_int4(codes.to(torch.int8))

    def codes(self) -> Tensor:
        """Weight codes, int8 `[N, K]`."""
        if self.bits == 8:
            return self.weight  # type: ignore[return-value]
        return unpack_int4(self.weight_packed, self.in_features)  # type: ignore[arg-type]

    def forward(self, codes: Tensor, scale: Tensor, source: Tensor, digit: Tensor, dtype: torch.dtype) -> Tensor:
        """Product with the repeated columns, in `dtype`.

        Args:
            codes: int8 `[..., K + E + padding]` from the group's `FlattenQuantize`.
            scale: its `scale`.
            source: its `flatten_src`.
            digit: its `flatten_digit`.
            dtype: dtype of the output, `[..., N]`.
        """
        stored = self.weight if self.bits == 8 else self.weight_packed
        weight, output_scale = self._cached(
            lambda: self._prepare(stored, scale, source, digit), stored, self.weight_scale, scale, source, digit
        )
        return int_linear(codes, weight, output_scale, self.bias, dtype)

    def extra_repr(self) -> str:
        """What `print(model)` says."""
        return f"{self.in_features}, {self.out_features}, bits={self.bits}, granularity={self.granularity}"

    def _prepare(self, stored: Tensor, scale: Tensor, source: Tensor, digit: Tensor) -> tuple[IntWeight, Tensor]:
        # From the tensor and not through `self`: layers in a circle of references are freed late, block after block.
        codes = partial(unpack_int4, stored, self.in_features) if self.bits == 4 else lambda: stored
        counts = digit_weight(self.activation_bits, self.split, digit)
        return IntWeight(codes, source, counts), scale * self.weight_scale


class Int8Embedding(_Quantized):
    """Embedding stored as int8 codes with one scale a row.

    Args:
        rows: of the table.
        channels: of a row.
        dtype: name of the dtype of what it returns, `float32`, `float16` or `bfloat16`; `.to(dtype)` changes it.

    Buffers: `weight` int8 `[rows, channels]`; `weight_scale` float32 `[rows]`.
    """

    weight: Tensor
    weight_scale: Tensor

    def __init__(self, rows: int, channels: int, dtype: str) -> None:
        super().__init__()
        _check(dtype in ("float32", "float16", "bfloat16"), "the dtype is float32, float16 or bfloat16")
        self.dtype_name = dtype
        self.register_buffer("weight", torch.zeros(rows, channels, dtype=torch.int8))
        self.register_buffer("weight_scale", torch.ones(rows, dtype=torch.float32))

    def config(self) -> dict[str, Json]:
        """Keyword arguments of the constructor."""
        return {"rows": self.weight.shape[0], "channels": self.weight.shape[1], "dtype": self.dtype_name}

    def forward(self, ids: Tensor) -> Tensor:
        """int `[...]` to float `[..., channels]`."""
        rows = F.embedding(ids, self.weight) * F.embedding(ids, self.weight_scale[:, None])
        return rows.to(getattr(torch, self.dtype_name))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Int8Embedding:
        """Move like any module; the rows it gives out follow the dtype that the model gets."""
        rows = fn(torch.empty(0, dtype=getattr(torch, self.dtype_name), device=self.weight.device))
        self.dtype_name = str(rows.dtype).removeprefix("torch.")
        super()._apply(fn, recurse)
        return self

    def extra_repr(self) -> str:
        """What `print(model)` says."""
        return f"{self.weight.shape[0]}, {self.weight.shape[1]}, bits=8"


class Int8Head(_Quantized):
    """Linear layer with int8 codes, one scale a row, and activations in 16 bits scaled token by token.

    The two radix digits of an activation go through one integer product as two rows, so the weight is read once.

    Buffers: `weight` int8 `[rows, channels]`; `weight_scale` float32 `[rows]`; `bias` float32 `[rows]`.
    """

    weight: Tensor
    weight_scale: Tensor
    _BITS = 8

    def __init__(self, rows: int, channels: int, bias: bool) -> None:
        super().__init__()
        self.register_buffer("weight", torch.zeros(rows, channels, dtype=torch.int8))
        self.register_buffer("weight_scale", torch.ones(rows, dtype=torch.float32))
        self.register_buffer("bias", torch.zeros(rows, dtype=torch.float32) if bias else None)

    def config(self) -> dict[str, Json]:
        """Keyword arguments of the constructor."""
        return {"rows": self.weight.shape[0], "channels": self.weight.shape[1], "bias": self.bias is not None}

    def forward(self, x: Tensor) -> Tensor:
        """Float `[..., channels]` to float `[..., rows]` of the same dtype."""
        channels = self.weight.shape[1]
        codes = self.weight
        weight, source, digit, low, high = self._cached(lambda: self._prepare(codes), codes)
        tokens = x.reshape(-1, channels).to(torch.float32)
        scale = tokens.abs().amax(1, keepdim=True).clamp_min(1e-30) / high[0]
        wide = wide_codes(tokens / scale, torch.ones((), device=x.device), None, low, high)
        digits = split_codes(wide, source, digit, self._BITS, "radix").view(-1, 2, channels)
        sums = int_linear(digits, weight, self.weight_scale, None, torch.float32)
        logits = (sums[:, 0] + sums[:, 1] * 2**self._BITS) * scale
        if self.bias is not None:
            logits = logits + self.bias
        return logits.view(*x.shape[:-1], -1).to(x.dtype)

    def extra_repr(self) -> str:
        """What `print(model)` says."""
        return f"{self.weight.shape[1]}, {self.weight.shape[0]}, bits=8"

    def _prepare(self, codes: Tensor) -> tuple[IntWeight, Tensor, Tensor, Tensor, Tensor]:
        device, channels = codes.device, codes.shape[1]
        none = torch.zeros(0, dtype=torch.int64, device=device)
        source = torch.arange(channels, device=device)
        low, high = wide_range(self._BITS, "radix", torch.ones(channels, dtype=torch.int64, device=device))
        return IntWeight(lambda: codes, none, none), source, torch.ones_like(source), low, high


def _check(condition: bool, message: str) -> None:
    """Constructor arguments come from a manifest, too: refuse what no pass would have written."""
    if not condition:
        raise ValueError(message)

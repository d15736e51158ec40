"""Functions that block graphs call where plain torch is not enough: run-time dispatch, caches, dropout, guards."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Any

import torch.fx
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import masking_utils
from transformers.cache_utils import EncoderDecoderCache
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from fyc.errors import TraceError

#: Target of a `get_attr` node that stands for the traced module itself.
SELF = "fyc_self"
#: Attributes that hold a layer's index: they tell equal layers apart without changing what they compute.
INDEX_ATTRIBUTES = frozenset({"layer_idx", "layer_id", "layer_index", "layer_number"})
_BUILDER = re.compile("create_[a-z_]+")


def eager_attention(cls: type) -> Callable[..., Any] | None:
    """The `eager_attention_forward` of the modeling file of `cls`, or of the first base class that has one."""
    for base in cls.__mro__:
        function = getattr(sys.modules.get(base.__module__), "eager_attention_forward", None)
        if function is not None:
            return function  # type: ignore[no-any-return]
    return None


def attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    *,
    dropout: float = 0.0,
    extra: dict[str, Any] | None = None,
    **options: Any,
) -> tuple[Tensor, Tensor | None]:
    """Attend with the kernel that `module.config` names at run time.

    Args:
        module: the attention module; its config and `training` flag are read now, not when tracing.
        query: `[batch, heads, queries, head_dim]`.
        key: `[batch, kv_heads, keys, head_dim]`.
        value: `[batch, kv_heads, keys, value_dim]`.
        mask: what the model's mask builder returned, None if it chose to skip the mask.
        dropout: probability while training; 0 is used otherwise.
        extra: keyword arguments the block was called with and did not name.
        options: whatever else the model hands to its kernel (scaling, sliding_window, softcap, ...).

    Returns:
        `[batch, queries, heads, value_dim]` and the attention weights (None if the kernel has none).
    """
    config: Any = module.config
    kernel = ALL_ATTENTION_FUNCTIONS.get_interface(config._attn_implementation, eager_attention(type(module)))
    if extra:
        options = {**options, **extra}
    result: tuple[Tensor, Tensor | None] = kernel(
        module, query, key, value, mask, dropout=dropout if module.training else 0.0, **options
    )
    if module._forward_hooks:
        _capture_weights(module, result[1])
    return result


def _capture_weights(module: nn.Module, weights: Tensor | None) -> None:
    """Serve `output_attentions`: transformers collects the weights with a hook on the module that a graph inlines."""
    for hook in module._forward_hooks.values():
        if getattr(hook, "__name__", "") == "output_capturing_hook":
            # Each hook knows at which position its module returns the weights: 1 or 2.
            hook(module, (), (weights, weights, weights))


def cache_update(
    module: nn.Module,
    cache: Any,
    key: Tensor,
    value: Tensor,
    *rest: Any,
    index: str | int = "layer_idx",
    **options: Any,
) -> tuple[Tensor, Tensor]:
    """Append keys and values to the cache and return all of them; without a cache return them unchanged.

    Args:
        module: the module that owns the layer index.
        cache: a transformers Cache; of an EncoderDecoderCache the self-attention half is meant.
        key: `[batch, kv_heads, new, head_dim]`.
        value: `[batch, kv_heads, new, value_dim]`.
        rest: further positional arguments for `Cache.update`.
        index: the layer's index, or the name of the attribute that holds it. The attribute is read at run time, so that
            equal layers have equal graphs.
        options: keyword arguments for `Cache.update`.
    """
    if cache is None:
        return key, value
    if isinstance(cache, EncoderDecoderCache):
        cache = cache.self_attention_cache
    result: tuple[Tensor, Tensor] = cache.update(key, value, layer_index(module, index), *rest, **options)
    return result


def cross_cache_update(
    module: nn.Module, cache: Any, key: Tensor, value: Tensor, *, index: str | int = "layer_idx"
) -> tuple[Tensor, Tensor]:
    """Keys and values of the encoder's states: stored at the first call, read from the cache afterwards."""
    if cache is None:
        return key, value
    if not isinstance(cache, EncoderDecoderCache):
        raise TraceError(
            "FYC-G06",
            "a cross-attention layer needs an EncoderDecoderCache",
            where=type(module).__name__,
            next="let the model make its own cache, or pass an EncoderDecoderCache",
        )
    number = layer_index(module, index)
    held = cache.cross_attention_cache
    if cache.is_updated.get(number):
        return held.layers[number].keys, held.layers[number].values
    result: tuple[Tensor, Tensor] = held.update(key, value, number)
    cache.is_updated[number] = True
    return result


def layer_index(module: nn.Module, index: str | int) -> int:
    """A layer index: as given, or the named attribute of `module`."""
    if isinstance(index, int):
        return index
    if index not in INDEX_ATTRIBUTES:
        raise TraceError("FYC-G07", f"{index!r} is no attribute that holds a layer index", where=type(module).__name__)
    number: int = getattr(module, index)
    return number


def cache_length(cache: Any, module: nn.Module | None = None, index: str | int = "layer_idx") -> Any:
    """Number of positions in the cache (of `module`'s layer if given); 0 without a cache."""
    if cache is None:
        return 0
    length = cache.get_seq_length() if module is None else cache.get_seq_length(layer_index(module, index))
    # A static cache hands out the counter that its next update changes in place.
    return length.clone() if isinstance(length, Tensor) else length


def add_optional(x: Tensor, mask: Tensor | None) -> Tensor:
    """`x + mask`; `x` without a mask."""
    return x if mask is None else x + mask


def cache_mask_sizes(cache: Any, length: int, layer: int) -> tuple[int, int]:
    """Number of keys, and of keys left out before them, that `length` new positions attend to."""
    if cache is None:
        return length, 0
    sizes: tuple[int, int] = cache.get_mask_sizes(length, layer)
    return sizes


def masked_fill_optional(x: Tensor, mask: Tensor | None, value: float | Tensor) -> Tensor:
    """`x.masked_fill(mask, value)`; `x` without a mask."""
    return x if mask is None else x.masked_fill(mask, value)


def dropout(module: nn.Module, x: Tensor, p: float, inplace: bool = False) -> Tensor:
    """`F.dropout` that follows `module.training` at run time."""
    return F.dropout(x, p=p, training=module.training, inplace=inplace)


def mask(builder: str, module: nn.Module, **options: Any) -> Any:
    """Build an attention mask with the function of `transformers.masking_utils` named `builder`."""
    if _BUILDER.fullmatch(builder) is None:
        raise TraceError("FYC-G07", f"{builder!r} is no function that builds masks", where=type(module).__name__)
    cache = options.get("past_key_values")
    if isinstance(cache, EncoderDecoderCache):
        options["past_key_values"] = cache.self_attention_cache
    return getattr(masking_utils, builder)(config=module.config, **options)


def require(value: Any, expected: Any, name: str) -> None:
    """Refuse an argument whose value the graph was not made for: it was specialised to `expected`."""
    if value is expected:
        return
    if isinstance(value, Tensor) or expected is None or value != expected:
        raise TraceError(
            "FYC-G06",
            f"the block's graph was traced with {name}={expected!r} and cannot run with another value",
            where=name,
            next="call the block as the traced model calls it, or unbind it",
        )


for _effect in (cache_update, cross_cache_update, require):
    torch.fx.has_side_effect(_effect)

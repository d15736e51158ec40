"""Recording calls that transformers dispatches itself: attention kernels and mask builders."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from fyc.ir import ops
from fyc.ir.caches import CacheValue
from fyc.ir.marker import Marker

if TYPE_CHECKING:
    from fyc.ir.tracer import ValueTracer

_TENSORS = ("query", "key", "value", "mask")
_MASK_ARGUMENTS = ("config", "inputs_embeds", "attention_mask", "past_key_values", "position_ids")


def attention(
    tracer: ValueTracer,
    default: Callable[..., Any],
    module: nn.Module,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """Record a call of the kernel that the attention interface returned.

    Args:
        tracer: the tracer.
        default: the kernel that the model's code falls back to.
        module: the attention module.
        args: query, key, value and mask.
        kwargs: everything else; a `Marker` among it shows where the block's unnamed arguments go.
    """
    options = {("mask" if name == "attention_mask" else name): value for name, value in kwargs.items()}
    tensors = [args[i] if i < len(args) else options.pop(name, None) for i, name in enumerate(_TENSORS)]
    if len(args) > len(_TENSORS):
        raise tracer.unsupported("an attention kernel called with more than four positional arguments")
    if ops.eager_attention(type(module)) is not default:
        raise tracer.unsupported("an attention kernel that falls back to another function than its file's own")
    for key in [key for key, value in options.items() if isinstance(value, Marker)]:
        options["extra"] = options.pop(key).proxy
    query, keys, values = (tracer.values(t) for t in tensors[:3])
    batch, heads, length = query.shape[:3]
    with tracer.paused():
        output = query.new_empty(batch, length, heads, values.shape[-1])
        weights = query.new_empty(batch, heads, length, keys.shape[2])
    return tracer.add("call_function", ops.attention, (module, *tensors), options, (output, weights))


def mask(tracer: ValueTracer, builder: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Record a call of one of the functions of `transformers.masking_utils`, by name."""
    options = {**dict(zip(_MASK_ARGUMENTS, args, strict=False)), **kwargs}
    config = options.pop("config")
    owner = next((m for _, m in reversed(tracer.stack) if getattr(m, "config", None) is config), None)
    if owner is None:
        raise tracer.unsupported(f"{builder} with a config that no module on the way holds")
    embeds = tracer.values(options["inputs_embeds"])
    cache = tracer.values(options.get("past_key_values"))
    batch, length = embeds.shape[:2]
    keys = length + (cache.past if isinstance(cache, CacheValue) else 0)
    if options.get("encoder_hidden_states") is not None:
        keys = tracer.values(options["encoder_hidden_states"]).shape[1]
    shape = (batch, length) if builder == "create_recurrent_attention_mask" else (batch, 1, length, keys)
    dtype = embeds.dtype if config._attn_implementation == "eager" else torch.bool
    with tracer.paused():
        value = embeds.new_empty(shape, dtype=dtype)
    return tracer.add("call_function", ops.mask, (builder, owner), options, value)

"""Key/value caches while tracing: values that know only their length, and what model code sees of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor
from transformers.cache_utils import Cache, EncoderDecoderCache

from fyc.ir import ops
from fyc.ir.layer_index import LayerIndex

if TYPE_CHECKING:
    from fyc.ir.proxy import ValueProxy
    from fyc.ir.tracer import ValueTracer


class CacheValue:
    """A cache that already holds `past` positions. Works as a cache, too, where nothing is recorded."""

    stands_for: type = Cache

    def __init__(self, past: int) -> None:
        self.past = past

    def update(self, key: Tensor, value: Tensor, *unused: Any, **unused_too: Any) -> tuple[Tensor, Tensor]:
        """Keys and values with the past before them (meta tensors)."""
        return _grown(key, self.past), _grown(value, self.past)

    def get_seq_length(self, *unused: Any) -> int:
        """The number of positions held."""
        return self.past


class EncoderDecoderCacheValue(CacheValue):
    """The cache of a decoder with cross-attention."""

    stands_for = EncoderDecoderCache


def _grown(tensor: Tensor, past: int) -> Tensor:
    *batch, length, width = tensor.shape
    return tensor.new_empty(*batch, past + length, width)


class CacheView:
    """What model code sees of a cache, or of one half of an encoder-decoder cache."""

    def __init__(self, tracer: ValueTracer, cache: ValueProxy, cross: bool) -> None:
        self._tracer, self._cache, self._cross = tracer, cache, cross

    def __getattr__(self, name: str) -> Any:
        raise self._tracer.unsupported(f"`{name}` of the key/value cache")

    def update(self, key: Any, value: Any, layer_idx: Any, *rest: Any, **options: Any) -> Any:
        """Record an update; keys and values come back with the past before them."""
        tracer = self._tracer
        owner, index = tracer.index_of(layer_idx)
        options = options if index == "layer_idx" else {**options, "index": index}
        k, v = tracer.values(key), tracer.values(value)
        if self._cross:
            if rest:
                raise tracer.unsupported("further arguments for the update of a cross-attention cache")
            return tracer.add(
                "call_function", ops.cross_cache_update, (owner, self._cache, key, value), options, (k, v)
            )
        with tracer.paused():
            grown = self._cache.fyc_value.update(k, v)
        return tracer.add("call_function", ops.cache_update, (owner, self._cache, key, value, *rest), options, grown)

    def get_seq_length(self, layer_idx: Any = None) -> Any:
        """Record a question for the length."""
        if self._cross:
            raise self._tracer.unsupported("the length of the cross-attention cache")
        args: tuple[Any, ...] = (self._cache,)
        options: dict[str, Any] = {}
        if isinstance(layer_idx, LayerIndex) or (isinstance(layer_idx, int) and layer_idx != 0):
            owner, index = self._tracer.index_of(layer_idx)
            args = (self._cache, owner)
            options = {} if index == "layer_idx" else {"index": index}
        past = self._cache.fyc_value.past
        return self._tracer.add("call_function", ops.cache_length, args, options, past)

    def get_mask_sizes(self, query_length: Any, layer_idx: Any) -> Any:
        """Record a question for the sizes of a mask."""
        if self._cross:
            raise self._tracer.unsupported("the mask sizes of the cross-attention cache")
        sizes = (self._cache.fyc_value.past + self._tracer.values(query_length), 0)
        return self._tracer.add(
            "call_function", ops.cache_mask_sizes, (self._cache, query_length, layer_idx), {}, sizes
        )

    def as_argument(self) -> ValueProxy:
        """The cache itself, where the self-attention half is handed on: ops that take a cache know what is meant."""
        if self._cross:
            raise self._tracer.unsupported("the cross-attention cache as an argument")
        return self._cache


class UpdatedFlags:
    """`EncoderDecoderCache.is_updated` while tracing: never yet. The recorded update looks at the real flags."""

    def get(self, index: Any, default: Any = None) -> bool:
        """Always False."""
        del index, default
        return False

    def __getitem__(self, index: Any) -> bool:
        return False

    def __setitem__(self, index: Any, value: Any) -> None:
        """Nothing: the recorded update sets the flag."""


def cache_attribute(tracer: ValueTracer, cache: ValueProxy, name: str) -> Any:
    """An attribute of a cache, as model code reads it."""
    if isinstance(cache.fyc_value, EncoderDecoderCacheValue):
        if name in ("self_attention_cache", "cross_attention_cache"):
            return CacheView(tracer, cache, cross=name.startswith("cross"))
        if name == "is_updated":
            return UpdatedFlags()
    return getattr(CacheView(tracer, cache, cross=False), name)

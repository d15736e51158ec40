"""What a block graph may call: the only functions, methods and attributes that a stored graph can name."""

from __future__ import annotations

import builtins
import importlib
import operator
import re
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from fyc.ir import ops

_TORCH = """
abs absolute acos add addbmm addmm all allclose amax amin any arange argmax argmin argsort as_tensor asin atan atan2
baddbmm bitwise_and bitwise_not bitwise_or bitwise_xor bmm broadcast_to bucketize cat ceil chunk clamp clamp_max
clamp_min clip clone concat conj cos cosh cross cummax cumprod cumsum diag diagonal diff div dot einsum empty
empty_like eq erf erfc exp expm1 eye finfo flatten flip floor floor_divide fmod frac full full_like gather ge gt
heaviside hstack index_add index_copy index_fill index_select isclose isfinite isinf isnan kron layer_norm le lerp
linspace log log10 log1p log2 log_softmax logaddexp logcumsumexp logical_and logical_not logical_or logical_xor
logsumexp lt masked_fill masked_scatter masked_select matmul max maximum mean meshgrid min minimum mm moveaxis
movedim mul multiply nan_to_num narrow ne neg nonzero norm numel ones ones_like outer permute polar pow prod rand
rand_like randint randn randn_like real reciprocal relu remainder repeat_interleave reshape rms_norm roll rot90
round rsqrt rsub scatter scatter_add select sgn sigmoid sign sin sinc sinh softmax sort split sqrt square squeeze
stack std sub sum swapaxes t take_along_dim tan tanh tensor tensor_split tensordot tile topk transpose tril triu
true_divide trunc unbind unflatten unsqueeze var view_as_complex view_as_real vstack where zeros zeros_like
""".split()  # noqa: SIM905

_FUNCTIONAL = """
adaptive_avg_pool1d avg_pool1d celu conv1d conv2d cosine_similarity elu embedding gelu glu group_norm hardsigmoid
hardswish hardtanh interpolate layer_norm leaky_relu linear log_softmax logsigmoid max_pool1d mish normalize one_hot
pad prelu relu relu6 rms_norm scaled_dot_product_attention selu sigmoid silu softmax softmin softplus softsign tanh
unfold
""".split()  # noqa: SIM905

_OPERATOR = """
abs add and_ eq floordiv ge getitem gt iadd iand ifloordiv imod imul inv invert ior ipow isub itruediv ixor le
lshift lt matmul mod mul ne neg not_ or_ pos pow rshift setitem sub truediv xor
""".split()  # noqa: SIM905

_METHODS = """
abs add add_ addbmm addcmul addmm all amax amin any argmax argmin argsort baddbmm bfloat16 bitwise_and bitwise_not
bitwise_or bmm bool broadcast_to byte ceil chunk clamp clamp_ clamp_max clamp_min clip clone contiguous copy_ cos
cosh cumprod cumsum detach diagonal div div_ dot double eq erf exp expand expand_as expm1 fill_ flatten flip float
floor floor_divide fmod gather ge get gt half index_add index_add_ index_copy index_fill index_select int isfinite
isinf isnan keys le lerp log log1p log2 log_softmax logical_and logical_not logical_or logical_xor logsumexp long lt
masked_fill masked_fill_ masked_scatter masked_select matmul max maximum mean min minimum mm movedim mul mul_
nan_to_num narrow ne neg new_empty new_full new_ones new_zeros nonzero norm numel permute pow prod reciprocal relu
remainder repeat repeat_interleave requires_grad_ reshape reshape_as roll round rsqrt rsub scatter scatter_
scatter_add scatter_add_ select short sigmoid sign sin sinh size softmax sort split split_with_sizes sqrt square
squeeze std stride sub sub_ sum swapaxes swapdims t take_along_dim tan tanh tensor_split tile to topk transpose tril
triu true_divide trunc type type_as unbind unflatten unfold unsqueeze unsqueeze_ values var view view_as where zero_
__and__ __or__ __xor__ __invert__ __getitem__ __matmul__
""".split()  # noqa: SIM905

_OPS = (
    ops.add_optional, ops.attention, ops.cache_length, ops.cache_mask_sizes, ops.cache_update, ops.cross_cache_update,
    ops.dropout, ops.mask, ops.masked_fill_optional, ops.require,
)  # fmt: skip

#: Functions by the name that graph files use for them.
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "builtins:getattr": builtins.getattr,
    **{f"builtins:{name}": getattr(builtins, name) for name in ("abs", "max", "min", "round")},
    **{f"operator:{name}": getattr(operator, name) for name in _OPERATOR},
    **{f"torch:{name}": getattr(torch, name) for name in _TORCH},
    **{f"torch.nn.functional:{name}": getattr(F, name) for name in _FUNCTIONAL},
    **{f"fyc.ir.ops:{function.__name__}": function for function in _OPS},
}

#: Methods of tensors, shapes and dicts that a graph may call: no input or output, no python callbacks, no attributes.
METHODS: frozenset[str] = frozenset(_METHODS)

#: What `getattr` may read.
ATTRIBUTES: frozenset[str] = frozenset(
    {"shape", "dtype", "device", "ndim", "T", "mT", "H", "mH", "real", "imag", "min", "max", "eps", "tiny"}
)

_NAMES: dict[int, str] = {}
for _name, _function in FUNCTIONS.items():
    _NAMES.setdefault(id(_function), _name)

#: Rotary embedding functions of transformers' modeling files.
ROTARY = re.compile(
    r"(transformers\.models\.[a-z0-9_]{1,64}\.modeling_[a-z0-9_]{1,64})"
    r":(apply_([a-z0-9_]{1,32}_)?rotary_pos_emb[a-z0-9_]{0,32})"
)


def function_name(function: Any) -> str | None:
    """The name of an allowed function, None if it is not allowed."""
    if id(function) in _NAMES:
        return _NAMES[id(function)]
    name = f"{getattr(function, '__module__', '')}:{getattr(function, '__name__', '')}"
    return name if rotary(name) is function else None


def function(name: str) -> Callable[..., Any] | None:
    """The function that an allowed name stands for, None if it is not allowed."""
    return FUNCTIONS.get(name) or rotary(name)


def rotary(name: str) -> Callable[..., Any] | None:
    """The rotary function of a modeling file, by `module:name`; None for every other name."""
    match = ROTARY.fullmatch(name)
    if match is None:
        return None
    try:
        module = importlib.import_module(match[1])
    except ImportError:
        return None
    found = vars(module).get(match[2])
    # A trace in progress wraps these functions; graphs hold the original.
    found = getattr(found, "fyc_original", found)
    return found if callable(found) else None

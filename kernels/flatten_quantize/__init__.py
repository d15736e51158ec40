"""Quantize activations with one static scale and split the large channels over extra columns."""

from fyc_kernels.flatten_quantize.reference import (
    ALIGNMENT,
    Split,
    digit_weight,
    flatten_quantize,
    split_codes,
    wide_codes,
    wide_range,
)

__all__ = [
    "ALIGNMENT",
    "Split",
    "digit_weight",
    "flatten_quantize",
    "split_codes",
    "wide_codes",
    "wide_range",
]

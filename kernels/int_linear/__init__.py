"""Integer linear layers: int8 or int4 codes times int8 or int4 codes, exact int32 sums, one float epilogue."""

from fyc_kernels.int_linear.dispatch import IntWeight, fast_paths, int_linear
from fyc_kernels.int_linear.pack import pack_int4, unpack_int4
from fyc_kernels.int_linear.reference import accumulate, accumulator_bound, epilogue

__all__ = [
    "IntWeight",
    "accumulate",
    "accumulator_bound",
    "epilogue",
    "fast_paths",
    "int_linear",
    "pack_int4",
    "unpack_int4",
]

"""flatten-quant: static per-tensor INT4/INT8 quantization that flattens large channels over extra columns."""

"""Measures the constants of a hardware file for CPU processes (examples/plan/cpu): `python bench/plan_cpu.py`.

One thread a process, as `fyc plan --executor local` runs two processes on two cores.
"""

from __future__ import annotations

import os
import platform
import tempfile
import time
from collections.abc import Callable
from statistics import median

import torch
import torch.distributed as dist
from torch import multiprocessing
from torch.nn.functional import linear, scaled_dot_product_attention


def seconds(run: Callable[[], object], repeats: int = 9) -> float:
    """Median time after one call that does not count."""
    run()
    found = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        found.append(time.perf_counter() - start)
    return median(found)


def gather(rank: int, store: str) -> None:
    """All-gather between two processes with gloo: bandwidth of large ones, latency of small ones."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    for count in (1, 1 << 20):
        part, whole = torch.zeros(count), torch.zeros(2 * count)
        took = seconds(lambda whole=whole, part=part: dist.all_gather_into_tensor(whole, part), 30)
        if rank == 0:
            print(f"all-gather of {4 * count} bytes a process: {took * 1e6:.0f} us, {4 * count / took / 1e9:.2f} GB/s")
    dist.destroy_process_group()


def main() -> None:
    torch.set_num_threads(1)
    print(
        f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}, one thread"
    )
    for rows, inner, columns in ((256, 256, 688), (2048, 256, 688), (2048, 256, 4096), (1024, 1024, 1024)):
        a, b = torch.randn(rows, inner).bfloat16(), torch.randn(columns, inner).bfloat16()
        rate = 2 * rows * inner * columns / seconds(lambda a=a, b=b: linear(a, b)) / 1e12
        print(f"bf16 product {rows} x {inner} x {columns}: {rate:.3f} TFLOP/s")
    source = torch.randn(1 << 24)
    target = torch.empty_like(source)
    print(f"copy, read and written: {8 * source.numel() / seconds(lambda: target.copy_(source)) / 1e9:.1f} GB/s")
    small = torch.randn(64)
    print(f"small operation: {seconds(lambda: [small.add_(1) for _ in range(1000)]) * 1e3:.2f} us")
    q = torch.randn(4, 4, 256, 64).bfloat16().requires_grad_()
    forward = seconds(lambda: scaled_dot_product_attention(q, q, q, is_causal=True))
    both = seconds(lambda: scaled_dot_product_attention(q, q, q, is_causal=True).sum().backward())
    work = 2 * 4 * 4 * 256 * 256 * 64 / 1e12
    print(f"attention: {work / forward:.3f} TFLOP/s forward, {2.5 * work / (both - forward):.3f} backward")
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.spawn(gather, (f"{folder}/store",), nprocs=2)


if __name__ == "__main__":
    main()

"""Writes logs like those of real multi-rank runs: healthy ones of each framework, failures, and their echoes."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

OOM = (
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 1.96 GiB. GPU {gpu} has a total capacity of 23.43"
    " GiB of which 210.06 MiB is free. Including non-PyTorch memory, this process has 23.21 GiB memory in use. Of the"
    " allocated memory 22.41 GiB is allocated by PyTorch, and 206.09 MiB is reserved by PyTorch but unallocated. If"
    " reserved but unallocated memory is large try setting PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True to avoid"
    " fragmentation.  See documentation for Memory Management"
)
OLD_OOM = (
    "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 786.00 MiB (GPU {gpu}; 31.74 GiB total {word};"
    " 28.82 GiB already allocated; 577.12 MiB free; 29.97 GiB reserved in total by PyTorch) If reserved memory is >>"
    " allocated memory try setting max_split_size_mb to avoid fragmentation."
)


def traceback(rank: int, message: str, source: str = "loss.backward()") -> list[str]:
    """What torch prints when an exception ends a rank."""
    frames = [
        "Traceback (most recent call last):",
        '  File "/opt/app/train.py", line 412, in <module>',
        "    main(config)",
        '  File "/opt/app/model/layers.py", line 88, in forward',
        f"    {source}",
        *message.splitlines(),
    ]
    return [f"[rank{rank}]: {line}" for line in frames]


def nccl_noise(rank: int, count: int = 6) -> list[str]:
    """What NCCL says when nothing is wrong."""
    return [
        f"node-{rank // 8:02}:{2304 + rank}:2340 [{rank % 8}] NCCL INFO Channel {n:02}/16 : {rank} -> {rank + 1} via"
        " P2P/IPC"
        for n in range(count)
    ]


def watchdog(rank: int, seq: int = 1580) -> list[str]:
    """What a rank says that waited for another one."""
    stamp = f"[rank{rank}]:[E321 02:07:08.40{rank % 10}271257 ProcessGroupNCCL.cpp:607] [Rank {rank}]"
    work = (
        f"WorkNCCL(SeqNum={seq}, OpType=ALLREDUCE, NumelIn=466119168, NumelOut=466119168, Timeout(ms)=600000)"
        " ran for 600004 milliseconds before timing out."
    )
    return [
        f"{stamp} Watchdog caught collective operation timeout: {work}",
        f"{stamp} Some NCCL operations have failed or timed out. Due to the asynchronous nature of CUDA kernels,"
        " subsequent GPU operations might run on corrupted/incomplete data.",
        f"{stamp} To avoid data inconsistency, we are taking the entire process down.",
        f"[rank{rank}]: terminate called after throwing an instance of 'c10::DistBackendError'",
    ]


def remote_error(rank: int) -> list[str]:
    """What a rank says that lost its connection."""
    return [
        f"[rank{rank}]: torch.distributed.DistBackendError: NCCL error in: /pytorch/torch/csrc/distributed/c10d/"
        "NCCLUtils.hpp:268, remote process exited or there was a network error, NCCL version 2.21.5",
        f"[rank{rank}]: ncclRemoteError: A call failed possibly due to a network error or a remote process exiting"
        " prematurely.",
        f"[rank{rank}]: Last error:",
        f"[rank{rank}]: NET/IB : Got completion from peer 10.0.0.{rank}<39138> with error 12, opcode 0, len 0, vendor"
        " err 129",
    ]


def torchrun_report(root: tuple[int, int], others: Sequence[tuple[int, int]] = (), *, time: str = "") -> list[str]:
    """torchrun's last words. A failure is (rank, exit code)."""
    day = time or "2025-03-21_02:17:10"

    def entry(index: int, rank: int, code: int) -> list[str]:
        name = {-9: "Signal 9 (SIGKILL)", -11: "Signal 11 (SIGSEGV)", -6: "Signal 6 (SIGABRT)"}.get(code)
        said = f"{name} received by PID {9000 + rank}" if name else "To enable traceback see: https://pytorch.org/docs"
        return [
            f"[{index}]:",
            f"  time      : {day}",
            "  host      : node-00",
            f"  rank      : {rank} (local_rank: {rank % 8})",
            f"  exitcode  : {code} (pid: {9000 + rank})",
            "  error_file: <N/A>",
            f"  traceback : {said}",
        ]

    listed = [line for n, (rank, code) in enumerate(others, start=1) for line in entry(n, rank, code)]
    rank, code = root
    return [
        f"E0321 02:17:10.123000 8900 torch/distributed/elastic/multiprocessing/api.py:869] failed (exitcode: {code})"
        f" local_rank: {rank % 8} (pid: {9000 + rank}) of binary: /usr/bin/python3",
        "torch.distributed.elastic.multiprocessing.errors.ChildFailedError: ",
        "=" * 60,
        "train.py FAILED",
        "-" * 60,
        "Failures:",
        *(listed or ["  <NO_OTHER_FAILURES>"]),
        "-" * 60,
        "Root Cause (first observed failure):",
        *entry(0, rank, code),
        "=" * 60,
    ]


def megatron(
    steps: Iterable[int], *, total: int = 100, ms: float = 5400.0, minute: int = 0, head: bool = True
) -> list[str]:
    """Megatron-LM: 16 GPUs, sequences of 4096, batches of 128; the first three steps take longer."""
    dots = " " + "." * 38 + " "
    arguments = [f"  seq_length{dots}4096", f"  world_size{dots}16"]
    lines = arguments if head else []
    for step in steps:
        time = ms * (3 if step <= 3 else 1) + step % 3
        stamp = f"2024-04-06 02:{minute + step // 60:02}:{step % 60:02}"
        lines.append(
            f" [{stamp}] iteration {step:8}/{total:8} | consumed samples: {128 * step:12} | elapsed time per iteration"
            f" (ms): {time:.1f} | throughput per GPU (TFLOP/s/GPU): 241.4 | learning rate: 6.000000E-07 | global batch"
            " size:   128 | lm loss: 2.003316E+00 | loss scale: 1.0 | grad norm: 6.603 | number of skipped iterations:"
            "   0 | number of nan iterations:   0 |"
        )
    lines.append(
        "[Rank 1] (after 1 iterations) memory (MB) | allocated: 54250.97802734375 | max allocated: 54272.0 | reserved:"
        " 61440.0 | max reserved: 61440.0"
    )
    return lines


def bloom(steps: Iterable[int], *, total: int = 115311) -> list[str]:
    """Megatron-DeepSpeed: 2048 sequences of 2048 tokens in about 105 s."""
    return [
        f"[default7]: iteration {step:8}/{total:8} | consumed samples: {2048 * step:12} | consumed tokens:"
        f" {2048 * 2048 * step:12} | elapsed time per iteration (s): {105.22 if step > 3 else 300.0:.2f} | learning"
        " rate: 5.969E-05 | global batch size:  2048 | lm loss: 2.463556E+00 | grad norm: 0.174 | num zeros: 0.0 |"
        " number of skipped iterations:   0 | number of nan iterations:   0 | samples per second: 19.463 | TFLOPs:"
        " 149.02 |"
        for step in steps
    ]


def titan(steps: Iterable[int], *, ranks: int = 1, seconds: float = 1.5, total: int = 100) -> list[str]:
    """torchtitan, in colours; every rank prints, rank 1 with the most memory."""
    lines = [
        "[rank0]:[titan] 2025-08-22 07:52:57,498 - root - INFO - Trainer is initialized with local batch size 1, global"
        f" batch size 8, gradient accumulation steps 1, sequence length 8192, total steps {total} (warmup 200)"
    ]
    clock = 0.0
    for step in steps:
        clock += seconds * (4 if step <= 3 else 1)
        minute, second = divmod(clock, 60)
        for rank in range(ranks):
            stamp = f"2025-08-22 08:{int(minute):02}:{int(second):02},{int(second % 1 * 1000):03}"
            lines.append(
                f"[rank{rank}]:[titan] {stamp} - root - INFO - \x1b[31mstep: {step:2}  \x1b[32mloss:  7.62585  "
                f"\x1b[38;2;180;60;0mgrad_norm: 26.6250  \x1b[38;2;54;234;195mmemory: {66.91 + rank % 2:.2f}GiB(37.51%)"
                f"  \x1b[34mtps: 10,05{step % 3}  \x1b[36mtflops: 314.71  \x1b[35mmfu: 13.99%\x1b[39m"
            )
    return lines


def pipeline(steps: Iterable[int]) -> list[str]:
    """DeepSpeed's pipeline engine."""
    lines = []
    for step in steps:
        lines.append(f"steps: {step} loss: 5.5508 iter time (s): {0.936 if step > 3 else 9.0:.3f} samples/sec: 136.752")
        usage = "MA 5.0 GB  Max_MA 7.25 GB  CA 9.0 GB  Max_CA 10 GB "
        lines.append(f"[2024-03-01 10:00:00,123] [INFO] [utils.py:801:see_memory_usage] {usage}")
    return lines


def deepspeed(steps: Iterable[int], *, batch: int = 32) -> list[str]:
    """DeepSpeed's throughput timer."""
    config = ["[2023-07-25 21:00:00,000] [INFO] [config.py:964:print]   train_batch_size ............. " + str(batch)]
    timer = "[INFO] [timer.py:215:stop]"
    return config + [
        f"[2023-07-25 21:03:{step % 60:02},269] {timer} epoch=0/micro_step={step}/global_step={step}, RunningAvgSamples"
        f"PerSec=7.86, CurrSamplesPerSec={8.0 if step > 3 else 2.0}, MemAllocated=59.65GB, MaxMemAllocated=63.31GB"
        for step in steps
    ]


def interleave(seed: int, *streams: Sequence[str]) -> list[str]:
    """The lines of several writers, mixed; each writer's own order is kept."""
    chance = random.Random(seed)
    left = [list(stream) for stream in streams if stream]
    lines = []
    while left:
        stream = chance.choice(left)
        lines.append(stream.pop(0))
        left = [stream for stream in left if stream]
    return lines

"""Lets torchtitan 0.2.2 train on CPUs with gloo: a test puts this file before it as sitecustomize.py.

It only answers what torchtitan asks of a GPU: its name, its memory, its number. And gloo cannot scale while it sums,
which torchtitan asks for with the factor one.
"""

import types

import torch
from torch.distributed.fsdp._fully_shard import _fsdp_collectives as collectives

cpu = types.ModuleType("torch.cpu")
cpu.__dict__.update(torch.cpu.__dict__)
cpu.get_device_name = lambda *_: "CPU"
cpu.get_device_properties = lambda *_: types.SimpleNamespace(total_memory=2**33)
cpu.memory_stats = lambda *_: {f"{kind}_bytes.all.peak": 2**29 for kind in ("active", "reserved")}
cpu.current_device = lambda: 0
cpu.set_device = cpu.reset_peak_memory_stats = cpu.empty_cache = lambda *_: None
torch._utils._get_available_device_type = lambda: "cpu"
torch._utils._get_device_module = lambda _: cpu

SUM = collectives.ReduceOp.SUM


class Reductions:
    SUM, AVG, RedOpType = SUM, collectives.ReduceOp.AVG, collectives.ReduceOp.RedOpType

    @staticmethod
    def PREMUL_SUM(factor: float) -> object:  # noqa: N802 torch's name
        assert factor == 1.0
        return SUM


collectives.ReduceOp = Reductions

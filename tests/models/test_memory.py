from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from fyc.models import peak_memory_bytes

#: Frees 20 tensors of 20 MB that lie between small ones which stay, and prints how much stays resident.
_PROGRAM = """
import re
import sys
import torch
from pathlib import Path
from fyc.models import return_freed_memory

def resident():
    return int(re.search(r"VmRSS:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) // 1024

if sys.argv[1] == "yes":
    assert return_freed_memory()
del_me = torch.ones(30 * 2**18)  # glibc learns from this one that such blocks come and go
del del_me
before = resident()
large, small = [], []
for _ in range(20):
    large.append(torch.ones(20 * 2**18))
    small.append(torch.ones(50_000))
del large
print(resident() - before)
"""

glibc = pytest.mark.skipif(
    sys.platform != "linux" or platform.libc_ver()[0] != "glibc", reason="a setting of the GNU C library"
)


def left_over(call: str) -> int:
    """Megabytes that stay resident."""
    done = subprocess.run([sys.executable, "-c", _PROGRAM, call], capture_output=True, text=True, check=True)
    return int(done.stdout)


@glibc
def test_freed_memory_goes_back_to_the_system() -> None:
    assert left_over("no") > 200
    assert left_over("yes") < 60


@glibc
def test_the_peak_is_that_of_this_process() -> None:
    before = peak_memory_bytes()
    block = bytearray(300 * 2**20)
    block[::4096] = b"x" * len(block[::4096])
    assert peak_memory_bytes() >= before
    assert peak_memory_bytes() > len(block)

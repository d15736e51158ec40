"""Make the C library give large freed blocks back to the system, and read how much memory the process used."""

from __future__ import annotations

import ctypes
import platform
import re
import sys
from pathlib import Path

#: `M_MMAP_THRESHOLD` of glibc's malloc.h.
_MMAP_THRESHOLD = -3
#: Blocks of at least this size get pages of their own: weights do, the activations of a window do not.
_LARGE = 16 << 20


def return_freed_memory() -> bool:
    """Give large allocations pages of their own, so that freeing them frees memory.

    By default glibc raises that threshold to 32 MB as soon as a large block is freed, and serves what is smaller from
    a heap that can only shrink at its end: a process that works through a model block by block then keeps growing.
    Pages of their own cost time, since the kernel clears them: with a threshold of 1 MB half of a conversion's time
    went there, so it is 16 MB.
    Affects the whole process. Call it before the work starts.

    Returns:
        Whether it took effect; False where the C library is not glibc.
    """
    if not _glibc():
        return False
    return bool(ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, _LARGE))


def trim_heap() -> None:
    """Return free pages inside the heap to the system; does nothing where the C library is not glibc."""
    if _glibc():
        ctypes.CDLL(None).malloc_trim(0)


def peak_memory_bytes() -> int:
    """The most memory this process has had resident so far, in bytes; 0 where the system does not tell."""
    if sys.platform == "linux":
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
        return int(found[1]) * 1024 if found else 0
    if sys.platform == "darwin":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return 0


def _glibc() -> bool:
    return sys.platform == "linux" and platform.libc_ver()[0] == "glibc"

"""Runs a command with a limit of memory, and ends it with all its descendants when whoever started this goes away.

A program of its own, in the standard library only: `python guard.py BYTES COMMAND...`, where 0 bytes is no limit.
Standard input is a pipe that the planner holds: when it closes, because the planner asks for it, was interrupted or
was killed, everything below this process is killed. torchrun gives every worker its own session, so that no process
group reaches them all; as the reaper of its descendants (Linux), this process does.
"""

from __future__ import annotations

import ctypes
import os
import resource
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
_POLL_S = 0.05
_INTERRUPTED = 130


def main() -> int:
    """Run the command; the exit code is its own, or 130 when it was ended from outside."""
    limit, command = int(sys.argv[1]), sys.argv[2:]
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")

    if limit:  # private writable memory of every process: what malloc and mmap give out, not what libraries map
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        while child.poll() is None:
            if select.select([sys.stdin], [], [], _POLL_S)[0] and not os.read(0, 1):
                return _INTERRUPTED
        return child.returncode if child.returncode >= 0 else 128 - child.returncode
    finally:
        end_descendants(os.getpid())


def end_descendants(root: int) -> None:
    """Kill every process below `root`, until none is left."""
    while alive := descendants(root):
        for process in alive:
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                continue
        try:
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        except ChildProcessError:
            return
        time.sleep(0.01)


def descendants(root: int) -> list[int]:
    """Processes below `root`, those included that nobody has waited for."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError):
                continue  # it ended meanwhile
    found: list[int] = []
    level = [root]
    while level:
        level = [process for process, parent in parents.items() if parent in level]
        found += level
    return found


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.exit(main())

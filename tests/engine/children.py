"""Child processes for the tests: forked ones, which need no import and can be killed anywhere, and fresh ones."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path

#: What a forked child exits with when its function raised.
FAILED = 99


def forked(function: Callable[[], int | None], *, timeout: float = 60) -> int:
    """Run a function in a forked copy of this process; returns its exit status, negative for a signal.

    A forked child costs milliseconds where a fresh interpreter pays seconds for `import torch`.
    """
    return wait(fork(function), timeout=timeout)


def fork(function: Callable[[], int | None]) -> int:
    """Start a function in a forked copy of this process; returns the process id."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        return child
    status = FAILED
    try:
        status = function() or 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def wait(child: int, *, timeout: float = 60) -> int:
    """The exit status of a forked child; it is killed when it takes longer."""
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    raise AssertionError(f"the child did not end within {timeout} s")


def fresh(
    code: str, *, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run Python code in a new interpreter, with the toy passes installed; its warnings do not count."""
    settings = {**os.environ, "OMP_NUM_THREADS": "1", **(env or {})}
    return subprocess.run(
        [sys.executable, "-c", code], env=settings, cwd=cwd, capture_output=True, text=True, timeout=240, check=False
    )

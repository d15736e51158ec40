"""Runs the videos of a corpus on this machine, each in a process of its own: one that crashes costs only itself.

The processes are forked from a server that has imported everything: that takes milliseconds, a start takes seconds.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from fyc.asl.corpus.job import Outcome, Settings, attempt, failed
from fyc.errors import ResourceError

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext

    from fyc.asl.corpus.tasks import Task

#: Video, stage of the analysis, frames done, frames in all if known.
Tell = Callable[["Task", str, int, int | None], None]
#: What libraries read when they are loaded: a worker has one thread.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
#: Memory that a worker may need, in bytes: 0.6 GB at 640x480, 1.1 GB at 3840x2160, with the overlay.
_MEMORY = 1 << 30
_TELL_S = 0.2
#: Seconds that a worker has to clean up when it is asked to stop.
_GRACE_S = 10.0


def sensible_workers() -> int:
    """As many workers as there are cores, and memory that is free now: a GiB for each."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    meminfo = Path("/proc/meminfo")
    found = re.search(r"MemAvailable:\s+(\d+) kB", meminfo.read_text() if meminfo.exists() else "")
    return max(1, min(cores, int(found[1]) * 1024 // _MEMORY)) if found else cores


def run_local(tasks: Sequence[Task], settings: Settings, workers: int, tell: Tell) -> Generator[Outcome, None, None]:
    """Annotate videos; outcomes come as they are done. When the iterator is closed the workers are stopped.

    Args:
        tasks: the videos.
        settings: for all of them.
        workers: how many at a time.
        tell: is told what is worked on, and how far it is.
    """
    context = _server()
    waiting = deque(tasks)
    running: list[_Worker] = []
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                running.append(_Worker(context, waiting.popleft(), settings))
            wait([worker.pipe for worker in running])
            for worker in list(running):
                outcome = worker.listen(tell)
                if outcome is not None:
                    running.remove(worker)
                    yield outcome
    finally:
        for worker in running:
            worker.process.terminate()
        for worker in running:
            worker.stop()


def _server() -> ForkServerContext:
    """The context whose processes come from a server that has imported all they need."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", "fyc.asl.corpus.preload"])
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        forkserver.ensure_running()
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name)
            else:
                os.environ[name] = value
    return context


class _Worker:
    """A process for one video."""

    def __init__(self, context: ForkServerContext, task: Task, settings: Settings) -> None:
        self._task, self._begin = task, time.perf_counter()
        self._outcome: Outcome | None = None
        self.pipe, theirs = context.Pipe(duplex=False)
        self.process = context.Process(target=_work, args=(task, settings, theirs), name=task.name)
        self.process.start()
        theirs.close()

    def listen(self, tell: Tell) -> Outcome | None:
        """Take what the worker says; its outcome once it is gone."""
        try:
            while self.pipe.poll():
                said = self.pipe.recv()
                if isinstance(said, Outcome):
                    self._outcome = said
                else:
                    tell(self._task, *said)
        except (EOFError, OSError):
            self.stop()
            return self._outcome or self._crashed()
        return None

    def stop(self) -> None:
        """Wait for the process, and kill it if it does not end."""
        self.process.join(_GRACE_S)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.pipe.close()

    def _crashed(self) -> Outcome:
        error = worker_died(self._task, _reason(self.process.exitcode or 0))
        return failed(self._task, error, time.perf_counter() - self._begin)


def worker_died(task: Task, why: str) -> ResourceError:
    """The FYC-S04 for a video whose worker is gone."""
    advice = "use fewer --workers if memory is short; else convert the video with another tool, then repeat the command"
    return ResourceError("FYC-S04", "the worker process died", where=str(task.video), why=why, next=advice)


def _reason(code: int) -> str:
    if code >= 0:
        return f"it left with exit code {code}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    hints = {"SIGKILL": ", as Linux does when memory runs out", "SIGSEGV": ", a fault in a library below fyc"}
    return f"it was ended by {name}{hints.get(name, '')}"


def _work(task: Task, settings: Settings, pipe: Connection) -> None:
    """What a worker does."""
    pin_threads()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to all; the parent decides
    signal.signal(signal.SIGTERM, _leave)
    threading.Thread(target=_follow_parent, daemon=True).start()
    last = ("", 0.0)

    def progress(stage: str, done: int, total: int | None) -> None:
        nonlocal last
        now = time.monotonic()
        if stage != last[0] or now - last[1] >= _TELL_S:
            last = stage, now
            pipe.send((stage, done, total))

    pipe.send(attempt(task, settings, progress))
    pipe.close()


def pin_threads() -> None:
    """One thread for this process: a video has one core."""
    import cv2
    import torch

    cv2.setNumThreads(1)
    torch.set_num_threads(1)


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _follow_parent() -> None:
    """End with the parent, however it ends."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

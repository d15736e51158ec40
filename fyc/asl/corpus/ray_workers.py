"""Runs the videos of a corpus as tasks of a Ray cluster, one each, on machines that see the same files."""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fyc.asl.corpus.job import Outcome, Settings, attempt, failed
from fyc.asl.corpus.workers import pin_threads, worker_died
from fyc.errors import ModelError, ResourceError

if TYPE_CHECKING:
    from fyc.asl.corpus.tasks import Task


#: Seconds to wait for the cluster's machine.
_PATIENCE_S = 10.0


def run_ray(tasks: Sequence[Task], settings: Settings, workers: int | None) -> Generator[Outcome, None, None]:
    """Annotate videos on a Ray cluster; outcomes come as they are done. When the iterator is closed tasks are stopped.

    The cluster is that of `RAY_ADDRESS`, else one that runs on this machine, else one is started here. A task has one
    CPU; one whose worker dies is tried once more.

    Args:
        tasks: the videos, at paths that all machines have.
        settings: for all of them.
        workers: how many at a time; None for as many as the cluster has CPUs.

    Raises:
        ModelError: FYC-M06 if Ray is not installed.
        ResourceError: FYC-S05 if the cluster cannot be used.
    """
    ray = _connected()
    from ray.exceptions import RayError

    files = {name: path.absolute() for name in ("model", "signer") if (path := getattr(settings, name)) is not None}
    settings = replace(settings, **files)
    work = ray.remote(num_cpus=1, max_retries=1)(_work)
    waiting = deque(tasks)
    running: dict[Any, Task] = {}
    most = workers or max(1, int(ray.cluster_resources().get("CPU", 1)))
    try:
        while waiting or running:
            while waiting and len(running) < most:
                task = waiting.popleft()
                running[work.remote(_absolute(task), settings)] = task
            for reference in ray.wait(list(running))[0]:
                task = running.pop(reference)
                try:
                    yield replace(ray.get(reference), task=task)
                except RayError as error:
                    yield failed(task, worker_died(task, str(error).strip().splitlines()[0]), 0.0)
    finally:
        for reference in running:
            ray.cancel(reference)
        if running:
            ray.wait(list(running), num_returns=len(running), timeout=10)
        ray.shutdown()


def _connected() -> Any:
    """The module `ray`, connected to a cluster."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing leaves this machine
    try:
        import ray
    except ImportError as error:
        raise ModelError(
            "FYC-M06", "Ray is not installed", where="--engine ray", next="pip install 'fyc[ray]'",
        ) from error  # fmt: skip
    address = os.environ.get("RAY_ADDRESS", "")
    try:
        _knock(address)
        ray.init(log_to_driver=False, include_dashboard=False, logging_level="warning")
    except Exception as error:
        raise ResourceError(
            "FYC-S05", "the Ray cluster cannot be used", where=address or "a cluster on this machine",
            why=str(error).strip().split("\n")[0],
            next="check it with `ray status`, or leave --engine out",
        ) from error  # fmt: skip
    return ray


def _knock(address: str) -> None:
    """Raise OSError at once where nobody listens; Ray itself tries for minutes, and then ends the process."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if port.isdigit():
        socket.create_connection((host, int(port)), _PATIENCE_S).close()


def _absolute(task: Task) -> Task:
    """The task with paths that do not depend on where a process runs."""
    return replace(task, video=task.video.absolute(), folder=task.folder.absolute())


def _work(task: Task, settings: Settings) -> Outcome:
    """What a worker of the cluster does."""
    pin_threads()
    return attempt(task, settings)

"""Real servers of language models as processes, on a free port each."""

from __future__ import annotations

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

START_SECONDS = 180.0


@dataclass(frozen=True)
class Server:
    """A server that runs: its address up to and with `/v1`, the model's name there, and where it logs."""

    url: str
    model: str
    log: Path


def need(modules: Sequence[str], install: str) -> None:
    """Skip the test, with what to install, where the server's modules are not there."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f"this server needs {', '.join(missing)}: pip install {install}")


@contextmanager
def llama_cpp(gguf: Path, log: Path, *, key: str, context: int = 4096, logprobs: bool = True) -> Iterator[Server]:
    """llama-cpp-python's server. It keeps to schemas, and gives log-probabilities when it keeps all logits."""
    need(("llama_cpp", "uvicorn", "fastapi", "starlette_context", "sse_starlette"), "'llama-cpp-python[server]'")
    command = [
        sys.executable, "-m", "llama_cpp.server", "--model", str(gguf), "--model_alias", "smollm2",
        "--host", "127.0.0.1", "--n_ctx", str(context), "--n_threads", "1", "--n_threads_batch", "1",
        "--logits_all", str(logprobs).lower(), "--api_key", key,
    ]  # fmt: skip
    with _running(command, log, "/v1/models", key) as url:
        yield Server(f"{url}/v1", "smollm2", log)


@contextmanager
def transformers_serve(folder: Path, log: Path) -> Iterator[Server]:
    """`transformers serve`. It takes a schema and does not keep to it, and gives no log-probabilities."""
    need(("uvicorn", "fastapi", "openai"), "'transformers[serving]'")
    script = Path(sys.executable).with_name("transformers")
    command = [str(script), "serve", str(folder), "--host", "127.0.0.1", "--device", "cpu"]
    with _running(command, log, "/health", "") as url:
        yield Server(f"{url}/v1", str(folder), log)


@contextmanager
def _running(command: list[str], log: Path, health: str, key: str) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [*command, "--port", str(port)], stdout=stream, stderr=subprocess.STDOUT, env=environment,
            start_new_session=True,
        )  # fmt: skip
    try:
        url = f"http://127.0.0.1:{port}"
        _wait(process, f"{url}{health}", key, log)
        yield url
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait(process: subprocess.Popen[bytes], url: str, key: str, log: Path) -> None:
    """Wait until the server answers; fail with the end of its log where it does not."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"})
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(request, timeout=10) as reply:
                if reply.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    pytest.fail(f"the server does not answer; its log ends with:\n{log.read_text(errors='replace')[-2_000:]}")

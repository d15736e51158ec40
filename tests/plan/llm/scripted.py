"""A real HTTP server that says what a script tells it to, and remembers what it was asked."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Step:
    """One reply: status, headers and body; a body that is no bytes is sent as JSON.

    `delay` seconds pass before it; `drip` seconds between its bytes; `cut` closes the connection after that many bytes.
    """

    body: Any = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    drip: float = 0.0
    cut: int | None = None


@dataclass
class Asked:
    """One request."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass
class Script:
    """The steps that are left, the last of which is repeated, and the requests so far."""

    url: str
    steps: list[Step] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)

    def play(self, *steps: Step) -> None:
        """What to answer from now on."""
        self.steps = list(steps)


def chat(content: Any, *, tokens: int = 10, finish: str = "stop", **message: Any) -> Step:
    """A chat completion; content that is no text is sent as its JSON."""
    text = content if isinstance(content, str) or content is None else json.dumps(content)
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": text, **message}}
    return Step({"id": "x", "object": "chat.completion", "choices": [choice], "usage": {"total_tokens": tokens}})


def fail(status: int, message: str, **headers: str) -> Step:
    """An error in the form that OpenAI gives it."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Step({"error": {"message": message, "type": "x", "code": None}}, status, names)


@contextmanager
def scripted_server() -> Iterator[Script]:
    """The server, on a free port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers.get("content-length", 0)))
            script.asked.append(Asked(self.path, {k.lower(): v for k, v in self.headers.items()}, json.loads(content)))
            step = script.steps.pop(0) if len(script.steps) > 1 else script.steps[0]
            time.sleep(step.delay)
            self._send(step)

        def _send(self, step: Step) -> None:
            body = step.body if isinstance(step.body, bytes) else json.dumps(step.body).encode()
            self.send_response(step.status)
            for name, value in {"Content-Type": "application/json", **step.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            try:
                if step.drip:
                    for position in range(len(body)):
                        self.wfile.write(body[position : position + 1])
                        time.sleep(step.drip)
                else:
                    self.wfile.write(body[: step.cut])
                if step.cut is not None:
                    self.wfile.flush()
                    self.connection.close()
                    self.close_connection = True
            except OSError:  # the client has had enough
                self.close_connection = True

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    script = Script(f"http://127.0.0.1:{server.server_port}/v1")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield script
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

"""What tests of language models share: a scripted server and clients that talk to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fyc.plan.llm import Budget, Endpoint, LLMClient, Transcript
from tests.plan.llm.scripted import Script, scripted_server

KEY = "sk-secret/key+0123456789"
Connect = Callable[..., LLMClient]


@pytest.fixture
def script() -> Iterator[Script]:
    """A server that says what the test tells it to."""
    with scripted_server() as running:
        yield running


@pytest.fixture
def waits() -> list[float]:
    """How long clients of the test wanted to wait; they do not."""
    return []


@pytest.fixture
def connect(script: Script, tmp_path: Path, waits: list[float]) -> Iterator[Connect]:
    """Clients of the scripted server, with a transcript in the test's folder."""
    opened: list[LLMClient] = []

    def client(**options: Any) -> LLMClient:
        endpoint = Endpoint(options.pop("url", script.url), "tiny", options.pop("key", KEY))
        known = {"budget": Budget(), "transcript": Transcript(tmp_path / "transcript.jsonl"), "sleep": waits.append}
        opened.append(LLMClient(endpoint, **{**known, **options}))
        return opened[-1]

    yield client
    for one in opened:
        one.close()

"""The transcript: every prompt and every answer as a line of JSON, without secrets."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fyc.errors import PlanError, resource_error

#: Longer texts are cut in the transcript, with a note of their length.
MAX_TEXT = 100_000


class Transcript:
    """A JSONL file that every call of an endpoint is appended to; readable by its owner only.

    Args:
        path: the file; its folder is made if it is not there.
        clock: the time of an entry.
    """

    def __init__(self, path: Path, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.path = path
        self._clock = clock

    def write(self, entry: dict[str, Any], redact: Callable[[str], str]) -> None:
        """Append an entry; every text in it goes through `redact`.

        Raises:
            ResourceError: FYC-S01 when the disk is full.
            PlanError: FYC-L29 when the file cannot be written.
        """
        clean = _cleaned({"time": self._clock().isoformat(), **entry}, redact)
        line = json.dumps(clean, ensure_ascii=True, separators=(",", ":")).encode() + b"\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.write(handle, line)
            finally:
                os.close(handle)
        except OSError as error:
            raise resource_error(error, where=str(self.path)) or PlanError(
                "FYC-L29", "the transcript cannot be written", where=str(self.path), why=str(error)
            ) from error


def _cleaned(value: Any, redact: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        clean = redact(value)
        return clean if len(clean) <= MAX_TEXT else f"{clean[:MAX_TEXT]}... ({len(clean)} characters)"
    if isinstance(value, dict):
        return {redact(str(key)): _cleaned(item, redact) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_cleaned(item, redact) for item in value]
    return value

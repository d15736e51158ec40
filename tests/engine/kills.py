"""Kill a conversion at a chosen file operation: every open for writing, rename, link, removal and new folder counts."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors.torch

_CHANGES = frozenset({"os.rename", "os.link", "os.remove", "os.rmdir", "os.mkdir", "shutil.rmtree", "os.chmod"})


class Operations:
    """Counts the file operations of this process below a folder, and acts before the n-th.

    Python's audit events see every change that Python makes; the files that safetensors writes are seen by a wrapped
    `save_file`, which counts twice: before it starts, and when half of the file is there. An audit hook cannot be
    taken back: use this in a forked child only.

    Args:
        folder: operations elsewhere do not count.
        number: which operation to act before, counted from 1; 0 never acts.
        action: what to do; by default die as `kill -9` does.
    """

    def __init__(self, folder: Path, number: int, action: Callable[[], None] | None = None) -> None:
        self.folder, self.number = str(folder), number
        self.action = action or (lambda: os.kill(os.getpid(), signal.SIGKILL))
        self.seen: list[str] = []

    def watch(self) -> Operations:
        """Start counting."""
        original = safetensors.torch.save_file

        def save_file(tensors: Any, filename: Any, metadata: Any = None) -> None:
            self._count("save_file begins", str(filename))
            original(tensors, filename, metadata)
            content = Path(filename).read_bytes()
            with open(filename, "r+b") as stream:  # noqa: PTH123 - opened for reading too: not counted
                stream.truncate(len(content) // 2)
            self._count("save_file half done", str(filename))
            with open(filename, "r+b") as stream:  # noqa: PTH123
                stream.write(content)

        safetensors.torch.save_file = save_file
        sys.addaudithook(self._hear)
        return self

    def _hear(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, _ = args
            if isinstance(mode, str) and any(letter in mode for letter in "wax"):
                self._count(f"open {mode}", str(path))
        elif event in _CHANGES:
            self._count(event, str(args[0]))

    def _count(self, what: str, path: str) -> None:
        if not path.startswith(self.folder):
            return
        self.seen.append(f"{what} {path.removeprefix(self.folder)}")
        if len(self.seen) == self.number:
            self.action()

"""The pool when its writer is killed: what was acknowledged is there, and the next writer goes on."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from fyc.errors import ResourceError
from fyc.plan.messages import Fact
from fyc.plan.pool import MessagePool, replay

WRITER = """
import sys
from pathlib import Path
from fyc.plan.messages import Fact
from fyc.plan.pool import MessagePool

with MessagePool(Path(sys.argv[1])) as pool:
    for number in range(1_000_000):
        message = pool.append(Fact(name="fact", value="x" * (number % 1500)), iteration=number, role="analyst")
        print(message.id, flush=True)
"""


def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "pool.jsonl"
    expected = 0
    for delay in (0.0, 0.03, 0.1):
        command = [sys.executable, "-c", WRITER, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            first = writer.stdout.readline().strip()
            assert first == f"m{expected + 1}"
            time.sleep(delay)
            with pytest.raises(ResourceError, match="FYC-S03"):
                MessagePool(path)
            writer.kill()
            acknowledged = [first, *writer.stdout.read().split()]
        messages = list(replay(path))
        assert [message.id for message in messages] == [f"m{i}" for i in range(1, len(messages) + 1)]
        assert len(messages) >= int(acknowledged[-1].removeprefix("m"))
        with MessagePool(path) as pool:  # the lock of the dead is gone
            pool.append(Fact(name="after", value=True), iteration=0, role="analyst")
        expected = len(messages) + 1
    assert len(replay(path)) == expected

"""The real command line, run inside the test's own process: the imports are paid once."""

import contextlib
import io
import os
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from fyc.cli.main import main

EXAMPLES = Path(__file__).parents[2] / "examples" / "plan"
CLUSTER = EXAMPLES / "h100x512.yaml"
ARGUMENTS = [
    "--model", str(EXAMPLES / "llama-3.1-70b"), "--cluster", str(CLUSTER), "--seq", "8192", "--global-batch", "512",
    "--backend", "megatron",
]  # fmt: skip


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


def run(*arguments: str, **environment: str) -> Done:
    """`fyc plan` with these arguments, and no language model in the environment."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "FYC_PLAN"))}
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.ExitStack() as stack:
        stack.enter_context(patch.dict(os.environ, clean | environment, clear=True))
        stack.enter_context(contextlib.redirect_stdout(out))
        stack.enter_context(contextlib.redirect_stderr(err))
        try:
            main(["plan", *arguments])
        except SystemExit as stop:
            code = int(stop.code or 0)
    return Done(code, out.getvalue(), err.getvalue())


def with_value(option: str, value: str) -> list[str]:
    """The arguments of a good plan with another value of one option."""
    found = list(ARGUMENTS)
    found[found.index(option) + 1] = value
    return found

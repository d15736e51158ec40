"""The two outputs: results on stdout, everything else on stderr; and how an error looks."""

from __future__ import annotations

import os
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console

    from fyc.errors import FycError

_WIDE = 10_000  # a pipe has no width: long lines stay whole, so that grep and awk can use them


def console(stream: TextIO) -> Console:
    """A rich console on `stream`; without a terminal it neither wraps nor colours."""
    from rich.console import Console

    width = None if stream.isatty() else _WIDE
    return Console(file=stream, width=width, highlight=False, soft_wrap=not stream.isatty())


def print_error(error: FycError) -> None:
    """Write an error to stderr: the code in red, then what, where, why and what to do next."""
    from rich.text import Text

    out, said = console(sys.stderr), error.as_dict()
    out.print(Text.assemble((f"[{said['code']}]", "bold red"), " ", (_flat(said["what"]), "bold")))
    for label in ("where", "why", "next"):
        if said[label]:
            out.print(Text.assemble("  ", (f"{label}: ", "dim"), _flat(said[label])))


def _flat(text: str) -> str:
    """Text on one line, without what a terminal would act on."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def write_traceback(error: BaseException) -> Path:
    """Store the traceback of an error nobody foresaw; returns the file."""
    name = f"fyc-error-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    path = Path(tempfile.gettempdir()) / name
    path.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    return path

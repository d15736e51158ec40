"""One line of a log: made printable, and its launcher's prefixes read: rank, task, time."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

from fyc.plan.diagnosis.report import RankKind

_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
_BLANKS = dict.fromkeys("\t\u00a0\u2002\u2003\u2009\u202f\u3000", " ")
_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)[ T_](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9}))?")
_PREFIX = re.compile(
    r"""\s*(?:
        \[rank(?P<rank>\d{1,7})\]:?\ ?                      # torch: the process's own rank
      | \[\d+,(?P<mpi>\d{1,7})\]<std(?:out|err)>:?\ ?       # mpirun --tag-output
      | \[[A-Za-z_]+(?P<local>\d{1,7})\]:\ ?                # torchrun --tee: role and local rank
      | (?P<task>\d{1,7}):\ ?(?!\d)                         # srun --label
      | \[?(?P<when>\d{4}-\d\d-\d\d[ T_]\d\d:\d\d:\d\d(?:[.,]\d{1,9})?)(?:Z|[+-]\d\d:?\d\d)?\]?
        (?:\ std(?:out|err)\ [FP])?\ ?                       # the log of a container
    )""",
    re.VERBOSE,
)
_RANK_INSIDE = re.compile(r"\[(?:PG [^\]]{0,200}?)?Rank (\d{1,7})\]")
_DEVICE = re.compile(r"\(?\bGPU (\d{1,4})(?:;| has a total)")


@dataclass(frozen=True, slots=True)
class Place:
    """Who wrote a line, and when.

    Attributes:
        rank: the number of the rank; None if nothing says it.
        kind: what that number counts.
        time: seconds since the epoch, in the log's own time zone; None without a full date.
    """

    rank: int | None
    kind: RankKind | None
    time: float | None


def printable(raw: bytes) -> str:
    """Text without colours, control characters and invisible ones, which reorder or hide text.

    Invalid UTF-8 becomes U+FFFD, tabs and wide blanks become a blank.
    """
    text = raw.decode("utf-8", "replace")
    if "\x1b" in text:
        text = _ANSI.sub("", text)
    if not text.isprintable():
        text = "".join(char if char.isprintable() else _BLANKS.get(char, "") for char in text)
    return text.rstrip()


def read_prefix(text: str) -> tuple[Place, str]:
    """Take the launcher's prefixes off a printable line.

    Returns:
        Who wrote it, and the rest. A rank that the process states itself is preferred to a label of its launcher,
        and a local rank to the number of a task, because a task is often a whole machine.
    """
    found: dict[str, str] = {}
    position = 0
    while match := _PREFIX.match(text, position):
        name = str(match.lastgroup)
        found.setdefault(name, match[name])
        position = match.end()
    rest = text[position:]
    return Place(*_rank(found, rest), read_time(text[:160])), rest


def _rank(found: dict[str, str], rest: str) -> tuple[int | None, RankKind | None]:
    if "rank" in found or "mpi" in found:
        return int(found.get("rank") or found["mpi"]), "global"
    inside = _RANK_INSIDE.search(rest)
    if inside is not None:
        return int(inside[1]), "global"
    if "local" in found:
        return int(found["local"]), "local"
    if "task" in found:
        return int(found["task"]), "task"
    device = _DEVICE.search(rest)
    return (int(device[1]), "local") if device is not None else (None, None)


def read_time(text: str, *, last: bool = False) -> float | None:
    """The first (or last) full date and time in a text, as seconds since the epoch; None without one."""
    matches = _TIME.findall(text)
    if not matches:
        return None
    *whole, fraction = matches[-1 if last else 0]
    year, month, day, hour, minute, second = map(int, whole)
    try:
        moment = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None
    return moment.timestamp() + (float(f"0.{fraction}") if fraction else 0.0)

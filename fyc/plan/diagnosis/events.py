"""Collects the failures of a log in bounded memory: which kind, on which rank, when, and after which step."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from fyc.plan.diagnosis.kinds import FailureKind, FailureTable, Level
from fyc.plan.diagnosis.lines import Place, printable, read_prefix, read_time
from fyc.plan.diagnosis.progress import ProgressTracker
from fyc.plan.diagnosis.reader import Line
from fyc.plan.diagnosis.report import Evidence, RankKind

_KEEP = 64  # events of a kind from its beginning, and as many from its end
_SITES = 8  # events of a kind whose place in the code is looked up
_LOOK_BACK = 80  # lines
_LONGEST_TEXT = 400

#: Words of torchrun's final report that say whose exit code follows.
REPORT_WORDS = (b"(local_rank: ", b"Root Cause (first")
_REPORT_RANK = re.compile(r"^\s*rank\s*:\s*(\d{1,7}) \(local_rank: (\d{1,7})\)")
_LOCAL_RANK = re.compile(r"\blocal_rank: (\d{1,7})\b")
_TASK = re.compile(r"srun: error: .*?: tasks? (\d{1,7})")
_PID = re.compile(r"(?:\(pid: |received by PID )(\d{1,10})\b")
_FRAME = re.compile(r'^\s*File ".*", line \d+, in ')


@dataclass
class Event:
    """One failure message.

    Attributes:
        time: seconds; of the line itself, else of the last line before it that has a time. None if none is near.
        own_time: whether the line itself has it.
        steps, starts: throughput lines, and starts of the run, before it.
        after_step: number of the last step before it.
        is_root: whether torchrun called it the first observed failure.
        ended: whether the program had said before that it was through.
        site: the line of the traceback that names the place in the code.
    """

    kind: FailureKind
    groups: Mapping[str, str]
    line: int
    text: str
    rank: int | None
    rank_kind: RankKind | None
    time: float | None
    own_time: bool
    steps: int
    starts: int
    after_step: int | None
    is_root: bool = False
    ended: bool = False
    site: Evidence | None = None

    def evidence(self) -> Evidence:
        """The line as evidence."""
        return Evidence(line=self.line, text=_cut(self.text), rank=self.rank)


@dataclass
class KindLog:
    """The events of one kind: all are counted, the first and the last ones are kept."""

    kind: FailureKind
    count: int = 0
    ranks: list[int] = field(default_factory=list)
    first: list[Event] = field(default_factory=list)
    last: list[Event] = field(default_factory=list)

    def add(self, event: Event) -> None:
        """Take the next event."""
        self.count += 1
        if event.rank is not None and event.rank not in self.ranks and len(self.ranks) < _KEEP:
            self.ranks.append(event.rank)
        if len(self.first) < _KEEP:
            self.first.append(event)
        else:
            self.last = [*self.last[1 - _KEEP :], event]

    def __iter__(self) -> Iterator[Event]:
        yield from self.first
        yield from self.last


class EventLog:
    """The failures of one log.

    Attributes:
        kinds: the events by kind, in the order of the first one of each.
        count: all events.
        highest_rank: the highest global rank that any line named; -1 if none did.
    """

    def __init__(self, table: FailureTable) -> None:
        self.kinds: dict[str, KindLog] = {}
        self.count = 0
        self.highest_rank = -1
        self._table = table
        self._pids: dict[tuple[str, str], Event] = {}
        self._reported: tuple[int, int] | None = None  # line, global rank of torchrun's report
        self._root = -1  # line at which it began to speak of the root cause

    def read(self, line: Line, progress: ProgressTracker) -> bool:
        """Take a line with a failure word.

        Returns:
            Whether it reported anything.
        """
        place, text = read_prefix(line.text)
        if place.kind == "global" and place.rank is not None:
            self.highest_rank = max(self.highest_rank, place.rank)
        if self._is_report(line.number, text):
            return True
        found = self._table.kind_of(text)
        if found is None:
            return False
        kind, groups = found
        event = self._event(line, place, text, progress, kind, groups)
        if self._is_repeated(event, text):
            return True
        log = self.kinds.setdefault(kind.name, KindLog(kind))
        if log.count < _SITES and kind.level >= Level.RAISED:
            event.site = _site(line, event.rank)
        log.add(event)
        self.count += 1
        return True

    def _is_report(self, number: int, text: str) -> bool:
        if text.lstrip().startswith("Root Cause (first"):
            self._root = number
            return True
        if match := _REPORT_RANK.match(text):
            self._reported = (number, int(match[1]))
            self.highest_rank = max(self.highest_rank, int(match[1]))
            return True
        return False

    def _event(
        self, line: Line, place: Place, text: str, progress: ProgressTracker, kind: FailureKind,
        groups: Mapping[str, str],
    ) -> Event:  # fmt: skip
        rank, rank_kind = self._rank(line.number, place, text)
        time = place.time
        if time is None:
            time = read_time(line.before().decode("utf-8", "replace"), last=True)
        return Event(
            kind, groups, line.number, text.strip(), rank, rank_kind, time, place.time is not None, progress.steps,
            progress.starts, progress.last, is_root=0 <= line.number - self._root <= 8, ended=progress.done,
        )  # fmt: skip

    def _rank(self, number: int, place: Place, text: str) -> tuple[int | None, RankKind | None]:
        """Who it is about: a launcher reports the failures of others."""
        if self._reported is not None and 0 < number - self._reported[0] <= 3 and text[:1] in {" ", "e", "t"}:
            return self._reported[1], "global"
        if match := _LOCAL_RANK.search(text):
            return int(match[1]), "local"
        if match := _TASK.search(text):
            return int(match[1]), "task"
        return place.rank, place.kind

    def _is_repeated(self, event: Event, text: str) -> bool:
        """Whether a launcher says again what it said about this process; the later report knows the global rank."""
        match = _PID.search(text)
        if match is None:
            return False
        before = self._pids.get((event.kind.name, match[1]))
        if before is None:
            if len(self._pids) < 4096:
                self._pids[event.kind.name, match[1]] = event
            return False
        if before.rank_kind != "global" and event.rank_kind == "global":
            log = self.kinds[event.kind.name]
            log.ranks = [rank for rank in log.ranks if rank != before.rank]
            log.ranks.insert(0, event.rank or 0)
            before.rank, before.rank_kind = event.rank, event.rank_kind
        before.is_root = before.is_root or event.is_root
        return True


def _site(line: Line, rank: int | None) -> Evidence | None:
    """The innermost frame of the traceback that ends in this line: the nearest one before it of the same rank."""
    lines = line.before().split(b"\n")[:-1]
    for distance, raw in enumerate(reversed(lines[-_LOOK_BACK:]), start=1):
        if b'File "' not in raw:
            continue
        place, text = read_prefix(printable(raw[:2000]))
        if _FRAME.match(text) and place.rank in {rank, None}:
            return Evidence(line=line.number - distance, text=_cut(text.strip()), rank=place.rank)
    return None


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_TEXT else f"{text[: _LONGEST_TEXT - 1]}…"

"""Reads a training log and says what went wrong: which rank failed first, why, and what may be changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from fyc.plan.diagnosis.echoes import FAILURES
from fyc.plan.diagnosis.events import REPORT_WORDS, Event, EventLog, KindLog
from fyc.plan.diagnosis.explain import Explanation
from fyc.plan.diagnosis.kinds import FailureTable, Level
from fyc.plan.diagnosis.progress import PROGRESS_WORDS, ProgressTracker
from fyc.plan.diagnosis.reader import LogReader
from fyc.plan.diagnosis.report import Diagnosis, Edit, Evidence, Finding, Role

_MOST = 10_000  # lines of one word that report nothing, and events, before the reader takes longer strides
_STRIDE = 64 << 10
_GOT_OVER = 3  # steps after a failure that show that the run went on, where nothing speaks against it
_GOT_OVER_SURELY = 100  # more than what waits in a buffer of stdout while stderr already shows the failure
_MOST_EVIDENCE = 8

#: What a process may say while it shuts down after a run that came to its end.
_SHUTDOWN = {"nccl-timeout", "nccl-network", "nccl-error", "nccl-abort", "peer-lost", "terminated", "cancelled"}


def diagnose(path: Path | str) -> Diagnosis:
    """Find out what went wrong in a training run.

    A message that names a cause (no memory, sizes that do not divide) always wins over one that notices that another
    rank is gone (NCCL, gloo, the launcher), whichever stands first. Among messages that say equally much the earliest
    counts: by their times if all have one, else by their order in the log. Failures that the run got over, by a restart
    or because the program caught them, are no cause.

    Args:
        path: what the job wrote to stdout and stderr, of one rank or of many; gzip is unpacked on the way.

    Returns:
        The diagnosis; `is_empty` if the log holds neither a known failure nor progress.

    Raises:
        PlanError: FYC-L01, the file is missing, empty or no text.
    """
    events, progress, lines = _read(Path(path))
    fatal = [event for log in events.kinds.values() for event in log if not _is_harmless(event, progress)]
    cause = _first(fatal)
    result = Diagnosis(
        log=str(path),
        lines=lines,
        status="failed" if cause else ("ok" if progress.is_complete else "unfinished"),
        findings=tuple(_findings(events, cause, fatal)),
        progress=progress.result(),
    )
    return result if cause is None else result.model_copy(update=_verdict(cause, fatal, events, progress))


def _read(path: Path) -> tuple[EventLog, ProgressTracker, int]:
    table = FailureTable(FAILURES)
    events, progress = EventLog(table), ProgressTracker()
    reader = LogReader(path, table.words | set(REPORT_WORDS), PROGRESS_WORDS)
    harmless: Counter[bytes] = Counter()
    progress_words = set(PROGRESS_WORDS)
    for line in reader:
        if line.word in progress_words:
            progress.read(line.text)
        elif not events.read(line, progress):
            harmless[line.word] += 1
            if harmless[line.word] == _MOST:
                reader.forget(line.word)
        if events.count > _MOST:
            reader.gap = _STRIDE
    return events, progress, reader.lines


def _is_harmless(event: Event, progress: ProgressTracker) -> bool:
    """Whether the run went on after it, or had come to its end before."""
    if event.ended and progress.done and event.kind.name in _SHUTDOWN:
        return True
    later = progress.steps - event.steps
    if later < _GOT_OVER:
        return False
    if event.time is not None and progress.last_time is not None:
        if progress.last_time <= event.time:
            return False  # logs of several machines in one file: these steps were made before
        if event.own_time:
            return True
    return progress.is_complete or progress.starts > max(event.starts, 1) or later >= _GOT_OVER_SURELY


def _first(events: Sequence[Event]) -> Event | None:
    """The event that says most about the cause, and of several of them the earliest."""
    if not events:
        return None
    level = max(event.kind.level for event in events)
    best = [event for event in events if event.kind.level == level]
    timed = all(event.time is not None for event in best)
    if level == Level.WAITED and (silent := _silent(events)) is not None:
        return silent
    if level <= Level.KILLED:
        # torchrun's report lists the other failures before the first one.
        return min(best, key=lambda event: (int(event.time or 0) if timed else 0, not event.is_root, event.line))
    return min(best, key=lambda event: (int(event.time or 0) if timed else 0, event.line))


def _silent(events: Sequence[Event]) -> Event | None:
    """The exit that torchrun saw first, if that rank did not wait for others itself."""
    waiting = {event.rank for event in events if event.kind.level == Level.WAITED}
    roots = [event for event in events if event.kind.name == "exited" and event.is_root and event.rank is not None]
    return next((event for event in roots if event.rank not in waiting), None) if waiting else None


def _verdict(cause: Event, fatal: Sequence[Event], events: EventLog, progress: ProgressTracker) -> dict[str, object]:
    """The fields of the diagnosis that speak of the cause."""
    told, explained = _explained(cause, events.kinds[cause.kind.name])
    rank, rank_kind = cause.rank, cause.rank_kind
    text = explained.cause or cause.kind.cause
    if cause.kind.name == "exception" and "exception" in cause.groups:
        text = f"the program raised {cause.groups['exception']}, which this table of failures does not know"
    if cause.kind.name == "nccl-timeout":
        absent = _absent(events, progress)
        if len(absent) == 1:
            rank, rank_kind = absent[0], "global"
        if absent:
            text += f"; no timeout was reported by rank {', '.join(map(str, absent))}: look there"
    fields = {edit.field for edit in explained.edits}
    allowed: tuple[Edit, ...] = (*explained.edits, *(edit for edit in cause.kind.edits if edit.field not in fields))
    return {
        "kind": cause.kind.name, "category": cause.kind.category, "cause": text,
        "next": explained.next or cause.kind.next, "rank": rank, "rank_kind": rank_kind, "line": cause.line,
        "after_step": cause.after_step, "evidence": _evidence(cause, told, fatal), "allowed_edits": allowed,
        "numbers": dict(explained.numbers),
    }  # fmt: skip


def _explained(cause: Event, log: KindLog) -> tuple[Event, Explanation]:
    """What the numbers say: of the event itself, or of the next one of its rank that has any."""
    if cause.kind.explain is None:
        return cause, Explanation()
    first = cause.kind.explain(cause.text, cause.groups)
    for event in log:
        if event.line >= cause.line and event.rank == cause.rank:
            explained = cause.kind.explain(event.text, event.groups)
            if explained.numbers:
                return event, explained
    return cause, replace(first, numbers={})


def _absent(events: EventLog, progress: ProgressTracker) -> list[int]:
    """Ranks that were not among those that waited, if they are few: the collective waited for them."""
    waiting = {event.rank for event in events.kinds["nccl-timeout"] if event.rank_kind == "global"}
    world = progress.settings.get("world_size") or events.highest_rank + 1
    if len(waiting) < 2 or world > 1024 or events.kinds["nccl-timeout"].last:
        return []
    absent = [rank for rank in range(world) if rank not in waiting]
    return absent if len(absent) <= max(1, world // 8) else []


def _evidence(cause: Event, told: Event, fatal: Sequence[Event]) -> tuple[Evidence, ...]:
    """The line of the cause first; then its place in the code, its numbers, other ranks, and the first echoes."""
    found = [cause.evidence()]
    found += [cause.site] if cause.site is not None else []
    found += [told.evidence()] if told is not cause else []
    same = [event for event in fatal if event.kind is cause.kind and event.rank != cause.rank]
    seen = {cause.rank}
    for event in sorted(same, key=lambda event: event.line):
        if event.rank not in seen and len(seen) < 3:
            found.append(event.evidence())
            seen.add(event.rank)
    kinds = {cause.kind.name}
    for event in sorted(fatal, key=lambda event: event.line):
        if event.kind.name not in kinds:
            found.append(event.evidence())
            kinds.add(event.kind.name)
    return tuple(found[:_MOST_EVIDENCE])


def _findings(events: EventLog, cause: Event | None, fatal: Sequence[Event]) -> Iterator[Finding]:
    dangerous = {event.kind.name for event in fatal}
    for name, log in events.kinds.items():
        role: Role = "secondary" if name in dangerous else "survived"
        if cause is not None and name == cause.kind.name:
            role = "cause"
        yield Finding(kind=name, role=role, count=log.count, first_line=log.first[0].line, ranks=tuple(log.ranks))

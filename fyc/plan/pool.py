"""The Global Message Pool: an append-only JSONL file of typed messages that outlives the process that writes it."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from types import TracebackType
from typing import BinaryIO, Self

from filelock import FileLock, Timeout
from pydantic import ValidationError

from fyc.errors import PlanError, ResourceError, resource_error
from fyc.plan.layout import Layout
from fyc.plan.messages import SUBJECT_TYPES, Message, MessageType, Payload, Proposal, Trial, Validation, describe
from fyc.ui.events import Event, EventSink, ignore

#: The first line of every pool file.
HEADER = b'{"format":"fyc-message-pool","version":1}\n'
#: No message is longer: a longer line is no message, and is not read into memory.
MAX_LINE = 4 * 2**20


class PoolContent:
    """What the messages so far add up to. It grows by `add` alone; nothing in it is ever changed or removed."""

    def __init__(self, messages: Iterable[Message] = ()) -> None:
        self._messages: list[Message] = []
        self._proposals: dict[str, str] = {}
        for message in messages:
            self.add(message)

    def __len__(self) -> int:
        return len(self._messages)

    def __iter__(self) -> Iterator[Message]:
        return iter(tuple(self._messages))

    def __contains__(self, message_id: str) -> bool:
        return self._position(message_id) is not None

    def __getitem__(self, message_id: str) -> Message:
        position = self._position(message_id)
        if position is None:
            raise PlanError("FYC-L27", f"the pool holds no message {message_id}", next=f"it holds {len(self)} messages")
        return self._messages[position]

    def _position(self, message_id: str) -> int | None:
        number = message_id.removeprefix("m")
        if f"m{number}" != message_id or not (number.isascii() and number.isdigit()) or number.startswith("0"):
            return None
        return int(number) - 1 if len(number) < 10 and int(number) <= len(self._messages) else None

    @property
    def next_id(self) -> str:
        """Id of the next message: they are numbered without gaps."""
        return f"m{len(self._messages) + 1}"

    def of_type(self, *types: MessageType) -> list[Message]:
        """All messages of these types, oldest first."""
        return [message for message in self._messages if message.type in types]

    def proposal(self, layout: Layout) -> Message | None:
        """The message that proposed this layout, however it was written then."""
        key = layout.key()
        found = self._proposals.get(key)
        if found is None or found not in self:
            return None
        payload = self[found].payload
        return self[found] if isinstance(payload, Proposal) and payload.layout.key() == key else None

    def layout_of(self, message: Message) -> Layout | None:
        """The layout that a proposal, validation, trial or diagnosis is about, or a decision leads to."""
        if isinstance(message.payload, Proposal):
            return message.payload.layout
        if message.subject is not None:
            return self.layout_of(self[message.subject])
        return getattr(message.payload, "layout", None)

    def trials(self, layout: Layout) -> list[Message]:
        """All trials of a layout, oldest first."""
        proposal = self.proposal(layout)
        return [] if proposal is None else [m for m in self.of_type("trial") if m.subject == proposal.id]

    def best_trials(self, count: int) -> list[Message]:
        """The last trial of each of the layouts with the shortest median time, the fastest first."""
        times: dict[str, list[float]] = {}
        last: dict[str, Message] = {}
        for message in self._messages:
            if isinstance(message.payload, Trial) and message.payload.iteration_s is not None:
                times.setdefault(message.payload.proposal, []).append(message.payload.iteration_s)
                last[message.payload.proposal] = message
        return [last[proposal] for proposal in sorted(times, key=lambda key: median(times[key]))[:count]]

    def failures(self) -> list[Message]:
        """All trials that failed, rejected proposals and errors of the planner, oldest first."""
        return [message for message in self._messages if _failed(message)]

    def check(self, message: Message) -> None:
        """Whether the message fits what is there.

        Raises:
            PlanError: FYC-L27 when it points to what is not there, or proposes again what was proposed before.
        """
        if message.id != self.next_id:
            raise _unfit(message, f"the next id is {self.next_id}")
        missing = [ref for ref in message.refs if ref not in self]
        if missing:
            raise _unfit(message, f"it refers to {', '.join(missing[:5])}, which the pool does not hold")
        if message.subject is not None and self[message.subject].type != SUBJECT_TYPES[message.type]:
            raise _unfit(message, f"{message.subject} is a {self[message.subject].type}")
        if isinstance(message.payload, Proposal):
            before = self.proposal(message.payload.layout)
            if before is not None:
                raise _unfit(message, f"{before.id} has proposed the same layout: {message.payload.layout}")

    def add(self, message: Message) -> None:
        """Take a message in; raises what `check` raises."""
        self.check(message)
        if isinstance(message.payload, Proposal):
            self._proposals[message.payload.layout.key()] = message.id
        self._messages.append(message)  # last, and one step: a Ctrl-C leaves the message in or out, never half


def _failed(message: Message) -> bool:
    payload = message.payload
    rejected = isinstance(payload, Validation) and not payload.ok
    return rejected or (isinstance(payload, Trial) and payload.status != "ok") or message.type == "error"


def _unfit(message: Message, why: str) -> PlanError:
    return PlanError("FYC-L27", f"the {message.type} {message.id} does not fit the pool", why=why)


def replay(path: Path, *, events: EventSink = ignore) -> PoolContent:
    """The content of a pool file, rebuilt message by message. Nothing is written.

    A last line without its newline is what a killed writer leaves: it is dropped, with a warning event.

    Raises:
        PlanError: FYC-L26 with the line, when the file is no pool or was changed.
    """
    return _read(path, events)[0]


def _read(path: Path, events: EventSink) -> tuple[PoolContent, int]:
    """The content, and how many bytes of the file are whole lines."""
    content, good = PoolContent(), 0
    try:
        if not path.is_file():
            raise _damaged(path, 0, "there is no such file" if not path.exists() else "it is not a regular file")
        with path.open("rb") as stream:
            for number, line in enumerate(_lines(path, stream), start=1):
                if not line.endswith(b"\n"):
                    if number == 1 and not HEADER.startswith(line):
                        raise _damaged(path, 1, "it is not the first line of a message pool")
                    message = f"the last line of the message pool is torn and was dropped: {len(line)} bytes"
                    events(Event("warning", {"message": message, "where": f"{path}:{number}"}))
                    break
                _take(content, path, number, line)
                good += len(line)
    except OSError as error:
        raise PlanError("FYC-L26", "the message pool cannot be read", where=str(path), why=str(error)) from error
    return content, good


def _lines(path: Path, stream: BinaryIO) -> Iterator[bytes]:
    number = 0
    while line := stream.readline(MAX_LINE + 1):
        number += 1
        if len(line) > MAX_LINE:
            raise _damaged(path, number, f"it is longer than {MAX_LINE} bytes")
        yield line


def _take(content: PoolContent, path: Path, number: int, line: bytes) -> None:
    if number == 1:
        if line != HEADER:
            raise _damaged(path, 1, f"it is not the first line of a message pool: {HEADER.decode().strip()}")
        return
    try:
        content.add(Message.model_validate_json(line))
    except ValidationError as error:
        raise _damaged(path, number, describe(list(error.errors(include_url=False, include_input=False)))) from error
    except PlanError as error:
        raise _damaged(path, number, f"{error.what}: {error.why}") from error


def _damaged(path: Path, line: int, why: str) -> PlanError:
    where = f"{path}:{line}" if line else str(path)
    advice = "a pool is only ever appended to by fyc; restore the file, or start in another folder"
    return PlanError("FYC-L26", "the message pool cannot be read", where=where, why=why, next=advice)


class MessagePool:
    """The pool file, open for the one process that may append to it.

    Every message is one `write` and an `fsync`: after `append` returns it survives the death of the process and of
    the machine. Use it as a context manager, or call `close`.

    Args:
        path: the JSONL file; made if it is not there.
        events: told when a torn last line was cut off.
        clock: the time of a message, with a time zone.

    Raises:
        ResourceError: FYC-S03 when another process has the pool open.
        PlanError: FYC-L26 when the file is no pool, was changed, or cannot be written.
    """

    def __init__(
        self,
        path: Path,
        *,
        events: EventSink = ignore,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.path = path
        self._clock = clock
        self._lock = _lock(path)
        try:
            if path.exists() or path.is_symlink():
                self.content, good = _read(path, events)
                if good != path.stat().st_size or good == 0:
                    _replace(path, good)
            else:
                self.content = PoolContent()
                _replace(path, 0)
            self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
            self._ends = {len(self.content): path.stat().st_size}
        except OSError as error:
            self._lock.release()
            raise _unwritable(path, error) from error
        except BaseException:
            self._lock.release()
            raise

    def append(
        self,
        payload: Payload,
        *,
        iteration: int,
        role: str,
        refs: Iterable[str] = (),
        rationale: str = "",
        reasoner: str = "deterministic",
        tokens: int = 0,
        prompt_sha: str = "",
    ) -> Message:
        """Write a message and return it with its id and time.

        Raises:
            PlanError: FYC-L27 when a field is wrong, a reference points nowhere, or the layout was proposed before
                (ask `content.proposal` first); nothing is written then.
            ResourceError: FYC-S01 when the disk is full; the file is as it was.
        """
        try:
            message = Message(
                id=self.content.next_id, iteration=iteration, role=role, refs=tuple(refs), payload=payload,
                rationale=rationale, reasoner=reasoner, tokens=tokens, prompt_sha=prompt_sha, time=self._clock(),
            )  # fmt: skip
        except ValidationError as error:
            why = describe(list(error.errors(include_url=False, include_input=False)))
            raise PlanError("FYC-L27", "a message for the pool is not valid", where=role, why=why) from error
        self.content.check(message)
        line = message.to_line()
        if len(line) > MAX_LINE:
            raise PlanError("FYC-L27", "a message for the pool is too long", why=f"it has {len(line)} bytes")
        self._write(line)
        self.content.add(message)
        return message

    def _write(self, line: bytes) -> None:
        count = len(self.content)
        end = self._ends[count]
        if os.fstat(self._file).st_size != end:  # a Ctrl-C came between an earlier write and its place in `content`
            os.ftruncate(self._file, end)
        self._ends[count + 1] = end + len(line)
        try:
            if os.write(self._file, line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(self._file)
        except OSError as error:
            os.ftruncate(self._file, end)
            raise _unwritable(self.path, error) from error

    def close(self) -> None:
        """Let another process have the pool."""
        if self._lock.is_locked:
            os.close(self._file)
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _lock(path: Path) -> FileLock:
    """The lock of a pool, taken; the kernel gives it back when the process dies, however it dies."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_name(f".{path.name}.lock"), timeout=0)
        lock.acquire()
    except Timeout as error:
        raise ResourceError(
            "FYC-S03", "another process is writing this message pool", where=str(path),
            next="wait for it, or plan in another folder",
        ) from error  # fmt: skip
    except OSError as error:
        raise _unwritable(path, error) from error
    return lock


def _replace(path: Path, good: int) -> None:
    """Put a file with the first `good` bytes, or a fresh one, in the place of the pool: by rename, so never half."""
    whole = path.resolve()
    new = whole.with_name(f".{whole.name}.new")
    with new.open("wb") as stream:
        if good:
            shutil.copymode(whole, new)
            stream.write(whole.read_bytes()[:good])
        else:
            stream.write(HEADER)
        stream.flush()
        os.fsync(stream.fileno())
    new.replace(whole)
    folder = os.open(whole.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _unwritable(path: Path, error: OSError) -> PlanError | ResourceError:
    full = resource_error(error, where=str(path), next="resume: every message so far is safe")
    return full or PlanError("FYC-L26", "the message pool cannot be written", where=str(path), why=str(error))

"""Reads a log of any size in constant memory and yields the lines that hold one of the given words."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from fyc.errors import PlanError
from fyc.plan.diagnosis.lines import printable
from fyc.plan.diagnosis.words import WordFinder

_CHUNK = 4 << 20
_LONGEST = 8 << 20  # a line without an end is cut here
_CONTEXT = 16 << 10  # what can be looked back at
_BEFORE, _AFTER = 2048, 4096  # of a long line, what is read around a word
_SAMPLE = 64 << 10
_GZIP = b"\x1f\x8b"
_MAGIC = {
    b"PK\x03\x04": "a zip archive or a torch checkpoint", b"GGUF": "a GGUF file", b"\x7fELF": "a program",
    b"\x89PNG": "a picture", b"%PDF": "a PDF", b"BZh": "compressed with bzip2: unpack it first",
    b"\xfd7zXZ": "compressed with xz: unpack it first", b"\x28\xb5\x2f\xfd": "compressed with zstd: unpack it first",
    b"\xff\xfe": "UTF-16 text: convert it to UTF-8 first", b"\xfe\xff": "UTF-16 text: convert it to UTF-8 first",
}  # fmt: skip
_HEAD = re.compile(rb"(?:\s*(?:\d{1,7}: |\[[A-Za-z_]+\d{1,7}\]:? ?))+")  # who wrote a line, see `lines.read_prefix`
_CONTROL = bytes(set(range(32)) - {*b"\t\n\r\x08\x0c\x1b"} | {127})

#: So many progress lines are all read; after them one in so many bytes, so that GBs of them stay a matter of seconds.
_ALL_PROGRESS, _PROGRESS_GAP = 20_000, 4 << 10


@dataclass(frozen=True, slots=True)
class Line:
    """A line that holds a word.

    Attributes:
        number: line number, from 1.
        word: the word that was found.
        text: printable; of a very long line what stands around the word, with the line's first characters.
    """

    number: int
    word: bytes
    text: str
    _block: bytes
    _start: int

    def before(self) -> bytes:
        """Up to 16 KiB of the log in front of this line."""
        return self._block[max(self._start - _CONTEXT, 0) : self._start]


class LogReader:
    """A log to be iterated once. It yields the lines that hold a word, in order.

    Attributes:
        lines: lines read so far.
        gap: bytes to pass over after a line with a failure word; whoever reads sets it when there are too many.

    Args:
        path: the file; gzip is unpacked on the way.
        failures: words that every line is searched for.
        progress: words that may stand in every line.

    Raises:
        PlanError: FYC-L01, there is no such file, or it is empty or no text; also while it is read.
    """

    def __init__(self, path: Path, failures: Iterable[bytes], progress: Iterable[bytes] = ()) -> None:
        self.path = path
        self.lines = 0
        self.gap = 0
        self._progress = frozenset(progress)
        self._progress_lines = 0
        self._finder = WordFinder(self._progress.union(failures))

    def forget(self, word: bytes) -> None:
        """Stop looking for a word, one that too many harmless lines hold."""
        self._finder = WordFinder(self._finder.words - {word})

    def __iter__(self) -> Iterator[Line]:
        if self.path.exists() and not self.path.is_file():
            raise _no_log(self.path, "it is no regular file")
        try:
            with self.path.open("rb") as file:
                tail = b"\n"
                for block in _blocks(self._checked(file)):
                    yield from self._lines_of(tail + block, len(tail))
                    tail = block[-_CONTEXT:]
                self.lines += not tail.endswith(b"\n")
        except OSError as error:
            raise _no_log(self.path, error.strerror or str(error)) from error
        except zlib.error as error:
            raise _no_log(self.path, f"the gzip file is damaged: {error}") from error

    def _checked(self, file: BinaryIO) -> Iterator[bytes]:
        compressed = file.read(2) == _GZIP
        file.seek(0)
        chunks = _unpacked(file) if compressed else iter(lambda: file.read(_CHUNK), b"")
        first = next(chunks, b"")
        reason = _why_no_text(first[:_SAMPLE])
        if reason:
            raise _no_log(self.path, reason)
        yield first
        yield from chunks

    def _lines_of(self, block: bytes, begin: int) -> Iterator[Line]:
        """The lines of a block that hold a word, from `begin` on; what stands before it is there to look back at."""
        counted = next_failure = next_progress = begin
        for position in self._finder.places(block, begin):
            if position < next_failure and position < next_progress:
                continue
            word = self._finder.word_at(block, position)
            is_progress = word in self._progress
            if word is None or position < (next_progress if is_progress else next_failure):
                continue
            start = block.rfind(b"\n", 0, position) + 1
            stop = block.find(b"\n", position)
            stop = len(block) if stop < 0 else stop
            if start > counted:
                self.lines += block.count(b"\n", counted, start)
                counted = start
            low, high = _span(block, start, stop, position)
            yield Line(self.lines + 1, word, _text(block, start, low, high), block, start)
            next_progress = stop
            if is_progress:
                self._progress_lines += 1
                next_progress += _PROGRESS_GAP if self._progress_lines > _ALL_PROGRESS else 0
            else:
                next_failure = high + self.gap
                next_progress = max(next_progress, next_failure if self.gap else 0)
        self.lines += block.count(b"\n", counted)


def _span(block: bytes, start: int, stop: int, position: int) -> tuple[int, int]:
    """What is read of a line: of a very long one, or one that a progress bar rewrote, the part around the word."""
    low, high = max(start, position - _BEFORE), min(stop, position + _AFTER)
    low = max(low, block.rfind(b"\r", low, position) + 1)
    turn = block.find(b"\r", position, high)
    return low, high if turn < 0 else turn


def _text(block: bytes, start: int, low: int, high: int) -> str:
    """A part of a line, with what the line says about its writer."""
    part = block[low:high]
    if low == start or _HEAD.match(part):
        return printable(part)
    head = _HEAD.match(block, start, min(start + 64, low))
    return printable((head[0] if head else b"") + part)


def _blocks(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Whole lines of a few MiB; a longer line is cut, and its pieces overlap so that no word is lost."""
    tail = b""
    for chunk in chunks:
        data = tail + chunk
        cut = data.rfind(b"\n") + 1
        if cut == 0 and len(data) >= _LONGEST:
            cut = len(data) - _AFTER
        if cut:
            yield data[:cut]
        tail = data[cut:]
    if tail:
        yield tail


def _unpacked(file: BinaryIO) -> Iterator[bytes]:
    """The text of a gzip file with any number of members; one that ends too early gives what there is."""
    unpack, data = zlib.decompressobj(31), b""
    while True:
        if unpack.eof:
            data = unpack.unused_data or file.read(_CHUNK)
            if not data.startswith(_GZIP):
                return
            unpack = zlib.decompressobj(31)
        data = data or file.read(_CHUNK)
        if not data:
            yield unpack.flush()
            return
        yield unpack.decompress(data, _CHUNK)
        data = unpack.unconsumed_tail


def _why_no_text(sample: bytes) -> str:
    """Why these first bytes are no log; empty if they may be one."""
    if not sample.strip():
        return "it is empty"
    for magic, what in _MAGIC.items():
        if sample.startswith(magic):
            return f"it is {what}"
    if sample[8:10] == b'{"' and b"\0" in sample[:8]:
        return "it is a safetensors file"
    sample = sample.lstrip(b"\0") or sample  # a log that was cut while its writer went on begins with zeros
    wrong = len(sample) - len(sample.translate(None, _CONTROL)) + sample.decode("utf-8", "replace").count("\ufffd")
    return "it is binary, not text" if wrong > 0.1 * len(sample) else ""


def _no_log(path: Path, why: str) -> PlanError:
    return PlanError(
        "FYC-L01",
        "the log cannot be read or is not a training log",
        where=str(path),
        why=why,
        next="give the file that holds what the training job wrote to stdout and stderr",
    )

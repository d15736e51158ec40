"""Files that are no logs, files that are hard to read, very large files, and prefixes."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fyc.errors import PlanError
from fyc.plan.diagnosis import diagnose, parse_progress
from fyc.plan.diagnosis.echoes import FAILURES
from fyc.plan.diagnosis.lines import printable, read_prefix, read_time
from fyc.plan.diagnosis.reader import LogReader
from fyc.plan.diagnosis.words import WordFinder
from tests.plan.diagnosis.logs import OOM, megatron, nccl_noise, titan, traceback

FAILURE = f"[rank3]: {OOM.format(gpu=3)}\n".encode()


def write(path: Path, *parts: bytes) -> Path:
    with path.open("wb") as file:
        for part in parts:
            file.write(part)
    return path


def safetensors() -> bytes:
    header = json.dumps({"a" * 200: {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    return len(header).to_bytes(8, "little") + header + b"\0" * 8


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "empty"),
        (b" \n\t\n", "empty"),
        (safetensors(), "safetensors"),
        (b"GGUF\x03\0\0\0", "GGUF"),
        (b"PK\x03\x04" + b"model.pt", "zip"),
        (b"\x7fELF\x02\x01", "program"),
        (b"\x89PNG\r\n", "picture"),
        (b"BZh91AY", "bzip2"),
        (bytes(range(256)) * 64, "binary"),
        ("text".encode("utf-16"), "UTF-16"),
        (gzip.compress(b""), "empty"),
        (gzip.compress(bytes(range(256)) * 64), "binary"),
        (gzip.compress(b"")[:10] + b"\xff" * 60, "gzip"),
    ],
)
def test_what_is_no_log_is_refused(tmp_path, content, why):
    path = write(tmp_path / "file", content)
    for read in (diagnose, parse_progress):
        with pytest.raises(PlanError, match="FYC-L01") as caught:
            read(path)
        assert why in caught.value.why
        assert caught.value.where == str(path)
        assert caught.value.next


def test_a_folder_and_a_missing_file_are_refused(tmp_path):
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(PlanError, match="FYC-L01") as caught:
            diagnose(path)
        assert caught.value.exit_code == 2


def test_a_compressed_log(tmp_path):
    text = "\n".join(megatron(range(1, 31))).encode() + b"\n" + FAILURE
    plain = diagnose(write(tmp_path / "a", text))
    packed = diagnose(write(tmp_path / "b", gzip.compress(text[:3000]), gzip.compress(text[3000:])))
    assert packed.model_copy(update={"log": plain.log}) == plain


def test_a_compressed_log_that_ends_too_early_gives_what_there_is(tmp_path):
    text = FAILURE + "\n".join(line for n in range(400) for line in nccl_noise(n)).encode()
    found = diagnose(write(tmp_path / "a", gzip.compress(text)[:-900]))
    assert (found.kind, found.rank) == ("gpu-memory", 3)


def test_lines_are_counted(tmp_path):
    noise = "".join(f"{line}\n" for line in nccl_noise(0, 70_000)).encode()
    found = diagnose(write(tmp_path / "a", noise, FAILURE, noise, b"no end"))
    assert len(noise) > 4 << 20
    assert (found.line, found.lines) == (70_001, 140_002)


def test_a_progress_bar_and_a_failure_in_one_line(tmp_path):
    bar = b"".join(b"\rEpoch 0: %d%%|##   | [rank1]: RuntimeError: no" % n for n in range(100))
    found = diagnose(write(tmp_path / "a", b"first\n", bar, b"\r", FAILURE))
    assert (found.kind, found.rank, found.line) == ("gpu-memory", 3, 2)
    assert found.evidence[0].text.startswith("torch.OutOfMemoryError")


def test_a_failure_glued_to_a_step(tmp_path):
    step = titan([5])[-1].encode()
    found = diagnose(write(tmp_path / "a", step, b" ", FAILURE))
    assert found.kind == "gpu-memory"
    assert found.progress is not None


@pytest.mark.parametrize("before", [0, 3000, 5 << 20, 20 << 20])
def test_a_line_of_any_length(tmp_path, before):
    found = diagnose(
        write(tmp_path / "a", b"first\n[rank3]: ", b"x" * before, b" ", OOM.format(gpu=1).encode(), b"y" * 9999)
    )
    assert (found.kind, found.line) == ("gpu-memory", 2)
    assert found.numbers["tried_gib"] == 1.96
    assert found.findings[0].count == 1
    if before <= 16_000:
        assert found.rank == 3


def test_the_edge_of_a_block_hides_nothing(tmp_path):
    """The words stand at every offset around the size of what is read at once."""
    line = b"x" * 99 + b"\n"
    for shift in range(0, 400, 7):
        filler = line * ((4 << 20) // 100 - 2) + b"z" * shift + b"\n"
        assert diagnose(write(tmp_path / "a", filler, FAILURE)).kind == "gpu-memory"


def test_zeros_in_front_and_bytes_that_are_no_text(tmp_path):
    """A log that was truncated while its writer went on, and a writer that wrote half a character."""
    found = diagnose(write(tmp_path / "a", b"\0" * 5000, b"loss \xff\xfe \xe2\x82\n", FAILURE))
    assert (found.kind, found.line) == ("gpu-memory", 2)


def test_colours_and_windows_line_ends(tmp_path):
    coloured = FAILURE.replace(b"[rank3]:", b"\x1b[31;1m[rank3]:\x1b[0m").replace(b"\n", b"\r\n")
    found = diagnose(write(tmp_path / "a", b"a\r\n", coloured))
    assert (found.kind, found.rank, found.line) == ("gpu-memory", 3, 2)


def test_many_harmless_lines_with_a_word_do_not_hide_the_failure(tmp_path):
    harmless = b"[rank3]: Warning: Error: 0 of 17; Killed 3 idle workers\n" * 30_000
    found = diagnose(write(tmp_path / "a", harmless, FAILURE))
    assert (found.kind, found.line) == ("gpu-memory", 30_001)


def test_many_failures_are_counted_at_least_and_the_first_is_kept(tmp_path):
    found = diagnose(write(tmp_path / "a", FAILURE, FAILURE.replace(b"rank3", b"rank4") * 30_000))
    (finding,) = found.findings
    assert (found.rank, found.line, finding.ranks) == (3, 1, (3, 4))
    assert 10_000 <= finding.count <= 30_001


TEXTS = st.lists(
    st.sampled_from(
        [
            *(word for kind in FAILURES for word in kind.words), *titan([1, 4]), *megatron([1]), *traceback(3, OOM),
            "[rank", "]:", "\x1b[31m", "\r", "\n", "\t", "(", ")", " must be a multiple of ", "0", "-", "9" * 30,
            " (0)",
            "\u202e", "é", "[Rank 7]", "12: ", "2025-99-99 99:99:99", "WorkNCCL(SeqNum=", "exitcode  : -9 (pid: 1)",
            "num_query_groups (0) must be a multiple or divisor of tensor_model_parallel_size (0).",
            "global batch size (0) is not divisible by micro batch size (0) times data parallel size (0)",
            "world_size (0) is not divisible by 0", "train_batch_size is not equal to micro_batch_per_gpu *"
            " gradient_acc_step * world_size 0 != 0 * 0 * 0",
        ]
    ),
    max_size=40,
)  # fmt: skip


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TEXTS, st.binary(max_size=20))
def test_any_text_is_diagnosed_or_refused(tmp_path, parts, junk):
    path = write(tmp_path / "fuzz", "".join(parts).encode(), junk)
    try:
        found = diagnose(path)
    except PlanError:
        return
    assert (found.status == "failed") == (found.kind is not None)
    assert json.loads(found.model_dump_json())["status"] == found.status
    assert all(item.text.isprintable() for item in found.evidence)
    assert all(1 <= item.line <= max(found.lines, 1) for item in found.evidence)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=3000))
def test_any_line_becomes_printable(raw):
    text = printable(raw)
    assert text.isprintable()
    place, rest = read_prefix(text)
    assert text.endswith(rest)
    assert (place.rank is None) == (place.kind is None)


def test_times_are_read_to_the_fraction():
    assert read_time("[2024-04-06 02:55:45,250] x") == read_time("2024-04-06T02:55:45.25Z")
    first, last = "2024-04-06 02:55:45", "2024-04-06 02:55:46"
    assert read_time(f"{first} to {last}", last=True) - read_time(f"{first} to {last}") == 1.0
    assert read_time("2024-13-40 02:55:45") is None
    assert read_time("02:55:45") is None


@given(
    st.lists(st.sampled_from([b"abcd", b"abcde", b"bcda", b"cdabcd", b"dddd"]), min_size=1, unique=True),
    st.lists(st.sampled_from([b"abcd", b"bc", b"d", b"e", b"\n"]), max_size=60).map(b"".join),
    st.integers(0, 9),
)
def test_the_finder_finds_what_a_search_for_each_word_finds(words, text, begin):
    finder = WordFinder(words)
    found = {at for at in finder.places(text, begin) if finder.word_at(text, at)}
    assert found == {at for at in range(begin, len(text)) if text.startswith(tuple(words), at)}
    for at in found:
        assert finder.word_at(text, at) == max((word for word in words if text.startswith(word, at)), key=len)


def test_the_finder_crosses_its_strides():
    text = b"needle" * 100_000
    finder = WordFinder([b"needle"])
    assert [at for at in finder.places(text) if finder.word_at(text, at)] == [
        m.start() for m in re.finditer(b"needle", text)
    ]


def test_the_finder_wants_words_it_can_hash():
    with pytest.raises(ValueError, match="4 bytes"):
        WordFinder([b"abc"])
    assert list(WordFinder([]).places(b"anything")) == []


def test_a_word_can_be_forgotten(tmp_path):
    path = write(tmp_path / "a", b"alpha\nbeta\nalpha\n" * 10)
    reader = LogReader(path, [b"alpha", b"beta"])
    reader.forget(b"alpha")
    assert {line.word for line in reader} == {b"beta"}
    assert reader.lines == 30


# The peak of the program itself: ru_maxrss would begin with that of the process which started it.
BIG = """
import re, sys, time
from pathlib import Path
from fyc.plan.diagnosis import diagnose
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
base = peak()
start = time.process_time()
found = diagnose(sys.argv[1])
print(found.kind, found.rank, found.line, found.progress.steps > 100, time.process_time() - start, base, peak())
"""


@pytest.mark.slow
def test_a_gigabyte_takes_seconds_and_little_memory(tmp_path):
    block = "".join(f"{line}\n" for rank in range(8) for line in (*nccl_noise(rank, 20), *titan(range(1, 30)))).encode()
    count = 10**9 // len(block) + 1
    path = write(tmp_path / "big.log", *[block] * count, FAILURE)
    assert path.stat().st_size > 10**9
    wall = time.monotonic()
    done = subprocess.run([sys.executable, "-c", BIG, path], capture_output=True, text=True, check=True)
    kind, rank, line, progress, seconds, before, peak = done.stdout.split()
    assert (kind, rank, int(line), progress) == ("gpu-memory", "3", count * block.count(b"\n") + 1, "True")
    assert float(seconds) < 20, f"{time.monotonic() - wall:.0f} s of wall time"
    assert int(peak) - int(before) < 200 * 1024
    assert int(peak) < 600 * 1024

"""The cache builds a folder once, whole or not at all."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

import pytest

from fyc import cache
from fyc.cache import build_once, cache_dir, check_free
from fyc.errors import FycError, ModelError, ResourceError, UserError


def fill(folder: Path) -> None:
    (folder / "a").write_text("x")


def test_built_once(tmp_path: Path) -> None:
    target = tmp_path / "sub" / "thing"
    assert build_once(target, fill) == target
    assert (target / "a").read_text() == "x"

    def never(folder: Path) -> None:
        raise AssertionError(folder)

    assert build_once(target, never) == target


def test_a_failed_build_leaves_nothing(tmp_path: Path) -> None:
    def failing(folder: Path) -> None:
        fill(folder)
        raise ModelError("FYC-M03", "damaged")

    with pytest.raises(ModelError):
        build_once(tmp_path / "thing", failing)
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == []
    build_once(tmp_path / "thing", fill)


@pytest.mark.parametrize(
    ("number", "kind", "code"),
    [
        (errno.ENOSPC, ResourceError, "FYC-S01"),
        (errno.EDQUOT, ResourceError, "FYC-S01"),
        (errno.EACCES, UserError, "FYC-R09"),
        (errno.EROFS, UserError, "FYC-R09"),
    ],
)
def test_errors_of_the_disk(tmp_path: Path, number: int, kind: type[FycError], code: str) -> None:
    def failing(folder: Path) -> None:
        raise OSError(number, os.strerror(number))

    with pytest.raises(kind, match=code) as caught:
        build_once(tmp_path / "thing", failing)
    assert "FYC_CACHE" in caught.value.next
    assert not (tmp_path / "thing").exists()


def slow_build(folder: Path) -> None:
    (folder / "a").write_text("half")
    time.sleep(60)


def build_slowly(target: Path) -> None:
    build_once(target, slow_build)


def build_and_count(target: Path, log: Path) -> None:
    def counted(folder: Path) -> None:
        time.sleep(0.2)
        fill(folder)
        with log.open("a") as stream:
            stream.write("built\n")

    build_once(target, counted)


@pytest.mark.skipif(sys.platform == "win32", reason="kills with a signal")
def test_a_killed_build_is_cleaned_up_by_the_next(tmp_path: Path) -> None:
    target = tmp_path / "thing"
    process = multiprocessing.get_context("fork").Process(target=build_slowly, args=(target,))
    process.start()
    while not list(tmp_path.glob(".thing.new-*/a")):
        time.sleep(0.01)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert not target.exists()
    build_once(target, fill)
    assert (target / "a").read_text() == "x"
    assert list(tmp_path.glob(".thing.new-*")) == []


def test_processes_at_once_build_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    arguments = (tmp_path / "thing", tmp_path / "log")
    processes = [context.Process(target=build_and_count, args=arguments) for _ in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 4
    assert (tmp_path / "log").read_text() == "built\n"


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FYC_CACHE", str(tmp_path))
    assert cache_dir() == tmp_path
    monkeypatch.delenv("FYC_CACHE")
    monkeypatch.setattr(cache.sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_dir() == tmp_path / "xdg" / "fyc"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_dir() == tmp_path / "home" / ".cache" / "fyc"


def test_check_free(tmp_path: Path) -> None:
    check_free(tmp_path / "not" / "there" / "yet", 1)
    with pytest.raises(ResourceError, match="FYC-S01"):
        check_free(tmp_path, 10**18)

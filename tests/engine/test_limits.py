"""Disk full and memory limits: the right code, and nothing half-written."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import shutil
import subprocess
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import toys
from children import forked
from kills import Operations

from fyc.engine import RunPlan, convert, prepare
from fyc.engine.workspace import work_folder
from fyc.errors import FycError, RecipeError, ResourceError
from fyc.recipe import parse_recipe

pytestmark = pytest.mark.usefixtures("traced_once")
Usage = namedtuple("Usage", "total used free")


def outcome(plan: RunPlan, prepare_child: Callable[[], None], *, resume: bool = False) -> FycError | None:
    """The error of a conversion in a forked child that was limited first."""
    report = plan.output.parent / "report.json"

    def child() -> int:
        prepare_child()
        try:
            convert(plan, resume=resume)
        except FycError as error:
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
            text = json.dumps({"type": type(error).__name__, **error.as_dict()})
            report.write_text(text, encoding="utf-8")
            return error.exit_code
        return 0

    status = forked(child)
    if status == 0:
        return None
    assert report.is_file(), f"status {status}: not an error of fyc"
    data = json.loads(report.read_text())
    report.unlink()
    error = {"ResourceError": ResourceError}[data.pop("type")](**data)
    assert status == error.exit_code
    return error


@pytest.fixture(scope="module")
def large() -> Path:
    """A model whose blocks take a few megabytes, so that limits bite in the middle of the work."""
    sizes = {"hidden_size": 256, "intermediate_size": 1024, "vocab_size": 2000, "num_hidden_layers": 2}
    return toys.toy_model(toys.scratch() / "large", **sizes)


def address_space() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")


def test_memory_limit(large: Path, tmp_path: Path) -> None:
    """Whatever the limit, a run succeeds or says FYC-S02; then it can be resumed."""
    plan = toys.toy_plan(large, tmp_path / "out", "toy-rows")
    undisturbed = toys.files_of(convert(toys.toy_plan(large, tmp_path / "calm", "toy-rows")).path)
    failed = 0
    held: list[bytearray] = []
    for megabytes in (0, 1, 2, 4, 8, 16):

        def limit(megabytes: int = megabytes) -> None:
            resource.setrlimit(resource.RLIMIT_AS, (address_space(), address_space()))
            # What the heap has free would do for the whole run: fill it, and leave so many megabytes.
            with contextlib.suppress(MemoryError):
                while True:
                    held.append(bytearray(2**20))
            del held[:megabytes]

        error = outcome(plan, limit)
        if error is None:
            shutil.rmtree(plan.output)
            continue
        failed += 1
        assert error.code == "FYC-S02"
        assert error.exit_code == 6
        assert "--resume" in error.next
        toys.nothing_loads(plan)
        convert(plan, resume=True)
        assert toys.files_of(plan.output) == undisturbed
        shutil.rmtree(plan.output)
    assert failed >= 2


OUT_OF_MEMORY = [
    MemoryError(),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] . DefaultCPUAllocator: can't allocate memory: you tried ..."),
    RuntimeError("std::bad_alloc"),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
]


@pytest.mark.parametrize("step", ["survey", "plan", "run_outer", "run"])
@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=range(len(OUT_OF_MEMORY)))
def test_memory_that_runs_out_inside_a_pass(error: Exception, step: str, tmp_path: Path) -> None:
    """It is the machine's fault, not the pass's."""

    def fail(*args: Any) -> Any:
        raise error

    hungry = type("Hungry", (toys.Rows,), {"name": "toy-hungry", step: fail})
    plan = toys.toy_plan(toys.model(), tmp_path / "out", "toy-hungry", host=toys.toy_host(hungry))
    with pytest.raises(ResourceError) as caught:
        convert(plan)
    assert caught.value.code == "FYC-S02"
    toys.nothing_loads(plan)


def test_file_size_limit(large: Path, tmp_path: Path) -> None:
    """RLIMIT_FSIZE ends a write like a full disk does, also the writes of safetensors."""
    plan = toys.toy_plan(large, tmp_path / "out", "toy-rows")
    undisturbed = toys.files_of(convert(toys.toy_plan(large, tmp_path / "calm", "toy-rows")).path)
    for size in (100, 5_000, 300_000, 1_500_000):

        def limit(size: int = size) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

        error = outcome(plan, limit, resume=(work_folder(plan.output) / "fingerprint.json").is_file())
        assert error is not None
        assert (error.code, error.exit_code) == ("FYC-S01", 6)
        assert "free some space" in error.next
        toys.nothing_loads(plan)
    convert(plan, resume=True)
    assert toys.files_of(plan.output) == undisturbed


def test_disk_full_at_any_write(tmp_path: Path) -> None:
    """ENOSPC before every third file operation."""
    plan = toys.toy_plan(toys.model(), tmp_path / "out", "toy-round", calibration=False)
    seen = _operations(plan)
    shutil.rmtree(plan.output)
    # What cannot be linked is copied, what cannot be removed stays, and most new folders exist already.
    harmless = ("os.link", "shutil.rmtree", "os.mkdir")
    writes = [number for number, what in enumerate(seen[:-4], 1) if not what.startswith(harmless)]
    for number in writes[::3]:

        def full(number: int = number) -> None:
            Operations(plan.output.parent, number, _no_space).watch()

        error = outcome(plan, full)
        assert error is not None, number
        assert error.code == "FYC-S01"
        toys.nothing_loads(plan)
        shutil.rmtree(work_folder(plan.output), ignore_errors=True)


def _no_space() -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def _operations(plan: RunPlan) -> list[str]:
    listing = toys.scratch() / "operations"

    def count() -> int:
        seen = Operations(plan.output.parent, 0).watch().seen
        convert(plan)
        listing.write_text("\n".join(seen), encoding="utf-8")
        return 0

    assert forked(count) == 0
    return listing.read_text(encoding="utf-8").splitlines()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Mounts file systems of a given size in memory."""
    mounted: list[Path] = []

    def mount(kilobytes: int) -> Path:
        folder = tmp_path / f"disk-{len(mounted)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"NO DISK WAS FILLED: this machine does not let us mount one ({done.stderr.strip()})")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_really_full(
    large: Path, small_disk: Callable[[int], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a disk with room for some of the work: FYC-S01, and after freeing space the run goes on."""
    calm = toys.scratch()
    undisturbed = toys.files_of(convert(toys.toy_plan(large, calm / "calm", "toy-rows")).path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**12, 0, 10**12))
    codes = []
    for kilobytes in (300, 2_000, 4_000):
        disk = small_disk(kilobytes)
        plan = toys.toy_plan(large, disk / "out", "toy-rows")
        with pytest.raises(ResourceError) as caught:
            convert(plan)
        codes.append(caught.value.code)
        assert "No space left" in caught.value.why
        toys.nothing_loads(plan)
        remount = ["mount", "-o", "remount,size=60m", str(disk)]
        subprocess.run(remount, check=True)
        convert(plan, resume=(work_folder(plan.output) / "fingerprint.json").is_file())
        assert toys.files_of(plan.output) == undisturbed
    assert codes == ["FYC-S01"] * 3


def test_free_disk_is_checked_before_work_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = toys.toy_plan(toys.model(), tmp_path / "a" / "b" / "out", "toy-rows")
    asked: list[Path] = []

    def usage(free: int) -> Callable[[Path], Usage]:
        return lambda path: asked.append(Path(path)) or Usage(10**12, 0, free)

    monkeypatch.setattr(shutil, "disk_usage", usage(plan.disk_needed_bytes - 1))
    with pytest.raises(ResourceError) as caught:
        convert(plan)
    assert (caught.value.code, caught.value.exit_code) == ("FYC-S01", 6)
    assert "-o" in caught.value.next
    assert asked == [tmp_path]
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(shutil, "disk_usage", usage(plan.disk_needed_bytes))
    convert(plan)


def test_a_plan_tells_what_is_wrong_with_output_and_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--dry-run` checks what a run would; the output before the model is opened or fetched."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("precious")
    with pytest.raises(RecipeError, match="FYC-R08"):
        toys.toy_plan(tmp_path / "no-model", tmp_path / "out", "toy-rows")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(10**12, 0, 1000))
    with pytest.raises(ResourceError) as caught:
        toys.toy_plan(toys.model(), tmp_path / "b", "toy-rows")
    assert (caught.value.code, caught.value.exit_code) == ("FYC-S01", 6)
    text = toys.recipe_text(toys.model(), "toy-rows")
    prepare(parse_recipe(text), host=toys.toy_host(), output=tmp_path / "out", resume=True)


def test_the_disk_estimate_is_an_upper_bound(large: Path, tmp_path: Path) -> None:
    passes = ("{use: toy-round, options: {digits: 3}}", "toy-rows")
    plan = toys.toy_plan(large, tmp_path / "out", *passes)
    largest = [0]

    def watch(event: Any) -> None:
        files = {path.stat().st_ino: path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()}
        largest[0] = max(largest[0], sum(files.values()))

    convert(plan, events=watch)
    assert 0 < largest[0] < plan.disk_needed_bytes


def test_the_disk_estimate_of_a_small_model_is_small_and_counts_its_tokenizer(tmp_path: Path) -> None:
    folder = toys.toy_model(tmp_path / "model")
    before = toys.toy_plan(folder, tmp_path / "out", "toy-rows").disk_needed_bytes
    assert before < 5e6
    vocabulary = folder / "vocab.json"
    vocabulary.write_text(" " * 3_000_000, encoding="utf-8")
    assert toys.toy_plan(folder, tmp_path / "out", "toy-rows").disk_needed_bytes == before + 3_000_000

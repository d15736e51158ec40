"""Disk full, memory limits, missed gates, wrong orders and bad input: the right code, and nothing half-written."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import resource
import shutil
import signal
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
from safetensors.torch import load_file, save_file

import fyc
from fyc.artifact import is_artifact, open_artifact
from fyc.engine import RunPlan, convert, prepare
from fyc.engine.workspace import clean, work_folder
from fyc.errors import FycError, ModelError, PassError, RecipeError, ResourceError
from fyc.passes import ModuleReport, PassResult
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


def nothing_loads(plan: RunPlan) -> None:
    """Neither the output nor anything in the work folder passes for an artifact."""
    assert not plan.output.exists()
    for folder in [work_folder(plan.output), *work_folder(plan.output).rglob("*")]:
        if folder.is_dir() and is_artifact(folder):
            assert folder.name == "artifact"
            open_artifact(folder).verify()


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
        nothing_loads(plan)
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
    nothing_loads(plan)


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
        nothing_loads(plan)
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
        nothing_loads(plan)
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
        nothing_loads(plan)
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


# -- output folder ------------------------------------------------------------------------------------------------


def test_an_output_folder_that_is_not_empty(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    with pytest.raises(RecipeError) as caught:
        convert(toys.toy_plan(toys.model(), tmp_path / "out", "toy-round"))
    assert (caught.value.code, caught.value.exit_code) == ("FYC-R08", 2)
    assert (tmp_path / "out" / "thesis.tex").read_text() == "years of work"


def test_an_output_that_is_a_file_or_a_link(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder", target_is_directory=True)
    for name, code in (("file", "FYC-R08"), ("link", "FYC-R09"), ("file/out", "FYC-R09"), ("file/a/out", "FYC-R09")):
        with pytest.raises(RecipeError) as caught:
            convert(toys.toy_plan(toys.model(), tmp_path / name, "toy-round"))
        assert caught.value.code == code
    assert (tmp_path / "file").read_text() == "mine"


def test_an_empty_output_folder_is_used(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    convert(toys.toy_plan(toys.model(), tmp_path / "out", "toy-round"))


def test_the_current_folder_has_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for output in (Path(), Path("..")):
        with pytest.raises(RecipeError) as caught:
            convert(toys.toy_plan(toys.model(), output, "toy-round"))
        assert caught.value.code in {"FYC-R09", "FYC-R08"}


def test_what_is_put_into_the_output_meanwhile_stays(tmp_path: Path) -> None:
    plan = toys.toy_plan(toys.model(), tmp_path / "out", "toy-round")

    def interfere(event: Any) -> None:
        if event.kind == "block" and event.data["index"] == 2:
            plan.output.mkdir(exist_ok=True)
            (plan.output / "mine").write_text("precious")

    with pytest.raises(RecipeError) as caught:
        convert(plan, events=interfere)
    assert caught.value.code == "FYC-R08"
    assert "--resume" in caught.value.next
    assert (plan.output / "mine").read_text() == "precious"
    shutil.rmtree(plan.output)
    convert(plan, resume=True)
    open_artifact(plan.output).verify()


# -- the gate -----------------------------------------------------------------------------------------------------


class Worse(toys.Round):
    """Makes every prediction more extreme, which costs perplexity."""

    name = "toy-worse"
    factor = 3.0

    def run_outer(self, outer: Any, ctx: Any) -> PassResult:
        outer.module.model.norm.weight.data.mul_(self.factor)
        return PassResult([ModuleReport("model.norm", "scaled")])


def test_a_missed_gate_keeps_the_output_as_rejected(tmp_path: Path) -> None:
    (toys.copied(toys.artifact(), tmp_path / "out.rejected") / "old").write_text("from last time")
    plan = toys.toy_plan(toys.model(), tmp_path / "out", "toy-worse", verify=0.0001, host=toys.toy_host(Worse))
    with pytest.raises(PassError) as caught:
        convert(plan)
    assert (caught.value.code, caught.value.exit_code) == ("FYC-X02", 4)
    assert "out.rejected" in caught.value.next
    assert "0.01%" in caught.value.why
    assert caught.value.where.startswith("recipe:6:")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.rejected"]
    rejected = open_artifact(tmp_path / "out.rejected")
    metrics = rejected.manifest.metrics
    ratio = metrics["held_out_perplexity_after"] / metrics["held_out_perplexity_before"]
    assert metrics["held_out_perplexity_ratio"] == pytest.approx(ratio)
    assert ratio > 1.0001
    fyc.load(rejected.path)
    with pytest.raises(PassError):
        convert(plan)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.rejected"]


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_what_is_no_rejected_artifact_is_never_removed(kind: str, tmp_path: Path) -> None:
    taken = tmp_path / "out.rejected"
    if kind == "folder":
        taken.mkdir()
        (taken / "thesis.tex").write_text("years of work")
    elif kind == "file":
        taken.write_text("years of work")
    else:
        taken.symlink_to(toys.artifact().path, target_is_directory=True)
    with pytest.raises(RecipeError) as caught:
        toys.toy_plan(toys.model(), tmp_path / "out", "toy-rows", verify=100.0)
    assert (caught.value.code, caught.value.where) == ("FYC-R08", str(taken))
    assert clean(tmp_path / "out") == []
    assert os.path.lexists(taken)
    convert(toys.toy_plan(toys.model(), tmp_path / "out", "toy-rows"))


def test_what_is_put_into_the_place_of_a_rejected_output_meanwhile_stays(tmp_path: Path) -> None:
    plan = toys.toy_plan(toys.model(), tmp_path / "out", "toy-worse", verify=0.0001, host=toys.toy_host(Worse))
    mine = tmp_path / "out.rejected" / "mine"

    def interfere(event: Any) -> None:
        if event.kind == "block" and not mine.exists():
            mine.parent.mkdir()
            mine.write_text("precious")

    with pytest.raises(RecipeError, match="FYC-R08"):
        convert(plan, events=interfere)
    assert mine.read_text() == "precious"


def test_the_gate_is_relative_and_exact(tmp_path: Path) -> None:
    host = toys.toy_host(Worse)
    made = convert(toys.toy_plan(toys.model(), tmp_path / "a", "toy-worse", verify=100.0, host=host))
    increase = made.manifest.metrics["held_out_perplexity_ratio"] - 1
    assert increase > 0.01
    convert(toys.toy_plan(toys.model(), tmp_path / "b", "toy-worse", verify=round(increase, 6) + 1e-5, host=host))
    with pytest.raises(PassError, match="FYC-X02"):
        convert(toys.toy_plan(toys.model(), tmp_path / "c", "toy-worse", verify=round(increase, 6) - 1e-5, host=host))


def test_a_model_that_was_wrecked_misses_the_gate(tmp_path: Path) -> None:
    """A loss of a thousand nats is a missed gate, not an overflow."""

    class Wreck(Worse):
        name = "toy-wreck"
        factor = 1e5

    plan = toys.toy_plan(toys.model(), tmp_path / "out", "toy-wreck", verify=0.5, host=toys.toy_host(Wreck))
    with pytest.raises(PassError) as caught:
        convert(plan)
    assert caught.value.code == "FYC-X02"


def test_a_killed_run_with_a_missed_gate_is_rejected_after_resume(tmp_path: Path) -> None:
    plan = toys.toy_plan(toys.model(), tmp_path / "out", "toy-worse", verify=0.0001, host=toys.toy_host(Worse))

    def die() -> int:
        Operations(tmp_path, 60).watch()
        convert(plan)
        return 0

    assert forked(die) == -signal.SIGKILL
    with pytest.raises(PassError, match="FYC-X02"):
        convert(plan, resume=True)
    open_artifact(tmp_path / "out.rejected").verify()


# -- order and patterns -------------------------------------------------------------------------------------------


class Needs(toys.Round):
    name = "toy-needs"
    requires = frozenset({"int8-rows"})


class Clashes(toys.Round):
    name = "toy-clashes"
    requires = frozenset()
    conflicts = frozenset({"int8-rows"})


ORDERS = {
    "requires what comes later": (("toy-needs", "toy-rows"), "recipe:5:10", "move it after 'toy-rows'"),
    "requires what nobody makes": (("toy-needs",), "recipe:5:10", "put a pass that produces it"),
    "requires what was removed": (("toy-rows", "toy-round"), "recipe:6:10", "float-weights"),
    "conflicts with what is there": (("toy-rows", "toy-clashes"), "recipe:6:10", "conflicts with int8-rows"),
}


@pytest.mark.parametrize(("passes", "where", "message"), ORDERS.values(), ids=ORDERS)
def test_an_order_that_cannot_work(passes: tuple[str, ...], where: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        toys.toy_plan(toys.model(), tmp_path / "out", *passes, host=toys.toy_host(Needs, Clashes))
    assert caught.value.code == "FYC-R05"
    assert caught.value.where == where
    assert message in str(caught.value)


def test_orders_that_work(tmp_path: Path) -> None:
    host = toys.toy_host(Needs, Clashes)
    toys.toy_plan(toys.model(), tmp_path / "out", "toy-rows", "toy-needs", host=host)
    toys.toy_plan(toys.model(), tmp_path / "out", "toy-clashes", "toy-rows", host=host)


def test_a_pass_that_needs_calibration_says_so(tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        toys.toy_plan(toys.model(), tmp_path / "out", "toy-rows", calibration=False)
    assert caught.value.code == "FYC-R05"
    assert "--calibration" in caught.value.next


PATTERNS = {
    "include": ("{use: toy-round, include: ['model.layers.*', 'model.leyers.0']}", "recipe:5:50", "'model.leyers.0'"),
    "exclude": ("{use: toy-round, exclude: ['lm_haed']}", "recipe:5:32", "'lm_haed'"),
}


@pytest.mark.parametrize(("use", "where", "message"), PATTERNS.values(), ids=PATTERNS)
def test_a_pattern_that_matches_nothing(use: str, where: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        toys.toy_plan(toys.model(), tmp_path / "out", use)
    assert caught.value.code == "FYC-R04"
    assert caught.value.where == where
    assert message in caught.value.what


def test_patterns_that_leave_nothing_to_do(tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        toys.toy_plan(toys.model(), tmp_path / "out", "{use: toy-round, include: ['model.norm']}")
    assert caught.value.code == "FYC-R04"
    assert "finds nothing to do" in caught.value.what


# -- damaged sources ----------------------------------------------------------------------------------------------


def damaged(folder: Path, name: str, value: float, *, where: str = "model.safetensors") -> Path:
    toys.toy_model(folder, num_hidden_layers=2)
    tensors = load_file(folder / where)
    tensors[name].view(-1)[-1] = value
    save_file(tensors, folder / where, metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize(
    "name", ["model.layers.1.mlp.up_proj.weight", "model.embed_tokens.weight", "model.norm.weight"]
)
def test_weights_that_are_not_finite(name: str, value: float, tmp_path: Path) -> None:
    plan = toys.toy_plan(damaged(tmp_path / "m", name, value), tmp_path / "out", "toy-rows")
    with pytest.raises(ModelError) as caught:
        convert(plan)
    assert (caught.value.code, caught.value.exit_code) == ("FYC-M04", 2)
    assert name in str(caught.value)
    nothing_loads(plan)


def test_activations_that_overflow_name_the_block(tmp_path: Path) -> None:
    plan = toys.toy_plan(
        damaged(tmp_path / "m", "model.layers.0.input_layernorm.weight", 3e38), tmp_path / "o", "toy-rows"
    )
    with pytest.raises(ModelError) as caught:
        convert(plan)
    assert caught.value.code == "FYC-M04"
    assert "model.layers.0" in caught.value.where
    assert "float32" in caught.value.next


def test_logits_that_overflow_name_the_head(tmp_path: Path) -> None:
    folder = damaged(tmp_path / "m", "model.norm.weight", 3e38)
    plan = toys.toy_plan(folder, tmp_path / "out", "{use: toy-rows, options: {branches: 1}}", verify=0.1)
    with pytest.raises(ModelError) as caught:
        convert(plan)
    assert caught.value.code == "FYC-M04"
    assert "head" in caught.value.where


def test_a_source_that_changes_during_the_run(tmp_path: Path) -> None:
    """Its digest stands in the manifest: the artifact must not claim another source."""
    folder = toys.toy_model(tmp_path / "m", num_hidden_layers=2)
    plan = toys.toy_plan(folder, tmp_path / "out", "toy-round")

    def change(event: Any) -> None:
        if event.kind == "block" and event.data["index"] == 0 and event.data["phase"] == "run":
            other = {name: tensor * 2 for name, tensor in load_file(folder / "model.safetensors").items()}
            save_file(other, folder / "model.safetensors", metadata={"format": "pt"})

    with pytest.raises(FycError) as caught:
        convert(plan, events=change)
    assert "changed" in caught.value.what
    assert not plan.output.exists()


def test_a_text_that_is_too_short(tmp_path: Path) -> None:
    text = toys.recipe_text(toys.model(), "toy-rows", samples=4000)
    with pytest.raises(RecipeError) as caught:
        prepare(parse_recipe(text), host=toys.toy_host(), output=tmp_path / "out")
    assert caught.value.code == "FYC-R07"

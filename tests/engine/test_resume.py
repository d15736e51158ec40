"""A run that is killed at any moment and resumed gives the bytes of a run that nobody disturbed."""

from __future__ import annotations

import functools
import json
import os
import random
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import toys
from children import fork, forked, wait
from kills import Operations

from fyc.artifact import is_artifact, open_artifact
from fyc.engine import RunPlan, clean, convert
from fyc.engine.workspace import work_folder
from fyc.errors import FycError, Interrupted, RecipeError, ResourceError

pytestmark = pytest.mark.usefixtures("traced_once")


@functools.cache
def small(blocks: int = 2) -> Path:
    """A model with few small blocks: few file operations, and quick."""
    return toys.toy_model(toys.scratch() / "m", num_hidden_layers=blocks, hidden_size=16, intermediate_size=16)


def run(plan: RunPlan, *, resume: bool) -> int:
    convert(plan, resume=resume)
    return 0


def resume_until_complete(plan: RunPlan) -> None:
    """What a person would do: resume, and where nothing had begun yet, start."""
    if (work_folder(plan.output) / "fingerprint.json").is_file():
        convert(plan, resume=True)
        return
    with pytest.raises(RecipeError, match="FYC-R10"):
        convert(plan, resume=True)
    if not is_artifact(plan.output):
        convert(plan)


def operations(plan: RunPlan, *, resume: bool = False) -> list[str]:
    """The file operations of an undisturbed run."""
    listing = toys.scratch() / "operations"

    def count() -> int:
        seen = Operations(plan.output.parent, 0).watch().seen
        convert(plan, resume=resume)
        listing.write_text("\n".join(seen), encoding="utf-8")
        return 0

    assert forked(count) == 0
    return listing.read_text(encoding="utf-8").splitlines()


def check_every_kill(plan: RunPlan, undisturbed: dict[str, bytes], numbers: range) -> None:
    output = plan.output
    for number in numbers:

        def die(number: int = number) -> int:
            Operations(output.parent, number).watch()
            convert(plan)
            return 0

        assert forked(die) == -signal.SIGKILL, f"operation {number} was never reached"
        if is_artifact(output):
            open_artifact(output).verify()
        resume_until_complete(plan)
        assert toys.files_of(output) == undisturbed, f"killed before operation {number}"
        left = sorted(path.name for path in output.parent.iterdir() if path != output)
        assert left in ([], [f"{work_folder(output).name}-done"]), f"killed before operation {number}"
        for path in output.parent.iterdir():
            shutil.rmtree(path)


def test_killed_before_every_file_operation(tmp_path: Path) -> None:
    plan = toys.toy_plan(small(1), tmp_path / "out", "toy-round", calibration=False)
    seen = operations(plan)
    undisturbed = toys.files_of(plan.output)
    clean_up(tmp_path)
    assert len(seen) > 40
    assert any("save_file half done" in line for line in seen)
    assert any(line.startswith("os.link") for line in seen)
    check_every_kill(plan, undisturbed, range(1, len(seen) + 1))


def clean_up(folder: Path) -> None:
    for path in folder.iterdir():
        shutil.rmtree(path)


@pytest.mark.slow
def test_killed_before_every_file_operation_of_two_passes_with_branches_and_gate(tmp_path: Path) -> None:
    passes = ("toy-round", "{use: toy-rows, options: {branches: 2, measure: true}}")
    plan = toys.toy_plan(small(), tmp_path / "out", *passes, verify=9.0)
    seen = operations(plan)
    undisturbed = toys.files_of(plan.output)
    clean_up(tmp_path)
    check_every_kill(plan, undisturbed, range(1, len(seen) + 1))


@pytest.mark.parametrize("family", ["gpt2", "albert", "llama"])
def test_killed_at_random_moments(family: str, tmp_path: Path) -> None:
    """Killed by the clock, some times in one run, in the middle of whatever it did."""
    passes = ("{use: toy-round, options: {digits: 3}}", "{use: toy-rows, options: {branches: 2}}")
    calm = toys.toy_plan(toys.model(family), tmp_path / "calm", *passes)
    started = time.monotonic()
    assert forked(functools.partial(run, calm, resume=False)) == 0
    duration = time.monotonic() - started
    undisturbed = toys.files_of(calm.output)
    plan = toys.toy_plan(toys.model(family), tmp_path / "out", *passes)
    moments = random.Random(0)
    kills = 0
    for _ in range(40):
        resume = (work_folder(plan.output) / "fingerprint.json").is_file()
        child = fork(functools.partial(run, plan, resume=resume))
        time.sleep(moments.uniform(0.05, 0.5) * duration)
        os.kill(child, signal.SIGKILL)
        kills += wait(child) == -signal.SIGKILL
        if is_artifact(plan.output):
            if kills >= 3:
                break
            shutil.rmtree(plan.output)  # it was quicker than the clock: once more, and sooner
            duration /= 2
    resume_until_complete(plan)
    assert kills >= 3
    assert toys.files_of(plan.output) == undisturbed


def interrupted(plan: RunPlan, number: int) -> None:
    """Kill a run in the middle."""

    def die() -> int:
        Operations(plan.output.parent, number).watch()
        convert(plan)
        return 0

    assert forked(die) == -signal.SIGKILL


def test_a_resumed_run_does_not_repeat_what_is_done(tmp_path: Path) -> None:
    plan = toys.toy_plan(small(), tmp_path / "out", "toy-rows")
    total = len(operations(plan))
    clean_up(tmp_path)
    interrupted(plan, total - 10)
    again = operations(plan, resume=True)
    assert not [line for line in again if "save_file" in line and "/run/" in line]
    assert not [line for line in again if "/survey/" in line]


def test_nothing_to_resume(tmp_path: Path) -> None:
    plan = toys.toy_plan(small(), tmp_path / "out", "toy-round")
    with pytest.raises(RecipeError) as caught:
        convert(plan, resume=True)
    assert caught.value.code == "FYC-R10"
    assert "without --resume" in caught.value.next
    assert list(tmp_path.iterdir()) == []
    convert(plan)
    with pytest.raises(RecipeError) as caught:
        convert(plan, resume=True)
    assert caught.value.code == "FYC-R10"
    assert "complete artifact" in caught.value.why


DIFFERENT = {
    "recipe": ({}, "{use: toy-round, options: {digits: 3}}"),
    "calibration": ({"samples": 3}, "toy-round"),
    "held_out": ({"verify": 3.0}, "toy-round"),
}


@pytest.mark.parametrize("key", DIFFERENT)
def test_another_recipe_cannot_resume(key: str, tmp_path: Path) -> None:
    interrupted(toys.toy_plan(small(), tmp_path / "out", "toy-round"), 30)
    options, use = DIFFERENT[key]
    with pytest.raises(RecipeError) as caught:
        convert(toys.toy_plan(small(), tmp_path / "out", use, **options), resume=True)
    assert caught.value.code == "FYC-R10"
    assert key in caught.value.why
    assert "fyc clean" in caught.value.next


def test_other_threads_text_or_weights_cannot_resume(tmp_path: Path) -> None:
    folder = Path(shutil.copytree(small(), tmp_path / "m"))
    interrupted(toys.toy_plan(folder, tmp_path / "out", "toy-rows"), 30)

    def refused() -> str:
        with pytest.raises(RecipeError) as caught:
            convert(toys.toy_plan(folder, tmp_path / "out", "toy-rows"), resume=True)
        assert caught.value.code == "FYC-R10"
        return caught.value.why

    torch.set_num_threads(2)
    try:
        assert refused() == "these differ: threads"
    finally:
        torch.set_num_threads(1)
    (folder / "text.txt").write_text(" ".join(f"w{i % 60}" for i in range(400)), encoding="utf-8")
    assert refused() == "these differ: calibration"
    shutil.copy(small() / "text.txt", folder / "text.txt")
    raw = bytearray((folder / "model.safetensors").read_bytes())
    raw[-1] ^= 1
    (folder / "model.safetensors").write_bytes(raw)
    assert refused() == "these differ: source"


def test_the_output_section_may_differ_in_its_folder_only(tmp_path: Path) -> None:
    """The folder is the run's name, not its content."""
    interrupted(toys.toy_plan(small(), tmp_path / "out", "toy-round"), 30)
    with pytest.raises(RecipeError) as caught:
        convert(toys.toy_plan(small(), tmp_path / "out", "toy-round", section="{shard_mb: 7}"), resume=True)
    assert caught.value.code == "FYC-R10"
    convert(toys.toy_plan(small(), tmp_path / "out", "toy-round", section="{dir: somewhere}"), resume=True)


def test_an_interrupted_run_is_not_overwritten(tmp_path: Path) -> None:
    plan = toys.toy_plan(small(), tmp_path / "out", "toy-round")
    interrupted(plan, 40)
    before = sorted(work_folder(plan.output).rglob("*"))
    with pytest.raises(RecipeError) as caught:
        convert(plan)
    assert caught.value.code == "FYC-R11"
    assert "--resume" in caught.value.next
    assert "fyc clean" in caught.value.next
    assert sorted(work_folder(plan.output).rglob("*")) == before
    convert(plan, resume=True)


def test_two_runs_into_one_folder(tmp_path: Path) -> None:
    """The second one is turned away; the first does not notice."""
    plan = toys.toy_plan(small(), tmp_path / "out", "toy-rows")
    go = tmp_path / "go"

    def slow() -> int:
        def pause() -> None:
            (tmp_path / "waiting").touch()
            while not go.exists():
                time.sleep(0.005)

        Operations(work_folder(plan.output), 20, pause).watch()
        convert(plan)
        return 0

    child = fork(slow)
    deadline = time.monotonic() + 30
    while not (tmp_path / "waiting").exists():
        assert time.monotonic() < deadline
        time.sleep(0.005)
    for resume in (False, True):
        with pytest.raises(ResourceError) as caught:
            convert(plan, resume=resume)
        assert caught.value.code == "FYC-S03"
        assert caught.value.exit_code == 6
    with pytest.raises(ResourceError, match="FYC-S03"):
        clean(plan.output)
    go.touch()
    assert wait(child) == 0
    open_artifact(plan.output).verify()
    assert not work_folder(plan.output).exists()


def test_a_dead_run_holds_no_lock(tmp_path: Path) -> None:
    plan = toys.toy_plan(small(), tmp_path / "out", "toy-rows")
    interrupted(plan, 25)
    assert (work_folder(plan.output) / "lock").is_file()
    convert(plan, resume=True)


@pytest.mark.parametrize("number", [3, 25, 60])
def test_ctrl_c_can_be_resumed(number: int, tmp_path: Path) -> None:
    plan = toys.toy_plan(small(), tmp_path / "out", "toy-rows")
    undisturbed = toys.files_of(convert(toys.toy_plan(small(), tmp_path / "calm", "toy-rows")).path)

    def stopped() -> int:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        Operations(tmp_path, number, lambda: os.kill(os.getpid(), signal.SIGINT)).watch()
        with pytest.raises(Interrupted) as caught:
            convert(plan)
        assert caught.value.code == "FYC-I01"
        assert "--resume" in caught.value.next
        return caught.value.exit_code

    assert forked(stopped) == 130
    assert not plan.output.exists()
    resume_until_complete(plan)
    assert toys.files_of(plan.output) == undisturbed


def test_ctrl_c_inside_a_pass(tmp_path: Path) -> None:
    class Impatient(toys.Round):
        name = "toy-impatient"

        def run(self, block: object, ctx: object) -> object:
            if block.index == 1 and not (tmp_path / "second").exists():
                raise KeyboardInterrupt
            return super().run(block, ctx)

    plan = toys.toy_plan(small(), tmp_path / "out", "toy-impatient", host=toys.toy_host(Impatient))
    with pytest.raises(Interrupted):
        convert(plan)
    (tmp_path / "second").touch()
    convert(plan, resume=True)


def test_clean_drops_stages_and_the_rejected_artifact(tmp_path: Path) -> None:
    plan = toys.toy_plan(small(), tmp_path / "out", "toy-rows")
    interrupted(plan, 30)
    toys.copied(toys.artifact(), tmp_path / "out.rejected")
    assert set(clean(plan.output)) == {work_folder(plan.output), tmp_path / "out.rejected"}
    assert list(tmp_path.iterdir()) == []
    assert clean(plan.output) == []
    work_folder(plan.output).with_name(f"{work_folder(plan.output).name}-done").mkdir()
    clean(plan.output)
    assert list(tmp_path.iterdir()) == []
    convert(plan)
    assert clean(plan.output) == []
    open_artifact(plan.output).verify()


def test_a_damaged_stage_is_an_error_of_fyc(tmp_path: Path) -> None:
    """A power cut can leave a file that was renamed but never written."""
    plan = toys.toy_plan(small(), tmp_path / "out", "toy-rows")
    total = len(operations(plan))
    clean_up(tmp_path)
    interrupted(plan, total - 10)
    stage = work_folder(plan.output) / "00-toy-rows" / "run"
    key = work_folder(plan.output) / "fingerprint.json"
    for path in (stage / "block-0000.safetensors", stage / "block-0000.json", key):
        content = path.read_bytes()
        for damaged in (b"", content[: len(content) // 2]):
            path.write_bytes(damaged)
            with pytest.raises(FycError) as caught:
                convert(plan, resume=True)
            assert str(path) in str(caught.value)
            assert "fyc clean" in caught.value.next
        path.write_bytes(content)
    convert(plan, resume=True)


def test_a_plugin_that_chooses_leaves_makes_another_run(install: Any, tmp_path: Path) -> None:
    """Installed between kill and --resume, it would change the graphs of the blocks that are left."""
    plan = toys.toy_plan(small(), tmp_path / "out", "toy-rows")
    interrupted(plan, 60)
    install("fyc-leaves", {"leaves": "import fyc\n@fyc.hookimpl\ndef fyc_trace_leaf(module): return None"})
    with pytest.raises(FycError) as caught:
        convert(toys.toy_plan(small(), tmp_path / "out", "toy-rows"), resume=True)
    assert caught.value.code == "FYC-R10"
    assert caught.value.why == "these differ: lock"
    convert(plan, resume=True)


def test_the_fingerprint_names_what_decides_the_bytes(tmp_path: Path) -> None:
    fingerprint = toys.toy_plan(small(), tmp_path / "out", "toy-rows").fingerprint()
    keys = {"recipe", "lock", "source", "calibration", "held_out", "device", "threads", "cpu"}
    assert fingerprint.keys() == keys
    assert json.loads(json.dumps(fingerprint)) == fingerprint

"""The verify gate: a miss keeps the output as `DIR.rejected`."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import toys
from children import forked
from kills import Operations

import fyc
from fyc.artifact import open_artifact
from fyc.engine import convert
from fyc.engine.workspace import clean
from fyc.errors import PassError, RecipeError
from fyc.passes import ModuleReport, PassResult

pytestmark = pytest.mark.usefixtures("traced_once")


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

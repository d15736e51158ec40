"""A pass that raises or returns nonsense is an error that names pass and place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import toys
from misbehaving import Doing, doing, failing

import fyc
from fyc.engine import convert
from fyc.engine.workspace import work_folder
from fyc.errors import FycError, PassError
from fyc.passes import Block, ModuleReport, PassResult, Survey

pytestmark = pytest.mark.usefixtures("traced_once")


PLANNED: dict[str, tuple[str, Any, str, str]] = {
    "targets in floats": ("targets", {"model.layers.0": 3.5}, "its targets", "'model.layers.0' are 3.5"),
    "targets below nothing": ("targets", {"model.layers.0": -1}, "its targets", "'model.layers.0' are -1"),
    "targets in bools": ("targets", {"model.layers.0": True}, "its targets", "'model.layers.0' are True"),
    "a target that is not there": ("targets", {"mlp.up_proj": 1}, "its targets", "no module 'mlp.up_proj'"),
    "a target that is not selected": ("targets", {"model.layers.2": 1}, "its targets", "not selected"),
    "a list of targets": ("targets", ["model.layers.0"], "its targets", "ValueError"),
    "a text as findings": ("check", "too small", "its check", "it returned str instead of a sequence of fyc.Finding"),
    "texts as findings": ("check", ["too small"], "its check", "it returned 'too small', which is no fyc.Finding"),
    "no findings": ("check", None, "its check", "it returned NoneType instead"),
    "a finding of no level": ("check", [fyc.Finding("bad", "x")], "its check", "level 'bad'"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize(("step", "value", "where", "why"), PLANNED.values(), ids=PLANNED)
def test_what_targets_and_check_may_not_return(step: str, value: Any, where: str, why: str, tmp_path: Path) -> None:
    cls = type("Planning", (Doing,), {step: lambda self, model: value})
    use = "{use: toy-doing, exclude: [model.layers.2]}" if step == "targets" else "toy-doing"
    with pytest.raises(PassError) as caught:
        toys.toy_plan(toys.model(), tmp_path / "out", use, host=toys.toy_host(cls))
    assert (caught.value.code, caught.value.where) == ("FYC-X01", where)
    assert "toy-doing" in caught.value.what
    assert why in caught.value.why


def test_a_pass_with_nothing_to_do_says_why_in_its_own_words(tmp_path: Path) -> None:
    class Picky(Doing):
        def targets(self, model: Any) -> dict[str, int]:
            return {}

        def check(self, model: Any) -> list[fyc.Finding]:
            info = fyc.Finding("info", "4 groups")
            return [info, *(fyc.Finding("warning", "48 inputs do not fit", path) for path in "abcde")]

    with pytest.raises(FycError) as caught:
        toys.toy_plan(toys.model(), tmp_path / "out", "toy-doing", host=toys.toy_host(Picky))
    assert caught.value.code == "FYC-R04"
    said = "48 inputs do not fit (a); 48 inputs do not fit (b); 48 inputs do not fit (c); 2 more"
    assert caught.value.why == f"no module that it handles is selected; {said}"


def raising(error: Exception) -> Callable[..., Any]:
    def act(*args: Any) -> Any:
        raise error

    return act


RETURNS = {"None": None, "a list": [ModuleReport("model.layers.1", "x")], "text": "done"}


REPORTS: dict[str, tuple[dict[str, Any], str]] = {
    "text": ({"modules": ["x"]}, "it reports 'x', which is no fyc.ModuleReport"),
    "no list": ({"modules": None}, "TypeError"),
    "no metrics": ({"metrics": None}, "TypeError"),
    "no details": ({"modules": [ModuleReport("model.layers.1", "x", details=None)]}, "TypeError"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize(("fields", "why"), REPORTS.values(), ids=REPORTS)
def test_a_result_without_reports(fields: dict[str, Any], why: str, tmp_path: Path) -> None:
    error = failing(doing(lambda block, ctx: PassResult(**fields)), tmp_path / "out")
    assert (error.code, error.where) == ("FYC-X01", "model.layers.1")
    assert why in error.why


@pytest.mark.parametrize("value", RETURNS.values(), ids=RETURNS)
def test_a_run_that_returns_no_result(value: Any, tmp_path: Path) -> None:
    class Returning(Doing):
        def run(self, block: Block, ctx: Any) -> Any:
            return value

    error = failing(Returning, tmp_path / "out")
    assert error.code == "FYC-X01"
    assert f"it returned {type(value).__name__} instead of PassResult" in error.why


RAISED = [ValueError("no"), KeyError("x"), RuntimeError("shape"), FileNotFoundError("f"), AssertionError()]


@pytest.mark.parametrize("raised", RAISED, ids=lambda error: type(error).__name__)
def test_a_pass_that_raises_names_pass_and_block(raised: Exception, tmp_path: Path) -> None:
    error = failing(doing(raising(raised)), tmp_path / "out")
    assert isinstance(error, PassError)
    assert (error.code, error.exit_code) == ("FYC-X01", 4)
    assert "toy-doing" in error.what
    assert error.where == "model.layers.1"
    assert type(raised).__name__ in error.why
    assert "--resume" in error.next
    assert error.__cause__ is raised


class Steps(Doing):
    """Fails in one of its steps."""

    where = ""

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self.fail("constructor")

    def fail(self, step: str) -> None:
        if step == type(self).where:
            raise ValueError(f"in {step}")

    def survey(self, block: Block, ctx: Any) -> Survey:
        self.fail("survey")
        return Survey({"a": 1})

    def plan(self, surveys: Any, ctx: Any) -> Any:
        self.fail("plan")
        return {}

    def run_outer(self, outer: Any, ctx: Any) -> Any:
        self.fail("run_outer")
        return PassResult()

    def summarize(self, metrics: Any) -> dict[str, float]:
        self.fail("summarize")
        return super().summarize(metrics)

    def check(self, model: Any) -> Any:
        self.fail("check")
        return ()

    def targets(self, model: Any) -> Any:
        self.fail("targets")
        return super().targets(model)

    def surveys(self) -> bool:
        self.fail("surveys")
        return super().surveys()

    def branch_windows(self) -> int:
        self.fail("branch_windows")
        return super().branch_windows()


PLACES = {
    "constructor": "recipe:5:5", "targets": "its targets", "surveys": "whether it surveys",
    "branch_windows": "its branch windows",
    "survey": "model.layers.0", "plan": "its plan over all blocks", "run_outer": "the model outside its blocks",
    "summarize": "its metrics", "check": "its check",
}  # fmt: skip


@pytest.mark.parametrize("step", PLACES)
def test_every_step_of_a_pass_is_guarded(step: str, tmp_path: Path) -> None:
    error = failing(type("Steps", (Steps,), {"where": step}), tmp_path / "out")
    assert error.code == "FYC-X01"
    assert error.where == PLACES[step]
    assert error.why == f"ValueError: in {step}"


class Strange(Doing):
    """Returns what cannot be stored from survey or plan."""

    surveyed: Any = Survey()
    planned: Any = None

    def survey(self, block: Block, ctx: Any) -> Any:
        return type(self).surveyed

    def plan(self, surveys: Any, ctx: Any) -> Any:
        return type(self).planned or {}


STRANGE = {
    "a survey that is none": {"surveyed": {"a": 1}},
    "values that are not JSON": {"surveyed": Survey({"a": torch.ones(1)})},
    "values that are NaN": {"surveyed": Survey({"a": float("nan")})},
    "a plan that is none": {"planned": [1]},
    "a plan that is not JSON": {"planned": {"a": {1, 2}}},
    "a plan with NaN": {"planned": {"a": float("inf")}},
}


@pytest.mark.parametrize("attributes", STRANGE.values(), ids=STRANGE)
def test_what_survey_and_plan_may_not_return(attributes: dict[str, Any], tmp_path: Path) -> None:
    error = failing(type("Strange", (Strange,), attributes), tmp_path / "out")
    assert error.code == "FYC-X01"
    data = attributes.get("planned") or getattr(attributes["surveyed"], "values", None)
    if isinstance(data, dict) and "a" in data:
        assert ".a is " in error.why


def test_a_failed_run_can_be_repaired_and_resumed(tmp_path: Path) -> None:
    """Finished blocks are kept; the repaired pass goes on at the block that failed."""
    ran: list[str] = []
    broken = [True]

    def act(block: Block, ctx: Any) -> None:
        if broken[0]:
            raise ValueError("broken")

    class Repaired(doing(act)):  # type: ignore[misc]
        def run(self, block: Block, ctx: Any) -> Any:
            ran.append(block.path)
            return super().run(block, ctx)

    plan = toys.toy_plan(toys.model(), tmp_path / "out", "toy-doing", host=toys.toy_host(Repaired))
    with pytest.raises(PassError):
        convert(plan)
    assert work_folder(plan.output).is_dir()
    broken[0] = False
    convert(plan, resume=True)
    assert ran == ["model.layers.0", "model.layers.1", "model.layers.1", "model.layers.2"]

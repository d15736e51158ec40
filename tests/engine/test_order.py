"""Orders and patterns that cannot work, found before anything is computed."""

from __future__ import annotations

from pathlib import Path

import pytest
import toys

from fyc.errors import RecipeError

pytestmark = pytest.mark.usefixtures("traced_once")


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

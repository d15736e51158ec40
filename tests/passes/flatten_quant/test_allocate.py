from __future__ import annotations

import itertools

from fyc_passes.flatten_quant.allocate import allocate_columns, choose_int4, take_share
from hypothesis import given, settings
from hypothesis import strategies as st

Curves = dict[str, dict[int, float]]


@st.composite
def curves(draw: st.DrawFn, convex: bool) -> Curves:
    found: Curves = {}
    for index in range(draw(st.integers(1, 4))):
        points = sorted(draw(st.sets(st.integers(1, 12), max_size=4)) | {0})
        loss, slope, curve = 100.0, 50.0, {}
        for before, now in itertools.pairwise([0, *points]):
            slope *= draw(st.floats(0.1, 1.0)) if convex else draw(st.floats(0.1, 3.0))
            loss -= slope * (now - before)
            curve[now] = loss
        found[f"g{index}"] = curve
    return found


@settings(max_examples=200, deadline=None)
@given(curves(convex=False), st.integers(0, 30))
def test_the_budget_holds_and_every_choice_is_on_its_curve(given_curves: Curves, budget: int) -> None:
    chosen = allocate_columns(given_curves, budget)
    assert chosen.keys() == given_curves.keys()
    assert all(count in given_curves[name] for name, count in chosen.items())
    assert sum(chosen.values()) <= budget


@settings(max_examples=100, deadline=None)
@given(curves(convex=True), st.integers(0, 20))
def test_convex_curves_are_solved_up_to_one_step(given_curves: Curves, budget: int) -> None:
    chosen = allocate_columns(given_curves, budget)
    reached = sum(given_curves[name][count] for name, count in chosen.items())
    names = list(given_curves)
    best = min(
        sum(given_curves[name][count] for name, count in zip(names, counts, strict=True))
        for counts in itertools.product(*(given_curves[name] for name in names))
        if sum(counts) <= budget
    )
    # Greedy on convex curves loses at most what the first step that did not fit would have gained.
    steps = [before - now for curve in given_curves.values() for before, now in itertools.pairwise(curve.values())]
    assert reached <= best + max(steps, default=0.0) + 1e-6
    if budget >= sum(max(curve) for curve in given_curves.values()):
        assert reached == best


def test_columns_go_where_they_help_most() -> None:
    found = allocate_columns({"a": {0: 10.0, 1: 9.0, 2: 8.5}, "b": {0: 10.0, 1: 2.0, 2: 1.0}, "c": {0: 1.0, 1: 1.0}}, 3)
    assert found == {"a": 1, "b": 2, "c": 0}


def test_a_late_drop_is_found_behind_a_flat_start() -> None:
    assert allocate_columns({"a": {0: 10.0, 1: 10.0, 4: 0.0}, "b": {0: 5.0, 1: 4.0}}, 4) == {"a": 4, "b": 0}


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 1), st.integers(1, 50)), min_size=1, max_size=12), st.floats(0.01, 1.0)
)  # fmt: skip
def test_the_share_is_reached_and_nobody_is_superfluous(groups: list[tuple[float, int]], share: float) -> None:
    costs = {f"g{i}": cost for i, (cost, _) in enumerate(groups)}
    macs = {f"g{i}": count for i, (_, count) in enumerate(groups)}
    chosen = choose_int4(costs, macs, share)
    target, reached = share * sum(macs.values()), sum(macs[name] for name in chosen)
    assert reached >= target - 1e-9
    assert all(reached - macs[name] < target for name in chosen)


def test_the_cheapest_per_multiply_accumulate_come_first() -> None:
    assert choose_int4({"a": 1.0, "b": 0.5, "c": 3.0}, {"a": 100, "b": 10, "c": 100}, 0.4) == {"a"}
    assert take_share(["x", "y", "z"], {"x": 1, "y": 1, "z": 1}, 2, drop=["z", "y", "x"]) == {"x", "y"}

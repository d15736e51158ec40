from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch
from fyc_passes.flatten_quant.candidates import Candidate
from fyc_passes.flatten_quant.options import FlattenQuantOptions
from fyc_passes.flatten_quant.plan import GroupSurvey, make_plan

# Every criterion finds another group the cheapest.
LOSS = {"": 1.0, "b.g0": 1.1, "b.g1": 1.5, "b.g2": 1.5, "b.g3": 1.5}
DIVERGENCE = {"b.g0": 0.5, "b.g1": 0.1, "b.g2": 0.5, "b.g3": 0.5}
OUTPUT_DIVERGENCE = [0.5, 0.5, 0.1, 0.5]


def surveys(channels: int = 100) -> dict[str, dict[str, GroupSurvey]]:
    curves = {
        bits: [Candidate(0, 0.5, 8.0), Candidate(5, 0.25, 2.0), Candidate(10, 0.0, 1.0)] for bits in ((8, 8), (4, 4))
    }
    return {
        "b": {
            f"g{index}": GroupSurvey(1000, channels, curves, 0.1, divergence)
            for index, divergence in enumerate(OUTPUT_DIVERGENCE)
        }
    }


def plan(divergence: Mapping[str, float] = DIVERGENCE, **options: object) -> dict[str, dict[str, object]]:
    found = make_plan(
        surveys(), FlattenQuantOptions(**options), LOSS, divergence, torch.Generator().manual_seed(0)
    )  # fmt: skip
    chosen: dict[str, dict[str, object]] = found["groups"]["b"]
    return chosen


@pytest.mark.parametrize(("select", "cheapest"), [("nll", "g0"), ("divergence", "g1"), ("kl", "g2"), ("order", "g0")])
def test_each_criterion_ranks_by_its_own_measure(select: str, cheapest: str) -> None:
    chosen = plan(weights="mixed", activations="mixed", int4_share=0.25, select=select)
    assert [name for name, group in chosen.items() if group["weight_bits"] == 4] == [cheapest]
    assert all(group["weight_bits"] == group["activation_bits"] for group in chosen.values())


def test_the_most_sensitive_group_gets_the_columns_and_the_smoothing_that_goes_with_them() -> None:
    chosen = plan({**DIVERGENCE, "b.g3": 5.0}, expansion=0.025)
    assert [group["extra"] for group in chosen.values()] == [0, 0, 0, 10]
    assert [group["strength"] for group in chosen.values()] == [0.5, 0.5, 0.5, 0.0]


def test_without_measurements_all_groups_are_alike() -> None:
    assert [group["extra"] for group in plan({}, expansion=0.05).values()] == [5, 5, 5, 5]

"""Surveys as the engine stores them, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fyc_passes.flatten_quant.candidates import Candidate
from fyc_passes.flatten_quant.plan import GroupSurvey

from fyc import Survey


def pack_survey(groups: Mapping[str, GroupSurvey]) -> Survey:
    """The surveys of a block's groups, by name."""
    values: dict[str, Any] = {}
    for name, group in groups.items():
        values[name] = {
            "macs": group.macs,
            "channels": group.channels,
            "curves": [
                [*bits, [[c.extra, c.strength, c.error] for c in candidates]]
                for bits, candidates in group.curves.items()
            ],
            "branch_error": group.branch_error,
            "output_divergence": group.output_divergence,
        }
    return Survey(values)


def unpack_survey(survey: Survey) -> dict[str, GroupSurvey]:
    """Group name to survey."""
    found: dict[str, GroupSurvey] = {}
    for name, stored in survey.values.items():
        value: Any = stored
        curves = {
            (weight_bits, activation_bits): [Candidate(*candidate) for candidate in candidates]
            for weight_bits, activation_bits, candidates in value["curves"]
        }
        found[name] = GroupSurvey(
            value["macs"], value["channels"], curves, value["branch_error"], value["output_divergence"]
        )
    return found

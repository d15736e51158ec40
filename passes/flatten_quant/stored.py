"""Surveys as the engine stores them: JSON values and tensors, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fyc_passes.flatten_quant.candidates import Candidate
from fyc_passes.flatten_quant.plan import GroupSurvey
from fyc_passes.flatten_quant.statistics import InputStatistics
from torch import Tensor

from fyc import Survey


def pack_survey(
    groups: Mapping[str, GroupSurvey], statistics: Mapping[str, InputStatistics], *, shift: bool
) -> Survey:  # fmt: skip
    """A block's surveys with what `run` needs of the untouched model: each channel's mean and largest value."""
    values: dict[str, Any] = {}
    tensors: dict[str, Tensor] = {}
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
        mean = statistics[name].mean
        tensors[f"{name}.mean"] = mean
        tensors[f"{name}.largest"] = statistics[name].largest(mean if shift else None)
    return Survey(values, tensors)


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


def stored_inputs(survey: Survey, name: str) -> tuple[Tensor, Tensor]:
    """Mean and largest absolute (shifted) value of each channel of a group, on the untouched model; float32 `[K]`."""
    return survey.tensors[f"{name}.mean"], survey.tensors[f"{name}.largest"]

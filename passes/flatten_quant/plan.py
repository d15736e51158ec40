"""The plan of a model: bits and extra columns of every group, from what the survey measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from fyc_passes.flatten_quant.allocate import allocate_columns, choose_int4, take_share
from fyc_passes.flatten_quant.candidates import Candidate
from fyc_passes.flatten_quant.options import FlattenQuantOptions

#: A branch that changed nothing measurable still counts as this divergence (nats).
_LEAST = 1e-7


@dataclass(frozen=True)
class GroupSurvey:
    """What the survey learned about a group.

    Attributes:
        macs: multiply-accumulates for one token.
        channels: K.
        curves: (weight bits, activation bits) to candidates, by rising number of extra columns.
        branch_error: relative output error of the group in its branch.
        output_divergence: KL divergence between histograms of its outputs, for `select: kl`.
    """

    macs: int
    channels: int
    curves: Mapping[tuple[int, int], Sequence[Candidate]]
    branch_error: float
    output_divergence: float


def make_plan(
    surveyed: Mapping[str, Mapping[str, GroupSurvey]],
    options: FlattenQuantOptions,
    branch_loss: Mapping[str, float],
    branch_divergence: Mapping[str, float],
    generator: torch.Generator,
) -> dict[str, Any]:
    """Choose bits and extra columns.

    A group's loss is its relative output error times its sensitivity: the divergence of the model's predictions in
    the group's branch, divided by the group's error there.

    Args:
        surveyed: block path to group name to survey.
        options: the pass's options.
        branch_loss: loss of each branch, and of the untouched model under "".
        branch_divergence: KL divergence of each branch.
        generator: for `select: random`.

    Returns:
        `{"groups": {block: {group: GroupPlan's fields}}}`.
    """
    groups = {f"{block}.{name}": group for block, found in surveyed.items() for name, group in found.items()}
    sensitivity = {
        name: max(branch_divergence[name], _LEAST) / max(group.branch_error, 1e-12)
        if name in branch_divergence
        else 1.0
        for name, group in groups.items()
    }
    wide, narrow = options.bits()[0], options.bits()[-1]
    int4 = _choose(groups, options, branch_loss, branch_divergence, generator) if options.mixed else set()
    bits = {name: narrow if name in int4 else wide for name in groups}
    losses = {
        name: {candidate.extra: candidate.error * sensitivity[name] for candidate in group.curves[bits[name]]}
        for name, group in groups.items()
    }
    budget = int(options.expansion * sum(group.channels for group in groups.values()) + 1e-9)
    columns = allocate_columns(losses, budget)
    plan: dict[str, dict[str, Any]] = {}
    for block, found in surveyed.items():
        for name, group in found.items():
            full = f"{block}.{name}"
            weight_bits, activation_bits = bits[full]
            chosen = next(c for c in group.curves[bits[full]] if c.extra == columns[full])
            plan.setdefault(block, {})[name] = {
                "weight_bits": weight_bits,
                "activation_bits": activation_bits,
                "extra": chosen.extra,
                "strength": chosen.strength,
            }
    return {"groups": plan}


def _choose(
    groups: Mapping[str, GroupSurvey], options: FlattenQuantOptions, branch_loss: Mapping[str, float],
    branch_divergence: Mapping[str, float], generator: torch.Generator,
) -> set[str]:  # fmt: skip
    macs = {name: group.macs for name, group in groups.items()}
    if options.select in ("random", "order"):
        names = list(groups)
        if options.select == "random":
            names = [names[i] for i in torch.randperm(len(names), generator=generator).tolist()]
        return take_share(names, macs, options.int4_share * sum(macs.values()), drop=names[::-1])
    if options.select == "divergence":
        costs = {name: branch_divergence[name] for name in groups}
    elif options.select == "nll":
        costs = {name: branch_loss[name] - branch_loss[""] for name in groups}
    else:
        costs = {name: group.output_divergence for name, group in groups.items()}
    return choose_int4(costs, macs, options.int4_share)

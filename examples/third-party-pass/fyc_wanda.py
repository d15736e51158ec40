"""Prune Linear weights by |weight| times the norm of their input (Wanda: Sun et al., arXiv 2306.11695, section 3)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

import fyc
from fyc import ir


class WandaOptions(fyc.PassOptions):
    sparsity: Annotated[float, Field(ge=0, lt=1)] = 0.5
    """Share of the weights in every output row that becomes zero."""


class Wanda(fyc.Pass[WandaOptions]):
    """Zero the weights that matter least to their output, judged by the calibration text. Sizes do not change."""

    name = "wanda"
    summary = "prune Linear weights by magnitude times input norm"
    Options = WandaOptions
    requires = frozenset({"float-weights", "calibration"})
    produces = frozenset({"pruned"})

    def targets(self, model: fyc.ModelView) -> Mapping[str, int]:
        found = {}
        for path, graph in model.graph.blocks.items():
            block = model.skeleton.get_submodule(path)
            for name in linears(graph, block):
                if model.selects(f"{path}.{name}"):
                    weight = block.get_submodule(name).weight
                    found[f"{path}.{name}"] = weight.numel() * weight.element_size()
        return found

    def run(self, block: fyc.Block, ctx: fyc.PassContext) -> fyc.PassResult:
        groups = ir.linear_groups(block.graph, block.module)
        squares: dict[str, Tensor] = {}  # node name -> sum of x^2 for each input channel

        def add_squares(name: str, x: Tensor) -> None:
            x = x.flatten(0, -2)  # [batch, tokens, channels], or in some models (OPT) [tokens, channels] already
            squares[name] = squares.get(name, 0) + x.double().square().sum(0)

        ctx.observe(block, {group.input: partial(add_squares, group.input.name) for group in groups})
        before = copy.deepcopy(block.module)
        zeros: dict[str, float] = {}
        for group in groups:
            for name in group.paths:
                if ctx.selects(f"{block.path}.{name}"):
                    linear = block.module.get_submodule(name)
                    zeros[name] = prune(linear, squares[group.input.name], self.options.sparsity)
        errors = output_errors(before, block, groups, ctx)
        reports = [
            fyc.ModuleReport(f"{block.path}.{name}", "pruned", error=errors[name], details={"zeros": share})
            for name, share in zeros.items()
        ]
        pruned = sum(share * block.module.get_submodule(name).weight.numel() for name, share in zeros.items())
        weights = sum(block.module.get_submodule(name).weight.numel() for name in zeros)
        return fyc.PassResult(reports, {"pruned": pruned, "weights": weights})

    def summarize(self, metrics: Sequence[Mapping[str, float]]) -> dict[str, float]:
        """The share over the whole model: a mean of the blocks' shares would count small blocks like large ones."""
        pruned, weights = (sum(block.get(key, 0.0) for block in metrics) for key in ("pruned", "weights"))
        return {"zeros": pruned / weights} if weights else {}


def linears(graph: ir.BlockGraph, block: nn.Module) -> list[str]:
    return [name for group in ir.linear_groups(graph, block) for name in group.paths]


def output_errors(
    before: nn.Module, block: fyc.Block, groups: Sequence[ir.LinearGroup], ctx: fyc.PassContext
) -> dict[str, float]:
    """For every linear layer the error of its group, mean |y' - y|^2 / mean |y|^2: both outputs for the same input."""
    lost: dict[str, float] = {}
    total: dict[str, float] = {}

    def add(group: ir.LinearGroup, x: Tensor) -> None:
        for name in group.paths:
            y = before.get_submodule(name)(x).double()
            change = block.module.get_submodule(name)(x).double() - y
            lost[group.input.name] = lost.get(group.input.name, 0.0) + float(change.square().sum())
            total[group.input.name] = total.get(group.input.name, 0.0) + float(y.square().sum())

    ctx.observe(block, {group.input: partial(add, group) for group in groups})
    return {name: lost[g.input.name] / (total[g.input.name] or 1.0) for g in groups for name in g.paths}


@torch.no_grad()
def prune(linear: nn.Module, squares: Tensor, sparsity: float) -> float:
    """Zero the lowest scores |W| * sqrt(squares) of every output row in place; returns the share of zeros."""
    weight = linear.weight if isinstance(linear, nn.Linear) else linear.weight.T  # GPT-2's Conv1D is transposed
    score = weight.abs().double() * squares.sqrt()
    drop = score.argsort(dim=1, stable=True)[:, : round(sparsity * weight.shape[1])]
    weight.scatter_(1, drop, 0.0)
    return float((weight == 0).double().mean())


@fyc.hookimpl
def fyc_register_passes(register: Callable[[type[Wanda]], None]) -> None:
    register(Wanda)

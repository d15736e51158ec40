"""Prune Linear weights by |weight| times the norm of their input (Wanda: Sun et al., arXiv 2306.11695, section 3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
            for group in [] if graph.opaque else ir.linear_groups(graph, block):
                for name in group.paths:
                    weight = block.get_submodule(name).weight
                    if model.selects(f"{path}.{name}"):
                        found[f"{path}.{name}"] = weight.numel() * weight.element_size()
        return found

    def run(self, block: fyc.Block, ctx: fyc.PassContext) -> fyc.PassResult:
        groups = ir.linear_groups(block.graph, block.module)
        squares: dict[str, Tensor] = {}  # node name -> sum of x^2 for each input channel

        def adder(name: str) -> Callable[[Tensor], None]:
            def add(x: Tensor) -> None:  # [batch, tokens, channels]
                squares[name] = squares.get(name, 0) + x.double().square().sum((0, 1))

            return add

        ctx.observe(block, {group.input: adder(group.input.name) for group in groups})
        reports = []
        for group in groups:
            for name in group.paths:
                if ctx.selects(f"{block.path}.{name}"):
                    zeros = prune(block.module.get_submodule(name), squares[group.input.name], self.options.sparsity)
                    reports.append(fyc.ModuleReport(f"{block.path}.{name}", "pruned", details={"zeros": zeros}))
        return fyc.PassResult(reports)


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

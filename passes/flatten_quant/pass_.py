"""The pass flatten-quant: survey the inputs, plan bits and extra columns for the model, convert block by block."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from fyc_passes.flatten_quant.candidates import GroupInputs, curves, group_factors, inputs_of
from fyc_passes.flatten_quant.convert import (
    Converted,
    GroupPlan,
    dequantized,
    make_quantize,
    quantize_layers,
)
from fyc_passes.flatten_quant.divergence import output_divergence
from fyc_passes.flatten_quant.groups import Group, find_groups, install
from fyc_passes.flatten_quant.modules import FlattenQuantize, Int8Embedding, Int8Head, IntLinear
from fyc_passes.flatten_quant.options import FlattenQuantOptions
from fyc_passes.flatten_quant.outer import Ends, convert_ends, find_ends
from fyc_passes.flatten_quant.plan import GroupSurvey, make_plan
from fyc_passes.flatten_quant.statistics import InputStatistics, Moments, collect
from fyc_passes.flatten_quant.stored import pack_survey, unpack_survey
from torch import Tensor, nn

from fyc import (
    Block,
    Finding,
    ModelView,
    ModuleReport,
    Outer,
    Pass,
    PassContext,
    PassResult,
    Survey,
)


class FlattenQuant(Pass[FlattenQuantOptions]):
    """Quantize weights and activations to INT8 or INT4 with static scales, one a tensor, for integer matrix products.

    Channels with large values are spread over a few extra columns (FlattenQuant, arXiv 2402.17985), so that the step
    of the others stays small. Which channels, how many, and which layers bear INT4 is measured on the calibration text.
    """

    name = "flatten-quant"
    version = 1
    summary = "static per-tensor INT8/INT4 with large channels flattened over extra columns"
    Options = FlattenQuantOptions
    requires = frozenset({"graph", "float-weights", "calibration"})
    produces = frozenset({"quantized"})
    removes = frozenset({"float-weights"})
    conflicts = frozenset({"quantized"})
    modules = (FlattenQuantize, IntLinear, Int8Embedding, Int8Head)

    def targets(self, model: ModelView) -> Mapping[str, int]:
        """Linear layers of the selected groups, and the ends if they are asked for."""
        bits = 8 if self.options.weights == "int8" else 4
        predicted: dict[str, int] = {}
        for block, group in self._all_groups(model):
            for path in group.paths:
                parameters = sum(p.numel() for p in model.skeleton.get_submodule(f"{block}.{path}").parameters())
                share = 1 - self.options.int4_share / 2 if self.options.mixed else bits / 8
                predicted[f"{block}.{path}"] = int(parameters * share)
        if self.options.head == "int8":
            ends, seen = self._ends(model), set()
            for end in (ends.embedding, ends.head):
                if end is not None:
                    weight = next(model.skeleton.get_submodule(end).parameters())
                    predicted[end] = 0 if id(weight) in seen else weight.numel()
                    seen.add(id(weight))
        return predicted

    def check(self, model: ModelView) -> Sequence[Finding]:
        """Groups found, and options that cannot work on this model."""
        options = self.options
        groups = self._all_groups(model)
        if not groups:
            return [Finding("error", "no linear layer was found that could be converted", next="check include/exclude")]
        layers = sum(len(group.paths) for _, group in groups)
        findings = [Finding("info", f"{layers} linear layers in {len(groups)} groups that share an input")]
        if options.mixed and options.select == "nll" and not model.causal:
            findings.append(
                Finding("error", "select: nll needs a model that predicts the next token", next="select: divergence")
            )
        if options.head == "int8" and self._ends(model).head is None:
            findings.append(Finding("warning", "no language-model head was found that could become INT8"))
        return findings

    def branch_windows(self) -> int:
        """Windows on which each group's effect on the predictions is measured."""
        needed = self.options.expansion > 0 or (
            self.options.mixed and self.options.select in ("divergence", "nll")
        )  # fmt: skip
        return self.options.branch_windows if needed else 0

    def survey(self, block: Block, ctx: PassContext) -> Survey:
        """Statistics of every group's input, its error curves, and a branch in which only this group is quantized."""
        groups = self._groups(block, ctx)
        if not groups:
            return Survey()
        found = self._inputs(block, groups, ctx)
        by_outputs = self.options.mixed and self.options.select == "kl"
        surveyed: dict[str, GroupSurvey] = {}
        for group in groups:
            layers, inputs = _layers(block.module, group), found.pop(group.name)
            candidates = curves(group, layers, inputs, self.options)
            plan = self._branch_plan(group, candidates)
            divergence = 0.0
            if self.branch_windows() or by_outputs:
                inputs = inputs.smoothed(group_factors(layers, inputs.magnitudes.largest, plan.strength))
                quantize = make_quantize(group, layers, inputs, plan, self.options)
                converted = quantize_layers(
                    layers, inputs, quantize, plan, self.options, hessian=None, where=f"{block.path}.{group.name}"
                )
                if by_outputs:
                    divergence = output_divergence(layers, inputs, quantize, converted)
                if self.branch_windows():
                    self._branch(block, group, quantize, converted, ctx)
                error = converted.weighted_error
            else:
                error = 1.0
            surveyed[group.name] = GroupSurvey(group.macs, group.channels, candidates, error, divergence)
        return pack_survey(surveyed)

    def plan(self, surveys: Mapping[str, Survey], ctx: PassContext) -> dict[str, Any]:
        """Bits, extra columns and smoothing of every group of the model."""
        surveyed = {path: unpack_survey(survey) for path, survey in surveys.items()}
        return make_plan(surveyed, self.options, ctx.branch_loss, ctx.branch_divergence, ctx.generator)

    def run(self, block: Block, ctx: PassContext) -> PassResult:
        """Quantize the block's groups for the inputs that the converted blocks before it produce."""
        groups = self._groups(block, ctx)
        if not groups:
            return PassResult()
        plans = {name: GroupPlan(**plan) for name, plan in ctx.plan["groups"][block.path].items()}
        inputs = self._inputs(block, groups, ctx)
        quantizes: dict[str, FlattenQuantize] = {}
        converted: dict[str, Converted] = {}

        def quantize(group: Group, hessian: Tensor | None) -> None:
            converted[group.name] = quantize_layers(
                _layers(block.module, group), inputs.pop(group.name), quantizes[group.name], plans[group.name],
                self.options, hessian=hessian, where=f"{block.path}.{group.name}",
            )  # fmt: skip

        for group in groups:
            layers, plan, found = _layers(block.module, group), plans[group.name], inputs[group.name]
            inputs[group.name] = found.smoothed(group_factors(layers, found.magnitudes.largest, plan.strength))
            quantizes[group.name] = make_quantize(group, layers, inputs[group.name], plan, self.options)
            if not self.options.rounds_with_gptq(plan.weight_bits):
                quantize(group, None)
        hessians = self._hessians(block, groups, plans, quantizes, ctx)
        for group in groups:
            if group.name in hessians:
                quantize(group, hessians.pop(group.name).hessian)
        for group in groups:
            made = dict(zip(group.paths, converted[group.name].layers, strict=True))
            install(block.graph.graph, block.module, group, quantizes[group.name], made)
        return _result(block.path, groups, plans, quantizes, converted)

    def run_outer(self, outer: Outer, ctx: PassContext) -> PassResult:
        """Quantize embedding and head if they are asked for."""
        if self.options.head == "none":
            return PassResult()
        ends = find_ends(outer.module, outer.graph.blocks, ctx.selects)
        return PassResult(modules=convert_ends(outer, ends))

    def summarize(self, metrics: Sequence[Mapping[str, float]]) -> dict[str, float]:
        """Shares over the whole model."""
        total = {name: sum(block.get(name, 0.0) for block in metrics) for name in _SUMMED}
        if not total["macs"]:
            return {}
        return {
            "int4_share": total["int4_macs"] / total["macs"],
            "expansion": total["extra_columns"] / total["columns"],
            "largest_group_expansion": max(block.get("largest_group_expansion", 0.0) for block in metrics),
            "saturation": total["clipped"] / total["columns"],
        }

    def _inputs(self, block: Block, groups: Sequence[Group], ctx: PassContext) -> dict[str, GroupInputs]:
        shift: Literal["mean"] | None = "mean" if self.options.shift else None
        statistics = {group.name: InputStatistics(group.channels, ctx.generator, shift) for group in groups}
        collect(block, groups, ctx, statistics)
        return {name: inputs_of(found) for name, found in statistics.items()}

    def _hessians(
        self, block: Block, groups: Sequence[Group], plans: Mapping[str, GroupPlan],
        quantizes: Mapping[str, FlattenQuantize], ctx: PassContext,
    ) -> dict[str, Moments]:  # fmt: skip
        wanted = [group for group in groups if self.options.rounds_with_gptq(plans[group.name].weight_bits)]
        if not wanted:
            return {}
        moments = {
            group.name: Moments(
                group.channels,
                lambda x, quantize=quantizes[group.name]: dequantized(quantize, x),  # type: ignore[misc]
            )
            for group in wanted
        }
        collect(block, wanted, ctx, moments)
        return moments

    def _branch_plan(self, group: Group, candidates: Mapping[tuple[int, int], Sequence[Any]]) -> GroupPlan:
        weight_bits, activation_bits = self.options.bits()[-1]
        found = candidates[weight_bits, activation_bits]
        # INT8 is measured without extra columns, where its effect is largest; INT4 with as many as it may get.
        chosen = found[0] if activation_bits == 8 else found[-1]
        return GroupPlan(weight_bits, activation_bits, chosen.extra, chosen.strength)

    def _branch(
        self, block: Block, group: Group, quantize: FlattenQuantize, converted: Converted, ctx: PassContext
    ) -> None:
        changed = copy.deepcopy(block)
        layers = dict(zip(group.paths, converted.layers, strict=True))
        install(changed.graph.graph, changed.module, group, quantize, layers)
        ctx.branch(f"{block.path}.{group.name}", changed)

    def _ends(self, model: ModelView) -> Ends:
        return find_ends(model.skeleton, model.graph.blocks, model.selects)

    def _groups(self, block: Block, ctx: PassContext) -> list[Group]:
        return find_groups(block.graph, block.module, block.path, ctx.selects)

    def _all_groups(self, model: ModelView) -> list[tuple[str, Group]]:
        return [
            (path, group)
            for path, graph in model.graph.blocks.items()
            for group in find_groups(graph, model.skeleton.get_submodule(path), path, model.selects)
        ]


_SUMMED = ("macs", "int4_macs", "columns", "extra_columns", "clipped")


def _layers(block: nn.Module, group: Group) -> list[nn.Module]:
    return [block.get_submodule(path) for path in group.paths]


def _result(
    prefix: str, groups: Sequence[Group], plans: Mapping[str, GroupPlan], quantizes: Mapping[str, FlattenQuantize],
    converted: Mapping[str, Converted],
) -> PassResult:  # fmt: skip
    reports: list[ModuleReport] = []
    metrics = dict.fromkeys(_SUMMED, 0.0) | {"largest_group_expansion": 0.0}
    for group in groups:
        plan, quantize, made = plans[group.name], quantizes[group.name], converted[group.name]
        extra = quantize.flatten_src.numel()
        expansion = extra / group.channels
        for path in group.paths:
            details = {
                "activation_bits": plan.activation_bits,
                "quantize": f"{prefix}.{group.name}",
                "extra_columns": extra,
                "scale": float(quantize.scale),
                "smoothing": plan.strength,
                "saturation": made.saturation,
            }
            reports.append(
                ModuleReport(
                    f"{prefix}.{path}", f"int{plan.weight_bits}", bits=plan.weight_bits, expansion=expansion,
                    error=made.error, details=details,
                )
            )  # fmt: skip
        metrics["macs"] += group.macs
        metrics["int4_macs"] += group.macs if (plan.weight_bits, plan.activation_bits) == (4, 4) else 0
        metrics["columns"] += group.channels
        metrics["extra_columns"] += extra
        metrics["clipped"] += made.saturation * group.channels
        metrics["largest_group_expansion"] = max(metrics["largest_group_expansion"], expansion)
    return PassResult(modules=reports, metrics=metrics)

"""What a group would lose with each number of extra columns: the curves that the plan is made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from fyc_passes.flatten_quant.groups import Group, layer_weight
from fyc_passes.flatten_quant.magnitudes import Magnitudes
from fyc_passes.flatten_quant.options import FlattenQuantOptions
from fyc_passes.flatten_quant.search import ActivationGrid, covering_grid, search_grids
from fyc_passes.flatten_quant.smooth import STRENGTHS, smoothing_factors
from fyc_passes.flatten_quant.statistics import InputStatistics
from fyc_passes.flatten_quant.weights import Granularity
from torch import Tensor, nn

#: Extra columns that are tried, as shares of a group's columns.
_SHARES = (0.0, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0)
#: What GPTQ leaves of the output error of rounding to nearest; measured on SmolLM2-135M, used for estimates only.
_GPTQ_LEAVES = 0.5


@dataclass(frozen=True)
class GroupInputs:
    """What is known about a group's inputs.

    Attributes:
        shift: float32 `[K]` subtracted from the raw inputs, or None.
        factors: float32 `[K]` that they are multiplied with after that, or None.
        magnitudes: of the inputs after the shift, before the factors.
        sample: float32 `[R, K]`, rows after shift and factors.
        rows: float32 `[R]`, how much each row of the sample counts in errors that are to be made small; adds up to 1.
        tokens: float32 `[R]`, how many tokens each row stands for, as a share of all; adds up to 1.
    """

    shift: Tensor | None
    factors: Tensor | None
    magnitudes: Magnitudes
    sample: Tensor
    rows: Tensor
    tokens: Tensor

    def smoothed(self, factors: Tensor | None) -> GroupInputs:
        """The same inputs (not smoothed so far) with smoothing factors."""
        return self if factors is None else replace(self, factors=factors, sample=self.sample * factors)


@dataclass(frozen=True)
class Candidate:
    """One way to quantize a group.

    Attributes:
        extra: number of extra columns.
        strength: smoothing strength.
        error: estimated relative error of the group's output.
    """

    extra: int
    strength: float
    error: float


def budgets(channels: int, options: FlattenQuantOptions) -> list[int]:
    """Numbers of extra columns that a group may get, ascending, 0 first."""
    most = options.max_group_expansion if options.expansion else 0.0
    shares = [share for share in (*_SHARES, options.expansion) if share <= most]
    return sorted({int(channels * share + 1e-9) for share in (*shares, most)})


def inputs_of(statistics: InputStatistics) -> GroupInputs:
    """The inputs that statistics were taken of."""
    weights, tokens = statistics.sample_weights, statistics.sample_tokens
    return GroupInputs(
        statistics.shift, None, statistics.magnitudes, statistics.sample, weights / weights.sum(), tokens / tokens.sum()
    )


def curves(
    group: Group, layers: Sequence[nn.Module], inputs: GroupInputs, options: FlattenQuantOptions
) -> dict[tuple[int, int], list[Candidate]]:
    """For each allowed (weight bits, activation bits): the best smoothing for every number of extra columns."""
    moment = inputs.magnitudes.mean_square()
    energy = _energy(inputs, layers)
    best: dict[tuple[int, int], dict[int, Candidate]] = {bits: {} for bits in options.bits()}
    for strength in STRENGTHS if options.smoothing == "search" else (0.0,):
        factors = group_factors(layers, inputs.magnitudes.largest, strength)
        scaled = inputs.smoothed(factors)
        columns = torch.ones(group.channels) if factors is None else factors
        spread = _weight_spread(layers, columns, options.granularity) * float((moment * columns.square()).sum())
        for (weight_bits, activation_bits), found in best.items():
            leaves = _GPTQ_LEAVES if options.rounds_with_gptq(weight_bits) else 1.0
            weight_error = spread / ((1 << (weight_bits - 1)) - 1) ** 2 / 12 * leaves
            grids = find_grids(scaled, layers, budgets(group.channels, options), activation_bits, options)
            for extra, grid in grids.items():
                error = (grid.error + weight_error) / energy
                if extra not in found or error < found[extra].error:
                    found[extra] = Candidate(extra, strength, error)
    return {bits: list(found.values()) for bits, found in best.items()}


def group_factors(layers: Sequence[nn.Module], largest: Tensor, strength: float) -> Tensor | None:
    """Smoothing factors of a group, float32 `[K]`; None without smoothing.

    Args:
        layers: the layers of the group.
        largest: float32 `[K]`, largest absolute input of each channel.
        strength: see `smoothing_factors`.
    """
    if not strength:
        return None
    weights = torch.stack([layer_weight(layer).abs().amax(0) for layer in layers]).amax(0)
    return smoothing_factors(largest, weights, strength)


def find_grids(
    inputs: GroupInputs, layers: Sequence[nn.Module], extras: Sequence[int], bits: int, options: FlattenQuantOptions
) -> Mapping[int, ActivationGrid]:
    """The grid for each number of extra columns, with or without the search."""
    factors = torch.ones_like(inputs.magnitudes.largest) if inputs.factors is None else inputs.factors
    importance = torch.stack([layer_weight(layer).square().sum(0) for layer in layers]).sum(0)
    if options.search == "error":
        return search_grids(
            inputs.magnitudes, factors, importance, extras, bits=bits, split=options.split, headroom=options.headroom
        )
    grids = {}
    largest = inputs.magnitudes.largest * factors
    for extra in extras:
        grid = covering_grid(largest, extra, bits=bits, split=options.split, headroom=options.headroom)
        error = grid.scale**2 / 12 * float((importance / factors.square()).sum())
        grids[extra] = ActivationGrid(grid.scale, grid.extra, error)
    return grids


def _weight_spread(layers: Sequence[nn.Module], factors: Tensor, granularity: Granularity) -> float:
    """Sum over all outputs of the squared largest smoothed weight that decides the output's scale."""
    total = 0.0
    for layer in layers:
        largest = (layer_weight(layer) / factors).abs().amax(1)
        total += float((largest if granularity == "channel" else largest.amax().expand_as(largest)).square().sum())
    return total


def _energy(inputs: GroupInputs, layers: Sequence[nn.Module]) -> float:
    """Weighted mean square norm of the group's output (biases left out)."""
    energy = 0.0
    for layer in layers:
        weight = layer_weight(layer)
        output = inputs.sample @ weight.T
        if inputs.shift is not None:
            output += weight @ inputs.shift
        energy += float(inputs.rows @ output.square_().sum(1))
    return max(energy, torch.finfo(torch.float32).tiny)

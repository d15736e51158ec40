"""What a group would lose with each number of extra columns: the curves that the plan is made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from fyc_passes.flatten_quant.groups import Group, layer_weight
from fyc_passes.flatten_quant.options import FlattenQuantOptions
from fyc_passes.flatten_quant.search import ActivationGrid, covering_grid, search_grids
from fyc_passes.flatten_quant.smooth import STRENGTHS, smoothing_factors
from fyc_passes.flatten_quant.statistics import InputStatistics
from torch import Tensor, nn

#: Extra columns that are tried, as shares of a group's columns.
_SHARES = (0.0, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0)
#: What GPTQ leaves of the output error of rounding to nearest; measured on SmolLM2-135M, used for estimates only.
_GPTQ_LEAVES = 0.5


@dataclass(frozen=True)
class GroupInputs:
    """What is known about a group's inputs after shift and smoothing.

    Attributes:
        shift: float32 `[K]` subtracted from the raw inputs, or None.
        factors: float32 `[K]` that they are multiplied with, or None.
        sample: float32 `[R, K]`.
        rows: float32 `[R]`, how much each row of the sample counts.
        largest: float32 `[K]`, largest absolute value on the calibration text.
    """

    shift: Tensor | None
    factors: Tensor | None
    sample: Tensor
    rows: Tensor
    largest: Tensor


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


def raw_shift(statistics: InputStatistics, options: FlattenQuantOptions) -> Tensor | None:
    """The shift that the options ask for."""
    return statistics.mean if options.shift else None


def smoothed(
    statistics: InputStatistics, shift: Tensor | None, layers: Sequence[nn.Module], strength: float
) -> GroupInputs:
    """Inputs after shift and smoothing, from statistics of the raw inputs."""
    largest = statistics.largest(shift)
    sample = statistics.sample if shift is None else statistics.sample - shift
    factors = None
    if strength:
        factors = smoothing_factors(largest, largest_weights(layers), strength)
        sample, largest = sample * factors, largest * factors
    return GroupInputs(shift, factors, sample, statistics.sample_weights, largest)


def inputs_of(statistics: InputStatistics) -> GroupInputs:
    """Inputs from statistics that were taken after shift and smoothing."""
    return GroupInputs(
        statistics.shift, statistics.factors, statistics.sample, statistics.sample_weights, statistics.largest()
    )


def largest_weights(layers: Sequence[nn.Module]) -> Tensor:
    """Largest absolute weight that reads each channel, float32 `[K]`."""
    return torch.stack([layer_weight(layer).abs().amax(0) for layer in layers]).amax(0)


def curves(
    group: Group, layers: Sequence[nn.Module], statistics: InputStatistics, options: FlattenQuantOptions
) -> dict[tuple[int, int], list[Candidate]]:
    """For each allowed (weight bits, activation bits): the best smoothing for every number of extra columns."""
    shift = raw_shift(statistics, options)
    moment = statistics.second_moment(shift)
    energy = _energy(statistics, layers)
    best: dict[tuple[int, int], dict[int, Candidate]] = {bits: {} for bits in options.bits()}
    for strength in STRENGTHS if options.smoothing == "search" else (0.0,):
        inputs = smoothed(statistics, shift, layers, strength)
        factors = torch.ones(group.channels) if inputs.factors is None else inputs.factors
        importance = _importance(layers, factors)
        spread = _weight_spread(layers, factors) * float((moment * factors.square()).sum())
        for (weight_bits, activation_bits), found in best.items():
            leaves = _GPTQ_LEAVES if options.rounds_with_gptq(weight_bits) else 1.0
            weight_error = spread / ((1 << (weight_bits - 1)) - 1) ** 2 / 12 * leaves
            grids = find_grids(inputs, importance, budgets(group.channels, options), activation_bits, options)
            for extra, grid in grids.items():
                error = (grid.error + weight_error) / energy
                if extra not in found or error < found[extra].error:
                    found[extra] = Candidate(extra, strength, error)
    return {bits: list(found.values()) for bits, found in best.items()}


def find_grids(
    inputs: GroupInputs, importance: Tensor, extras: Sequence[int], bits: int, options: FlattenQuantOptions
) -> Mapping[int, ActivationGrid]:
    """The grid for each number of extra columns, with or without the search."""
    if options.search == "error":
        return search_grids(
            inputs.sample, inputs.rows, importance, extras, bits=bits, split=options.split, headroom=options.headroom
        )
    grids = {}
    for extra in extras:
        grid = covering_grid(inputs.largest, extra, bits=bits, split=options.split, headroom=options.headroom)
        grids[extra] = ActivationGrid(grid.scale, grid.extra, grid.scale**2 / 12 * float(importance.sum()))
    return grids


def output_importance(layers: Sequence[nn.Module], factors: Tensor | None) -> Tensor:
    """Sum of squares of the smoothed weights that read each channel, float32 `[K]`."""
    channels = layer_weight(layers[0]).shape[1]
    return _importance(layers, torch.ones(channels) if factors is None else factors)


def _importance(layers: Sequence[nn.Module], factors: Tensor) -> Tensor:
    return torch.stack([layer_weight(layer).square().sum(0) for layer in layers]).sum(0) / factors.square()


def _weight_spread(layers: Sequence[nn.Module], factors: Tensor) -> float:
    """Sum over all outputs of the squared largest smoothed weight."""
    return sum(float((layer_weight(layer) / factors).abs().amax(1).square().sum()) for layer in layers)


def _energy(statistics: InputStatistics, layers: Sequence[nn.Module]) -> float:
    """Weighted mean square norm of the group's output (biases left out)."""
    rows = statistics.sample_weights / statistics.sample_weights.sum()
    energy = sum(float(rows @ (statistics.sample @ layer_weight(layer).T).square().sum(1)) for layer in layers)
    return max(energy, torch.finfo(torch.float32).tiny)

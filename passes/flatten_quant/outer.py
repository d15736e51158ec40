"""INT8 embedding and language-model head, one scale a row."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import torch
from fyc_passes.flatten_quant.modules import Int8Embedding, Int8Head
from fyc_passes.flatten_quant.weights import round_to_grid, weight_scale
from torch import Tensor, nn

from fyc import ModuleReport, Outer


@dataclass(frozen=True)
class Ends:
    """Module paths of the token embedding and of the layer that makes the logits; None if there is none to convert."""

    embedding: str | None
    head: str | None


def find_ends(model: nn.Module, blocks: Collection[str], selects: Callable[[str], bool]) -> Ends:
    """The token embedding and the head of a model, if the recipe selects them.

    Subclasses of nn.Embedding (some scale their output) and layers inside the blocks are left alone.

    Args:
        model: the model, maybe on the meta device.
        blocks: module paths of its blocks.
        selects: the recipe's patterns.
    """
    embedding = model.get_input_embeddings()  # type: ignore[operator]
    head = model.get_output_embeddings()  # type: ignore[operator]
    paths = {id(module): path for path, module in model.named_modules()}

    def path_of(module: nn.Module | None, kind: type[nn.Module]) -> str | None:
        path = paths.get(id(module)) if type(module) is kind else None
        if path is None or any(path == block or path.startswith(f"{block}.") for block in blocks):
            return None
        return path if selects(path) else None

    return Ends(path_of(embedding, nn.Embedding), path_of(head, nn.Linear))


def convert_ends(outer: Outer, ends: Ends) -> list[ModuleReport]:
    """Replace embedding and head; a tied pair shares its codes and scales."""
    made: dict[int, tuple[Tensor, Tensor]] = {}
    reports = []
    for path, is_head in ((ends.embedding, False), (ends.head, True)):
        if path is None:
            continue
        old = outer.module.get_submodule(path)
        weight: Tensor = old.weight  # type: ignore[assignment]
        if id(weight) not in made:
            made[id(weight)] = _quantize(weight)
        rows, columns = weight.shape
        bias: Tensor | None = getattr(old, "bias", None)
        new: Int8Embedding | Int8Head
        if is_head:
            new = Int8Head(rows, columns, bias is not None)
            if bias is not None:
                new.bias = bias.detach().float()
        else:
            new = Int8Embedding(rows, columns, str(weight.dtype).removeprefix("torch."))
        new.weight, new.weight_scale = made[id(weight)]
        parent, _, name = path.rpartition(".")
        setattr(outer.module.get_submodule(parent), name, new)
        reports.append(ModuleReport(path, "int8", bits=8, error=_error(weight, new.weight, new.weight_scale)))
    return reports


def _quantize(weight: Tensor) -> tuple[Tensor, Tensor]:
    weight = weight.detach().float()
    scale = weight_scale(weight, 8, "channel")
    return round_to_grid(weight, scale, 8), scale


def _error(weight: Tensor, codes: Tensor, scale: Tensor) -> float:
    weight = weight.detach().float()
    lost = (codes.float() * scale[:, None] - weight).square().sum()
    return float(lost / weight.square().sum().clamp_min(torch.finfo(torch.float32).tiny))

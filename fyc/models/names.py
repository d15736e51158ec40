"""Match the tensor names of a checkpoint to the names of a transformers model."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import PrefixChange, WeightConverter, WeightRenaming, rename_source_key

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


@dataclass(frozen=True)
class NameMatch:
    """How a checkpoint's tensors become a model's.

    Attributes:
        stored: model name -> name in the checkpoint.
        unused: names in the checkpoint that the model has no place for.
        missing: names that the model needs and the checkpoint lacks; empty unless `renames_only`.
        computed: model names that transformers computes when the checkpoint lacks them.
        renames_only: whether `stored` is the whole story. If not, tensors have to be split, merged or transposed.
    """

    stored: dict[str, str]
    unused: tuple[str, ...]
    missing: tuple[str, ...]
    computed: tuple[str, ...]
    renames_only: bool


def match_names(model: PreTrainedModel, stored: Collection[str]) -> NameMatch:
    """Match stored names to the model's, with the renamings that `from_pretrained` would apply."""
    wanted = model.state_dict()
    transforms = get_model_conversion_mapping(model)
    renamings = [item for item in transforms if isinstance(item, WeightRenaming)]
    converters = [item for item in transforms if isinstance(item, WeightConverter)]
    found: dict[str, str] = {}
    unused = []
    converted = False
    for name in sorted(stored):
        new, pattern = rename_source_key(name, renamings, converters, model.base_model_prefix, wanted)
        if new not in wanted and name in wanted:
            new, pattern = name, None
        if new not in wanted:
            unused.append(name)
        elif pattern is not None:
            converted = True
        else:
            found[new] = name
    special = [item for item in renamings if type(item) not in (WeightRenaming, PrefixChange)]
    if any(item.rename_source_key(name)[1] is not None for item in special for name in stored):
        converted = True
    aliases = tied_aliases(model)
    present = {aliases.get(name, name) for name in found}
    absent = [name for name in wanted if aliases.get(name, name) not in present]
    optional = _matching(absent, model._keys_to_ignore_on_load_missing or ())
    missing = () if converted else tuple(name for name in absent if name not in optional)
    return NameMatch(found, tuple(unused), missing, tuple(optional), not converted)


def tied_aliases(model: PreTrainedModel) -> dict[str, str]:
    """Names of tied tensors -> the name they are stored under.

    Both the ties transformers declares and tensors that are one object under several names count.
    """
    declared: dict[str, str] = dict(model.all_tied_weights_keys)
    first: dict[int, str] = {}
    aliases: dict[str, str] = {}
    named: list[tuple[str, Tensor]] = [
        *model.named_parameters(remove_duplicate=False),
        *model.named_buffers(remove_duplicate=False),
    ]
    for name, tensor in sorted(named, key=lambda item: item[0] in declared):
        canonical = first.setdefault(id(tensor), name)
        if canonical != name:
            aliases[name] = canonical
    for name, source in declared.items():
        aliases.setdefault(name, aliases.get(source, source))
    return {name: source for name, source in aliases.items() if name != source}


def _matching(names: Iterable[str], patterns: Iterable[str]) -> list[str]:
    compiled = [re.compile(pattern) for pattern in patterns]
    return [name for name in names if any(pattern.search(name) for pattern in compiled)]

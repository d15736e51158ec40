"""Match the tensor names of a checkpoint to the names of a transformers model."""

from __future__ import annotations

import copy
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import (
    PrefixChange,
    WeightConverter,
    WeightRenaming,
    dot_natural_key,
    rename_source_key,
)

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedConfig, PreTrainedModel

    from fyc.models.safetensors_file import TensorInfo

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Merge:
    """Stored tensors that transformers merges, splits or transposes into tensors of the model.

    Attributes:
        target: the model name that their names are turned into.
        sources: stored names in order, each with the pattern of the converter that it matched.
        converter: what transformers does to them.
        config: the model's configuration.
    """

    target: str
    sources: tuple[tuple[str, str], ...]
    converter: WeightConverter
    config: PreTrainedConfig

    def run(self, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tensors of the model by name, made of the stored ones."""
        converter = copy.deepcopy(self.converter)
        for name, pattern in self.sources:
            converter.add_tensor(self.target, name, pattern, stored[name])
        made: dict[str, Tensor | list[Tensor]] = converter.convert(self.target, config=self.config)
        return {name: value[0] if isinstance(value, list) else value for name, value in made.items()}


@dataclass(frozen=True)
class NameMatch:
    """How a checkpoint's tensors become a model's.

    Attributes:
        stored: model name -> name in the checkpoint, where a tensor is stored as the model has it.
        merged: model name -> how it is made, where it is not, and the shape it will have.
        unused: names in the checkpoint that the model has no place for.
        missing: names that the model needs and the checkpoint lacks; empty if not `streaming`.
        computed: model names that transformers computes when the checkpoint lacks them.
        streaming: whether `stored` and `merged` are the whole story. If not, only transformers can load the model.
    """

    stored: dict[str, str]
    merged: dict[str, tuple[Merge, torch.Size]]
    unused: tuple[str, ...]
    missing: tuple[str, ...]
    computed: tuple[str, ...]
    streaming: bool


def match_names(model: PreTrainedModel, infos: Mapping[str, TensorInfo]) -> NameMatch:
    """Match stored names to the model's, with the conversions that `from_pretrained` would apply."""
    wanted = model.state_dict()
    transforms = get_model_conversion_mapping(model)
    renamings = [item for item in transforms if isinstance(item, WeightRenaming)]
    converters = [item for item in transforms if isinstance(item, WeightConverter)]
    by_pattern = {pattern: item for item in converters for pattern in item.source_patterns}
    found: dict[str, str] = {}
    groups: dict[str, list[tuple[str, str]]] = {}
    unused = []
    for name in sorted(infos, key=dot_natural_key):
        new, pattern = rename_source_key(name, renamings, converters, model.base_model_prefix, wanted)
        if new not in wanted and name in wanted:
            new, pattern = name, None
        if new not in wanted:
            unused.append(name)
        elif pattern is not None:
            groups.setdefault(new, []).append((name, pattern))
        else:
            found[new] = name
    merges = [
        Merge(target, tuple(sources), by_pattern[sources[0][1]], model.config) for target, sources in groups.items()
    ]
    merged = _planned(merges, infos)
    special = [item for item in renamings if type(item) not in (WeightRenaming, PrefixChange)]
    unclear = any(item.rename_source_key(name)[1] is not None for item in special for name in infos)
    streaming = merged is not None and not unclear
    aliases = tied_aliases(model)
    present = {aliases.get(name, name) for name in (*found, *(merged or ()))}
    absent = [name for name in wanted if aliases.get(name, name) not in present]
    optional = _matching(absent, model._keys_to_ignore_on_load_missing or ())
    missing = tuple(name for name in absent if name not in optional) if streaming else ()
    return NameMatch(found, merged or {}, tuple(unused), missing, tuple(optional), streaming)


def _planned(merges: Sequence[Merge], infos: Mapping[str, TensorInfo]) -> dict[str, tuple[Merge, torch.Size]] | None:
    """What each merge will make, found by running it without data; None if that is not possible."""
    planned: dict[str, tuple[Merge, torch.Size]] = {}
    for merge in merges:
        empty = {name: torch.empty(infos[name].shape, device="meta") for name, _ in merge.sources}
        try:
            made = merge.run(empty)
        except Exception:  # an operation that needs the data, the model, or shapes that fit
            _log.debug("%s cannot be converted on its own", merge.target, exc_info=True)
            return None
        planned |= {name: (merge, tensor.shape) for name, tensor in made.items()}
    return planned


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

"""Makes transformers' own `from_pretrained` load fyc artifacts: a registered quantization method named `fyc`.

Importing this module registers it; `import fyc` arranges that this happens when transformers' quantizers are imported.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers.modeling_utils import PreTrainedModel
from transformers.quantizers.auto import (
    AUTO_QUANTIZATION_CONFIG_MAPPING,
    register_quantization_config,
    register_quantizer,
)
from transformers.quantizers.base import HfQuantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from fyc import ir
from fyc.artifact import Artifact, open_artifact
from fyc.errors import ArtifactError
from fyc.loading.bind import bind_blocks, changed_structures, check_numerically, read_graphs
from fyc.loading.rebuild import get_tensor, persistent_tensors, replace_modules, set_tensor
from fyc.plugins import PluginHost, load_plugins

METHOD = "fyc"
_log = logging.getLogger(__name__)
_DTYPES = {
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.int16: "I16",
    torch.int32: "I32",
    torch.int64: "I64",
    torch.bool: "BOOL",
}


class FycConfig(QuantizationConfigMixin):  # type: ignore[misc]
    """The `quantization_config` entry of an artifact's config.json."""

    def __init__(self, schema: int = 1, **kwargs: Any) -> None:
        del kwargs
        self.quant_method = METHOD
        self.schema = schema


class FycQuantizer(HfQuantizer):  # type: ignore[misc]
    """Rebuilds the skeleton before transformers reads the weights, and binds the graphs afterwards."""

    requires_calibration = True

    @property
    def is_trainable(self) -> bool:
        """Integer weights have no gradients; adapters beside them may still train."""
        return False

    def is_serializable(self) -> bool:
        """Refuses: `save_pretrained` would write the tensors without the graphs that use them (FYC-A08)."""
        raise ArtifactError(
            "FYC-A08",
            "save_pretrained cannot save a model converted by fyc",
            why="it would write the tensors without the graphs that use them",
            next="copy the artifact folder instead",
        )

    def _process_model_before_weight_loading(
        self, model: PreTrainedModel, checkpoint_files: list[str] | None = None, **kwargs: Any
    ) -> None:
        del kwargs
        host = load_plugins()
        self._artifact = artifact = _artifact_of(checkpoint_files)
        _check_class(model, artifact)
        self._graphs = read_graphs(artifact)
        source = ir.trace_model(model, is_leaf=host.trace_leaf, opaque="keep")
        self._changed = changed_structures(source, artifact)
        _check_plugins(artifact, host)
        gone = replace_modules(model, artifact.manifest.replaced, host)
        self._initializers = _initialize_as_before(model, gone)
        _add_guard_axis(model, artifact)
        _check_shapes(model, artifact)
        _forget_ties(model, artifact.manifest.aliases)

    def _process_model_after_weight_loading(self, model: PreTrainedModel, **kwargs: Any) -> PreTrainedModel:
        del kwargs
        artifact = self._artifact
        for owner in self._initializers:
            del owner._init_weights
        guard = artifact.manifest.guard.name
        set_tensor(model, guard, get_tensor(model, guard).detach().squeeze(0))
        for alias, name in artifact.manifest.aliases.items():
            set_tensor(model, alias, get_tensor(model, name))
        bind_blocks(model, self._graphs)
        if self._changed:
            _log.warning("transformers changed since this artifact was made; comparing with its stored sample")
            check_numerically(model, artifact, self._changed)
        return model


def _artifact_of(checkpoint_files: list[str] | None) -> Artifact:
    if not checkpoint_files:
        raise ArtifactError("FYC-A03", "the artifact has no weight files")
    folder = Path(checkpoint_files[0]).parent
    artifact = open_artifact(folder)
    artifact.verify()
    unknown = {Path(file).name for file in checkpoint_files} - artifact.manifest.files.keys()
    if unknown:
        raise ArtifactError(
            "FYC-A07", "a weight file is not listed in fyc.json", where=str(folder / min(unknown)), next="remove it"
        )
    return artifact


def _check_plugins(artifact: Artifact, host: PluginHost) -> None:
    distributions = {entry.name: entry.distribution for entry in artifact.manifest.passes}
    for path, replacement in artifact.manifest.replaced.items():
        if replacement.by not in host.passes:
            raise ArtifactError(
                "FYC-A04",
                f"the artifact needs the pass {replacement.by!r}",
                where=path,
                why="no installed plugin registers it",
                next=f"install it: the artifact was made with {distributions.get(replacement.by, 'another plugin')}",
            )


def _check_class(model: PreTrainedModel, artifact: Artifact) -> None:
    found, expected = type(model).__name__, artifact.manifest.architecture
    if found != expected:
        raise ArtifactError(
            "FYC-A06",
            f"this artifact holds a {expected}, not a {found}",
            where=str(artifact.path),
            next=f"load it with fyc.load(), {expected}.from_pretrained or the matching Auto class",
        )


def _add_guard_axis(model: PreTrainedModel, artifact: Artifact) -> None:
    guard = artifact.manifest.guard
    plain = get_tensor(model, guard.name)
    if list(plain.shape) != guard.shape:
        raise ArtifactError("FYC-A06", "the guard tensor has another shape than the model", where=guard.name)
    set_tensor(model, guard.name, plain.detach().unsqueeze(0))


def _check_shapes(model: PreTrainedModel, artifact: Artifact) -> None:
    """Compare the skeleton with the shard headers before a byte of weights is read."""
    stored = artifact.tensors()
    aliases = artifact.manifest.aliases
    wanted = {name: tensor for name, tensor in persistent_tensors(model) if name not in aliases}
    problems = [f"{name} is missing" for name in sorted(wanted.keys() - stored.keys())]
    problems += [f"{name} is not part of the model" for name in sorted(stored.keys() - wanted.keys())]
    for name in sorted(wanted.keys() & stored.keys()):
        tensor, found = wanted[name], stored[name]
        if tuple(tensor.shape) != found.shape:
            problems.append(f"{name} has shape {list(found.shape)}, the model wants {list(tensor.shape)}")
        elif not tensor.is_floating_point() and _DTYPES.get(tensor.dtype) != found.dtype:
            problems.append(f"{name} has dtype {found.dtype}, the model wants {tensor.dtype}")
    if problems:
        raise ArtifactError(
            "FYC-A06",
            "the artifact's tensors do not fit the model",
            where=str(artifact.path),
            why="; ".join(problems[:3]) + (f" and {len(problems) - 3} more" if len(problems) > 3 else ""),
            next="the artifact was changed: convert the model again",
        )


def _initialize_as_before(model: PreTrainedModel, gone: Mapping[str, nn.Module]) -> list[PreTrainedModel]:
    """Let `_init_weights` see the modules it was written for.

    transformers calls it on every module that is not a leaf, for buffers that no file stores; some of them reach
    for the weights of their children (GPT-2: `module.c_proj.weight`), which a pass may have replaced. Returns the
    models whose `_init_weights` was covered.
    """
    below: dict[nn.Module, list[tuple[nn.Module, str, nn.Module]]] = {}
    for path, old in gone.items():
        *above, name = path.split(".")
        parent = model.get_submodule(".".join(above))
        for depth in range(len(above) + 1):
            below.setdefault(model.get_submodule(".".join(above[:depth])), []).append((parent, name, old))
    owners = [module for module in model.modules() if isinstance(module, PreTrainedModel)]
    for owner in owners:
        owner._init_weights = partial(_initialize, owner._init_weights, below)
    return owners


def _initialize(
    initialize: Callable[[nn.Module], None],
    below: Mapping[nn.Module, list[tuple[nn.Module, str, nn.Module]]],
    module: nn.Module,
) -> None:
    places = below.get(module, [])
    new = [parent._modules[name] for parent, name, _ in places]
    for parent, name, old in places:
        parent._modules[name] = old
    try:
        initialize(module)
    finally:
        for (parent, name, _), child in zip(places, new, strict=True):
            parent._modules[name] = child


def _forget_ties(model: PreTrainedModel, aliases: Mapping[str, str]) -> None:
    """Keep transformers from tying tensors that a pass replaced or untied; what is tied stands in the manifest."""
    names = {name for name, _ in persistent_tensors(model)}
    ties = model.all_tied_weights_keys
    for target, source in list(ties.items()):
        tied = aliases.get(target, target) == aliases.get(source, source)
        if target not in names or source not in names or not tied:
            del ties[target]
    known = model._keys_to_ignore_on_load_missing or []
    model._keys_to_ignore_on_load_missing = [*known, *(re.escape(name) for name in aliases)]


def register() -> None:
    """Register the quantization method with transformers; does nothing the second time."""
    if METHOD not in AUTO_QUANTIZATION_CONFIG_MAPPING:
        register_quantization_config(METHOD)(FycConfig)
        register_quantizer(METHOD)(FycQuantizer)


register()

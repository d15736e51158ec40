"""Makes transformers' own `from_pretrained` load fyc artifacts: a registered quantization method named `fyc`.

Importing this module registers it; `import fyc` arranges that this happens when transformers' quantizers are imported.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import transformers
from torch import nn
from transformers.modeling_utils import PreTrainedModel
from transformers.quantizers.auto import (
    AUTO_QUANTIZATION_CONFIG_MAPPING,
    register_quantization_config,
    register_quantizer,
)
from transformers.quantizers.base import HfQuantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from fyc.artifact import Artifact, StoredTensor, open_artifact
from fyc.errors import ArtifactError, FycError, ResourceError, is_out_of_memory
from fyc.loading.bind import (
    bind_blocks,
    changed_leaf_rules,
    changed_structures,
    check_numerically,
    check_sizes,
    read_graphs,
)
from fyc.loading.rebuild import (
    FLOAT_TYPES,
    get_tensor,
    persistent_tensors,
    replace_modules,
    same_kind,
    set_tensor,
)
from fyc.plugins import PluginHost, load_plugins

METHOD = "fyc"
_log = logging.getLogger(__name__)
_FLOATS = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}


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
        self._artifact = artifact = _artifact_of(checkpoint_files, model.config.name_or_path)
        _check_class(model, artifact)
        with refusing(artifact.path):
            self._rebuild(model, artifact, load_plugins())

    def _rebuild(self, model: PreTrainedModel, artifact: Artifact, host: PluginHost) -> None:
        """Make the skeleton one that has a place for every stored tensor."""
        self._graphs = read_graphs(artifact)
        self._changed = changed_structures(model, host, artifact)
        self._rules = changed_leaf_rules(host, artifact) if self._changed else ""
        _check_plugins(artifact, host)
        gone = replace_modules(model, artifact.manifest.replaced, host)
        self._initializers = _initialize_as_before(model, gone)
        stored = artifact.tensors()
        _take_stored_types(model, artifact, stored)
        _check_aliases(model, artifact)
        _add_guard_axis(model, artifact)
        _check_shapes(model, artifact, stored)
        check_sizes(model, artifact, self._graphs)
        _forget_ties(model, artifact.manifest.aliases)

    def _process_model_after_weight_loading(self, model: PreTrainedModel, **kwargs: Any) -> PreTrainedModel:
        del kwargs
        with refusing(self._artifact.path):
            self._bind(model, self._artifact)
        return model

    def _bind(self, model: PreTrainedModel, artifact: Artifact) -> None:
        """Share what is tied, and make the blocks run their graphs."""
        for owner in self._initializers:
            del owner._init_weights
        guard = artifact.manifest.guard.name
        set_tensor(model, guard, get_tensor(model, guard).detach().squeeze(0))
        for alias, name in artifact.manifest.aliases.items():
            set_tensor(model, alias, get_tensor(model, name))
        bind_blocks(model, self._graphs)
        made_with = artifact.manifest.versions.get("transformers")
        if self._changed:
            _log.warning(
                "transformers computes %d blocks in another way than version %s, which made this artifact%s; "
                "comparing with its stored sample",
                len(self._changed),
                made_with,
                self._rules,
            )
        # Modules that are one node of a graph may have changed too, which no structure shows.
        if self._changed or made_with != transformers.__version__:
            check_numerically(model, artifact, self._changed, self._rules)


@contextmanager
def refusing(folder: Path) -> Iterator[None]:
    """Whatever an artifact's files make go wrong is an ArtifactError: nothing in them is to be trusted.

    Raises:
        ArtifactError: FYC-A06 instead of any exception that is not fyc's own.
        ResourceError: FYC-S02 when memory ran out.
    """
    try:
        yield
    except FycError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise ResourceError("FYC-S02", "not enough memory to load the model", where=str(folder)) from error
        raise ArtifactError(
            "FYC-A06",
            "the artifact cannot be loaded",
            where=str(folder),
            why=f"{type(error).__name__}: {error}"[:500],
            next="the artifact was changed, or a plugin or transformers has another version: convert the model again",
        ) from error


def _artifact_of(checkpoint_files: list[str] | None, source: str) -> Artifact:
    """The verified artifact that the weight files belong to; they must be the listed ones, in the folder asked for."""
    if not checkpoint_files:
        raise ArtifactError("FYC-A03", "the artifact has no weight files")
    files = [Path(file) for file in checkpoint_files]
    artifact = open_artifact(source if Path(source).is_dir() else files[0].parent)
    artifact.verify()
    for file in files:
        inside = file.is_file() and file.parent.resolve() == artifact.path.resolve()
        if not inside or file.name not in artifact.manifest.files:
            raise ArtifactError(
                "FYC-A07",
                "a weight file is not part of the artifact",
                where=str(file),
                why="the index of the shards or config.json names it, fyc.json does not list it",
                next="convert the model again",
            )
    return artifact


def _take_stored_types(model: PreTrainedModel, artifact: Artifact, stored: Mapping[str, StoredTensor]) -> None:
    """Give the passes' floating-point tensors the type they were stored in; the model's own follows the override.

    A constructor that names no type would take the one that transformers sets while it builds the model. With an
    override the modules are moved to it like by `model.to(dtype)`, so that they can keep what must not be rounded.
    """
    own = _FLOATS[artifact.manifest.dtype]
    for path in artifact.manifest.replaced:
        module = model.get_submodule(path)
        _set_types(module, path, stored, skip="")
        if model.dtype != FLOAT_TYPES[own]:
            module.to(model.dtype)
            _set_types(module, path, stored, skip=own)


def _set_types(module: nn.Module, path: str, stored: Mapping[str, StoredTensor], skip: str) -> None:
    """Floating-point tensors take their stored type, but for those whose stored type is `skip`."""
    for name, tensor in persistent_tensors(module):
        found = stored.get(f"{path}.{name}")
        if found is None or found.dtype == skip or found.dtype not in FLOAT_TYPES or not tensor.is_floating_point():
            continue
        if tensor.dtype != FLOAT_TYPES[found.dtype]:
            set_tensor(module, name, tensor.detach().to(FLOAT_TYPES[found.dtype]))


def _check_aliases(model: PreTrainedModel, artifact: Artifact) -> None:
    for alias, name in artifact.manifest.aliases.items():
        a, b = get_tensor(model, alias), get_tensor(model, name)
        if name in artifact.manifest.aliases or a.shape != b.shape or a.dtype != b.dtype:
            raise ArtifactError(
                "FYC-A06", "two tensors cannot be one", where=f"{alias}, {name}", why=f"{a.shape} and {b.shape}"
            )


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


def _check_shapes(model: PreTrainedModel, artifact: Artifact, stored: Mapping[str, StoredTensor]) -> None:
    """Compare the skeleton with the shard headers before a byte of weights is read."""
    aliases = artifact.manifest.aliases
    wanted = {name: tensor for name, tensor in persistent_tensors(model) if name not in aliases}
    problems = [f"{name} is missing" for name in sorted(wanted.keys() - stored.keys())]
    problems += [f"{name} is not part of the model" for name in sorted(stored.keys() - wanted.keys())]
    for name in sorted(wanted.keys() & stored.keys()):
        tensor, found = wanted[name], stored[name]
        if tuple(tensor.shape) != found.shape:
            problems.append(f"{name} has shape {list(found.shape)}, the model wants {list(tensor.shape)}")
        elif not same_kind(tensor.dtype, found.dtype):
            problems.append(f"{name} has dtype {found.dtype}, the model wants {tensor.dtype}")
    if problems:
        raise ArtifactError(
            "FYC-A06",
            "the artifact's tensors do not fit the model",
            where=str(artifact.path),
            why="; ".join(problems[:3]) + (f" and {len(problems) - 3} more" if len(problems) > 3 else ""),
            next="the artifact was changed, or fyc.json names another version of the plugin: install that one, or "
            "convert the model again",
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
    names = {name for name, tensor in persistent_tensors(model) if isinstance(tensor, nn.Parameter)}
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

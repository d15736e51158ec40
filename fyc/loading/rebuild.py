"""Put the modules that passes made back into a skeleton: allow-listed classes only, on the meta device."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from fyc.artifact import Replacement
from fyc.errors import ArtifactError
from fyc.passes import FycModule
from fyc.plugins import PluginHost

#: Types of tensors by their names in a safetensors file. One of the first kind may be read as any other of them.
FLOAT_TYPES = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
EXACT_TYPES = {
    "I8": torch.int8,
    "U8": torch.uint8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "BOOL": torch.bool,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}


def set_module(root: nn.Module, path: str, module: nn.Module) -> None:
    """Put a module at a path, replacing what is there or adding a new child."""
    parent, _, name = path.rpartition(".")
    setattr(root.get_submodule(parent), name, module)


def resolve_class(replacement: Replacement, host: PluginHost) -> type[FycModule]:
    """The class a replacement names, from its pass's allow-list.

    Raises:
        ArtifactError: FYC-A04 when the pass is not installed, FYC-A07 when the pass does not allow the class.
    """
    registered = host.passes.get(replacement.by)
    if registered is None:
        raise ArtifactError(
            "FYC-A04",
            f"the artifact needs the pass {replacement.by!r}",
            why="no installed plugin registers it",
            next="install the plugin that the artifact was made with (fyc.json names its distribution)",
        )
    for cls in registered.cls.modules:
        if cls.__name__ == replacement.cls:
            return cls
    raise ArtifactError(
        "FYC-A07",
        f"the module class {replacement.cls!r} was refused",
        why=f"the pass {replacement.by!r} does not list it among the modules it may leave in a model",
    )


def replace_modules(root: nn.Module, replaced: Mapping[str, Replacement], host: PluginHost) -> dict[str, nn.Module]:
    """Build every replacement on the meta device and put it in its place.

    Returns the modules that gave way, by path.

    Args:
        root: the model skeleton.
        replaced: module path to what is built there.
        host: gives the passes whose classes are allowed.

    Raises:
        ArtifactError: FYC-A04, FYC-A07 (class not allowed, constructor arguments or path refused).
    """
    gone: dict[str, nn.Module] = {}
    for path, replacement in replaced.items():
        cls = resolve_class(replacement, host)
        try:
            with torch.device("meta"):
                module = cls(**replacement.config)
            old = _child(root, path)
            set_module(root, path, module)
        except (TypeError, ValueError, AttributeError, KeyError, RuntimeError, OverflowError) as error:
            raise ArtifactError(
                "FYC-A07",
                f"the module {path} cannot be built as {replacement.cls}",
                where=path,
                why=str(error),
                next="the manifest was changed, or the pass has another version: convert the model again",
            ) from error
        module.train(root.training)
        if old is not None:
            gone[path] = old
    return gone


def _child(root: nn.Module, path: str) -> nn.Module | None:
    """The module at a path, None if its parent has room for it.

    Raises:
        AttributeError: the parent does not exist, or has something under this name that is no module.
    """
    parent, _, name = path.rpartition(".")
    module = root.get_submodule(parent)
    if name in module._modules:
        return module._modules[name]
    if hasattr(module, name):
        raise AttributeError(f"`{name}` of {type(module).__name__} is not a module")
    return None


def same_kind(wanted: torch.dtype, found: str | torch.dtype) -> bool:
    """Whether a stored type may become the wanted one: exactly this type, or any for the usual floating-point ones."""
    types = FLOAT_TYPES if wanted in FLOAT_TYPES.values() else {k: v for k, v in EXACT_TYPES.items() if v == wanted}
    return found in types or found in types.values()


def set_tensor(root: nn.Module, name: str, tensor: Tensor) -> None:
    """Put a tensor where a parameter or buffer of this name is; a parameter stays a parameter."""
    path, _, leaf = name.rpartition(".")
    module = root.get_submodule(path)
    if leaf in module._parameters:
        if not isinstance(tensor, nn.Parameter):
            tensor = nn.Parameter(tensor, requires_grad=tensor.is_floating_point())
        module._parameters[leaf] = tensor
    elif leaf in module._buffers:
        module._buffers[leaf] = tensor
    else:
        raise ArtifactError("FYC-A06", f"the model has no tensor {name}", where=name)


def get_tensor(root: nn.Module, name: str) -> Tensor:
    """The parameter or buffer of this name.

    Raises:
        ArtifactError: FYC-A06 when there is none.
    """
    path, _, leaf = name.rpartition(".")
    try:
        module = root.get_submodule(path)
    except AttributeError as error:
        raise ArtifactError("FYC-A06", f"the model has no tensor {name}", where=name, why=str(error)) from error
    tensor = module._parameters.get(leaf, module._buffers.get(leaf))
    if tensor is None:
        raise ArtifactError("FYC-A06", f"the model has no tensor {name}", where=name)
    return tensor


def persistent_tensors(root: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters and persistent buffers with their names, shared ones under every name."""
    yield from root.state_dict(keep_vars=True).items()


def shared_tensors(root: nn.Module) -> dict[str, str]:
    """Names of tensors that are the same object as an earlier one, mapped to that earlier name."""
    first: dict[int, str] = {}
    aliases: dict[str, str] = {}
    for name, tensor in persistent_tensors(root):
        known = first.setdefault(id(tensor), name)
        if known != name:
            aliases[name] = known
    return aliases

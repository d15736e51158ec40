"""Give a model that lives on the meta device real weights, module by module, and take them away again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn
from transformers import GenerationConfig, PreTrainedModel
from transformers.initialization import guard_torch_init_functions

from fyc.errors import ModelError
from fyc.models.checkpoint import Checkpoint, build_skeleton
from fyc.models.names import tied_aliases

if TYPE_CHECKING:
    from torch import Tensor


def skeleton(checkpoint: Checkpoint, dtype: torch.dtype | None = None) -> PreTrainedModel:
    """The checkpoint's model on the meta device, in eval mode, with tied weights tied.

    Args:
        checkpoint: the checkpoint.
        dtype: dtype of the floating-point parameters; None takes `checkpoint.dtype`.
    """
    config = checkpoint.config
    if checkpoint.untied:
        config = type(config).from_dict({**config.to_dict(), "tie_word_embeddings": False})
    model = build_skeleton(config, checkpoint.architecture, dtype or checkpoint.dtype, str(checkpoint.folder))
    if model.can_generate() and (checkpoint.folder / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(checkpoint.folder, local_files_only=True)
    return model


def outer_paths(model: nn.Module, blocks: Sequence[str]) -> list[str]:
    """Paths of the modules and tensors that lie outside the blocks: the fewest that cover them all."""
    skipped = set(blocks)

    def visit(path: str, module: nn.Module) -> Iterator[str]:
        if path in skipped:
            return
        if not any(block.startswith(f"{path}." if path else "") for block in skipped):
            if any(True for _ in (*module.parameters(), *module.buffers())):
                yield path
            return
        prefix = f"{path}." if path else ""
        for name, tensor in (*module._parameters.items(), *module._buffers.items()):
            if tensor is not None:
                yield prefix + name
        for name, child in module.named_children():
            yield from visit(prefix + name, child)

    return list(visit("", model))


@dataclass(frozen=True)
class _Slot:
    """One place in the module tree that holds a parameter or buffer."""

    name: str
    owner: nn.Module
    owner_path: str
    key: str

    @property
    def tensor(self) -> Tensor:
        value = getattr(self.owner, self.key)
        assert isinstance(value, torch.Tensor)
        return value

    def put(self, value: Tensor) -> None:
        if self.key in self.owner._parameters:
            old = self.tensor
            if not isinstance(value, nn.Parameter):
                value = nn.Parameter(value, requires_grad=old.requires_grad)
            self.owner._parameters[self.key] = value
        else:
            self.owner._buffers[self.key] = value


def materialize(
    model: PreTrainedModel,
    paths: Sequence[str],
    checkpoint: Checkpoint,
    *,
    dtype: torch.dtype | None = None,
    device: torch.device | str = "cpu",
) -> None:
    """Put the checkpoint's weights into the modules at these paths, in place.

    Every parameter and buffer below the paths is real afterwards and equals what `from_pretrained` gives. What a
    checkpoint does not store (rotary frequencies, position ids) is computed by the model's own initialization. A tied
    tensor that is real elsewhere in the model already is shared, not read again.

    Args:
        model: from `skeleton(checkpoint)`.
        paths: paths of modules (`""` is the model) or of single parameters and buffers.
        checkpoint: the checkpoint.
        dtype: dtype of the floating-point parameters; None keeps the skeleton's.
        device: where the weights go.

    Raises:
        ModelError: FYC-M02, FYC-M03, FYC-M04 as `Checkpoint.read`; FYC-M05 for a buffer nobody can compute.
    """
    slots = [slot for slot in _slots(model, paths) if slot.tensor.is_meta]
    aliases = tied_aliases(model)
    real = {aliases.get(name, name): tensor for name, tensor in _named(model) if not tensor.is_meta}
    groups: dict[torch.dtype | None, list[str]] = {}
    for slot in slots:
        name = aliases.get(slot.name, slot.name)
        if name in checkpoint.tensors and name not in real:
            floating = slot.tensor.is_floating_point()
            target = slot.tensor.dtype if dtype is None or slot.tensor.dtype != model.dtype else dtype
            groups.setdefault(target if floating else None, []).append(name)
    for read_dtype, names in groups.items():
        real.update(checkpoint.read(names, dtype=read_dtype, device=device))
    left = []
    for slot in slots:
        name = aliases.get(slot.name, slot.name)
        if name not in real:
            left.append(slot)
            continue
        slot.put(real[name])
        # transformers' initialization leaves alone what carries this mark.
        slot.tensor._is_hf_initialized = True  # type: ignore[attr-defined]
        real[name] = slot.tensor
    _compute(model, left, torch.device(device))


def release(model: nn.Module, path: str) -> None:
    """Put a module (or a single tensor) back to the meta device; its memory is free when nobody else holds it."""
    for slot in _slots(model, [path]):
        if not slot.tensor.is_meta:
            slot.put(torch.empty_like(slot.tensor, device="meta"))


def _compute(model: PreTrainedModel, slots: Sequence[_Slot], device: torch.device) -> None:
    """Fill what no checkpoint stores, with the `_init_weights` of the model that owns it."""
    if not slots:
        return
    for slot in slots:
        slot.put(_blank(slot.tensor, device))
    owners = {slot.owner_path: slot.owner for slot in slots}
    with torch.no_grad(), guard_torch_init_functions():
        for path, owner in owners.items():
            _owning_model(model, path)._init_weights(owner)
    for slot in slots:
        if _is_blank(slot.tensor):
            raise ModelError(
                "FYC-M05",
                f"buffer {slot.name} is not stored, and {type(model).__name__} does not say how to compute it",
                where=slot.owner_path,
                next="report the model to the fyc project; it needs an `_init_weights` that fills this buffer",
            )


def _blank(tensor: Tensor, device: torch.device) -> Tensor:
    """Memory like `tensor`, filled with a value that no initialization leaves there."""
    blank = torch.zeros_like(tensor, device=device, requires_grad=False)
    if tensor.is_floating_point():
        return blank.fill_(float("nan"))
    return blank if tensor.dtype == torch.bool else blank.fill_(torch.iinfo(tensor.dtype).min)


def _is_blank(tensor: Tensor) -> bool:
    if tensor.numel() == 0 or tensor.dtype in (torch.bool, torch.uint8):
        return False
    if tensor.is_floating_point():
        return bool(torch.isnan(tensor).any())
    return bool((tensor == torch.iinfo(tensor.dtype).min).all())


def _owning_model(model: PreTrainedModel, path: str) -> PreTrainedModel:
    """The innermost PreTrainedModel around a module."""
    owner, module = model, model
    for part in path.split(".") if path else ():
        module = module.get_submodule(part)
        if isinstance(module, PreTrainedModel):
            owner = module
    return owner


def _slots(model: nn.Module, paths: Sequence[str]) -> list[_Slot]:
    found: dict[tuple[int, str], _Slot] = {}
    for path in paths:
        parent_path, _, key = path.rpartition(".")
        parent = model.get_submodule(parent_path)
        if path and (key in parent._parameters or key in parent._buffers):
            found.setdefault((id(parent), key), _Slot(path, parent, parent_path, key))
            continue
        for below, module in model.get_submodule(path).named_modules():
            owner_path = ".".join(part for part in (path, below) if part)
            for key in (*module._parameters, *module._buffers):
                if getattr(module, key) is not None:
                    name = f"{owner_path}.{key}" if owner_path else key
                    found.setdefault((id(module), key), _Slot(name, module, owner_path, key))
    return list(found.values())


def _named(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from model.named_parameters(remove_duplicate=False)
    yield from model.named_buffers(remove_duplicate=False)

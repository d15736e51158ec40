"""A checkpoint: a folder with config.json and safetensors, read tensor by tensor under the model's own names."""

from __future__ import annotations

import copy
import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import transformers
from transformers import PreTrainedConfig, PreTrainedModel

from fyc.cache import file_digest
from fyc.errors import ModelError
from fyc.models.folder import missing_tensor, read_architecture, read_config, read_infos, unsupported
from fyc.models.names import Merge, NameMatch, match_names, tied_aliases
from fyc.models.safetensors_file import CHUNK, TensorInfo, check_finite, read_tensor

if TYPE_CHECKING:
    from torch import Tensor

#: What a model folder may hold besides configuration and weights, and an artifact carries over.
COMPANIONS = (
    "generation_config.json", "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt",
    "*.model", "chat_template*", "README*", "LICENSE*", "LICENCE*", "NOTICE*", "USE_POLICY*",
)  # fmt: skip


@dataclass(frozen=True)
class Checkpoint:
    """A model folder whose configuration, files and tensor names were checked.

    Attributes:
        folder: the folder.
        config: the model's configuration.
        architecture: name of the model class in transformers, for example `LlamaForCausalLM`.
        tensors: every tensor the model loads, by its name in the model's state dict. A tied tensor is listed once.
        stored: every tensor of the files, by its name there.
        files: the weight files.
        merges: how tensors are made that are stored in another form (the experts of a mixture, one by one).
        streaming: whether tensors can be read one by one. If not, the first read loads the whole model.
        unused: stored tensors that the model has no place for.
        computed: tensors that are not stored and that transformers computes.
        untied: whether the configuration ties tensors that the files store with different values.
    """

    folder: Path
    config: PreTrainedConfig
    architecture: str
    tensors: Mapping[str, TensorInfo]
    stored: Mapping[str, TensorInfo]
    files: tuple[Path, ...]
    merges: Mapping[str, Merge]
    streaming: bool
    unused: tuple[str, ...]
    computed: tuple[str, ...]
    untied: bool

    @property
    def size_bytes(self) -> int:
        """Size of the weight files, in bytes."""
        return sum(file.stat().st_size for file in self.files)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype the weights are meant to have: the configuration's, else that of the largest stored tensor."""
        named = self.config.dtype
        if isinstance(named, torch.dtype):
            return named
        floats = [info for info in self.tensors.values() if info.dtype.is_floating_point]
        return max(floats, key=lambda info: info.nbytes).dtype if floats else torch.float32

    @property
    def companions(self) -> tuple[Path, ...]:
        """Tokenizer, generation configuration, model card and licence, as far as the folder has them."""
        return tuple(sorted({path for pattern in COMPANIONS for path in self.folder.glob(pattern) if path.is_file()}))

    def read(
        self, names: Iterable[str], *, dtype: torch.dtype | None = None, device: torch.device | str = "cpu"
    ) -> dict[str, Tensor]:
        """Read tensors, one file at a time; each file is closed again.

        Args:
            names: model names, keys of `tensors`.
            dtype: convert floating-point tensors to this dtype; None keeps the stored one.
            device: where the tensors go.

        Raises:
            ModelError: FYC-M02 for a name that is not stored, FYC-M03 for a damaged file, FYC-M04 for NaN or infinity.
        """
        wanted = list(dict.fromkeys(names))
        for name in wanted:
            if name not in self.tensors:
                raise missing_tensor(self.folder, name)
        if not self.streaming:
            return {name: _converted(self._whole[name], dtype, device) for name in wanted}
        read = self._read_stored({name: self.tensors[name] for name in wanted if name not in self.merges}, dtype)
        for merge in dict.fromkeys(self.merges[name] for name in wanted if name in self.merges):
            sources = {name: self.stored[name] for name, _ in merge.sources}
            read |= merge.run(self._read_stored(sources, dtype))
        return {name: read[name].to(device) for name in wanted}

    def _read_stored(self, infos: Mapping[str, TensorInfo], dtype: torch.dtype | None) -> dict[str, Tensor]:
        places = sorted(((info, name) for name, info in infos.items()), key=lambda item: _place(item[0]))
        read: dict[str, Tensor] = {}
        for file, group in groupby(places, key=lambda item: item[0].file):
            try:
                with file.open("rb", buffering=0) as stream:
                    for info, name in group:
                        read[name] = read_tensor(stream, info, dtype)
            except OSError as error:
                raise _unreadable(file, error) from error
        return read

    def digest(self) -> str:
        """SHA-256, in hex, over the names and bytes of config.json and all weight files."""
        total = hashlib.sha256()
        for file in (self.folder / "config.json", *self.files):
            total.update(f"{file.name}\0{file_digest(file)}\n".encode())
        return total.hexdigest()

    @cached_property
    def _whole(self) -> dict[str, Tensor]:
        """The state dict of a checkpoint that cannot be streamed."""
        cls: type[PreTrainedModel] = getattr(transformers, self.architecture)
        model, report = cls.from_pretrained(
            self.folder, dtype=self.dtype, local_files_only=True, output_loading_info=True
        )
        for name in sorted(report["missing_keys"]):
            if name not in self.computed:
                raise missing_tensor(self.folder, name)
        state: dict[str, Tensor] = model.state_dict()
        for name, tensor in state.items():
            check_finite(tensor, name, str(self.folder))
        return state


def read_checkpoint(folder: Path) -> Checkpoint:
    """Open a model folder.

    Raises:
        ModelError: FYC-M01 no model there, FYC-M02 a shard or tensor is missing, FYC-M03 a damaged file,
            FYC-M05 a configuration that fyc does not support.
    """
    config = read_config(folder)
    architecture = read_architecture(folder, config)
    infos, files = read_infos(folder)
    model = build_skeleton(config, architecture, config.dtype or torch.float32, str(folder))
    match = match_names(model, infos)
    tensors = _model_tensors(model, match, infos)
    _check_shapes(model, tensors, folder, match)
    if match.missing:
        raise missing_tensor(folder, match.missing[0], len(match.missing))
    untied = match.streaming and _stored_untied(model, match, infos)
    aliases = {} if untied else tied_aliases(model)
    kept = {name: info for name, info in tensors.items() if name not in aliases}
    merges = {name: merge for name, (merge, _) in match.merged.items()}
    return Checkpoint(
        folder, config, architecture, kept, infos, files, merges, match.streaming, match.unused, match.computed, untied
    )


def build_skeleton(config: PreTrainedConfig, architecture: str, dtype: torch.dtype, where: str) -> PreTrainedModel:
    """A model of this configuration on the meta device, in eval mode, with its tied weights tied.

    Parameters that transformers keeps in float32 (`_keep_in_fp32_modules`) are float32 here too.
    """
    cls: type[PreTrainedModel] = getattr(transformers, architecture)
    try:
        with torch.device("meta"):
            model = cls._from_config(copy.deepcopy(config), dtype=dtype)
    except Exception as error:
        raise unsupported(
            where,
            f"transformers cannot build {architecture} from this configuration",
            f"{type(error).__name__}: {error}",
        ) from error
    _keep_float32(model, dtype)
    return model.eval()


def _keep_float32(model: PreTrainedModel, dtype: torch.dtype) -> None:
    plan = model._get_dtype_plan(dtype)
    patterns = {re.compile(pattern.replace("*", ".*")): kept for pattern, kept in plan.items()}
    for name, parameter in model.named_parameters() if patterns else ():
        for pattern, kept in patterns.items():
            if parameter.is_floating_point() and pattern.search(name):
                parameter.data = parameter.data.to(kept)


def _model_tensors(model: PreTrainedModel, match: NameMatch, infos: Mapping[str, TensorInfo]) -> dict[str, TensorInfo]:
    if not match.streaming:
        return {
            name: TensorInfo(Path(), name, tensor.dtype, tuple(tensor.shape), 0, tensor.nbytes)
            for name, tensor in model.state_dict().items()
            if name not in match.computed
        }
    found = {name: infos[stored] for name, stored in match.stored.items()}
    for name, (merge, shape) in match.merged.items():
        first = infos[merge.sources[0][0]]
        found[name] = TensorInfo(first.file, name, first.dtype, tuple(shape), 0, shape.numel() * first.dtype.itemsize)
    # A tied pair may be stored under either name; the model knows it under the canonical one.
    for name, canonical in tied_aliases(model).items():
        if name in found and canonical not in found:
            found[canonical] = found[name]
    return found


def _check_shapes(model: PreTrainedModel, tensors: Mapping[str, TensorInfo], folder: Path, match: NameMatch) -> None:
    if not match.streaming:
        return
    for name, expected in model.state_dict().items():
        if name in tensors and tensors[name].shape != tuple(expected.shape):
            info = tensors[name]
            raise unsupported(
                str(info.file),
                f"tensor {name} does not fit the configuration",
                f"the file has shape {list(info.shape)}, {folder / 'config.json'} asks for {list(expected.shape)}",
                "make sure that config.json and the weights belong to the same model",
            )


def _stored_untied(model: PreTrainedModel, match: NameMatch, infos: Mapping[str, TensorInfo]) -> bool:
    """Whether tensors that the configuration ties are stored twice, with different values."""
    pairs = [
        (infos[match.stored[name]], infos[match.stored[source]])
        for name, source in tied_aliases(model).items()
        if name in match.stored and source in match.stored
    ]
    different = [not _same_bytes(a, b) for a, b in pairs]
    if any(different) and not all(different):
        raise unsupported(
            str(model.config.name_or_path),
            "some tensors that the configuration ties are stored with different values",
            f"{pairs[different.index(True)][0].name} differs from the tensor it is tied to",
            "save the model again with transformers",
        )
    return any(different)


def _same_bytes(a: TensorInfo, b: TensorInfo) -> bool:
    if (a.dtype, a.shape) != (b.dtype, b.shape):
        return False
    if a.file == b.file and a.begin == b.begin:
        return True
    with a.file.open("rb") as first, b.file.open("rb") as second:
        first.seek(a.begin)
        second.seek(b.begin)
        for start in range(0, a.nbytes, CHUNK):
            count = min(CHUNK, a.nbytes - start)
            if first.read(count) != second.read(count):
                return False
    return True


def _place(info: TensorInfo) -> tuple[str, int]:
    return os.fspath(info.file), info.begin


def _converted(tensor: Tensor, dtype: torch.dtype | None, device: torch.device | str) -> Tensor:
    return tensor.detach().to(device, dtype if tensor.is_floating_point() else None, copy=True)


def _unreadable(file: Path, error: OSError) -> ModelError:
    return ModelError("FYC-M03", f"{file.name} cannot be read", where=str(file), why=error.strerror or str(error))

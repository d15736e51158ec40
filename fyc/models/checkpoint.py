"""A checkpoint: a folder with config.json and safetensors, read tensor by tensor under the model's own names."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from fyc.errors import ModelError
from fyc.models.names import NameMatch, match_names, tied_aliases
from fyc.models.safetensors_file import CHUNK, TensorInfo, check_finite, read_header, read_tensor

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
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
        files: the weight files.
        streaming: whether tensors can be read one by one. If not, their names or shapes have to be converted, and the
            first read loads the whole model.
        unused: stored tensors that the model has no place for.
        computed: tensors that are not stored and that transformers computes.
        untied: whether the configuration ties tensors that the files store with different values.
    """

    folder: Path
    config: PreTrainedConfig
    architecture: str
    tensors: Mapping[str, TensorInfo]
    files: tuple[Path, ...]
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
                raise _missing(self.folder, name)
        if not self.streaming:
            return {name: _converted(self._whole[name], dtype, device) for name in wanted}
        places = sorted(((self.tensors[name], name) for name in wanted), key=lambda item: _place(item[0]))
        read: dict[str, Tensor] = {}
        for file, group in groupby(places, key=lambda item: item[0].file):
            try:
                with file.open("rb", buffering=0) as stream:
                    for info, name in group:
                        read[name] = read_tensor(stream, info, dtype).to(device)
            except OSError as error:
                raise _unreadable(file, error) from error
        return {name: read[name] for name in wanted}

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
                raise _missing(self.folder, name)
        state: dict[str, Tensor] = model.state_dict()
        for name, tensor in state.items():
            check_finite(tensor, name, str(self.folder))
        return state


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def read_checkpoint(folder: Path) -> Checkpoint:
    """Open a model folder.

    Raises:
        ModelError: FYC-M01 no model there, FYC-M02 a shard or tensor is missing, FYC-M03 a damaged file,
            FYC-M05 a configuration that fyc does not support.
    """
    config = _read_config(folder)
    architecture = _architecture(folder, config)
    infos, files = _read_infos(folder)
    model = build_skeleton(config, architecture, config.dtype or torch.float32, str(folder))
    match = match_names(model, infos)
    tensors = _model_tensors(model, match, infos)
    _check_shapes(model, tensors, folder, match)
    if match.missing:
        raise _missing(folder, match.missing[0], len(match.missing))
    untied = match.renames_only and _stored_untied(model, match, infos)
    aliases = {} if untied else tied_aliases(model)
    kept = {name: info for name, info in tensors.items() if name not in aliases}
    return Checkpoint(
        folder, config, architecture, kept, files, match.renames_only, match.unused, match.computed, untied
    )


def build_skeleton(
    config: PreTrainedConfig, architecture: str, dtype: torch.dtype, where: str
) -> PreTrainedModel:
    """A model of this configuration on the meta device, in eval mode, with its tied weights tied.

    Parameters that transformers keeps in float32 (`_keep_in_fp32_modules`) are float32 here too.
    """
    cls: type[PreTrainedModel] = getattr(transformers, architecture)
    try:
        with torch.device("meta"):
            model = cls._from_config(copy.deepcopy(config), dtype=dtype)
    except Exception as error:
        raise _unsupported(
            where, f"transformers cannot build {architecture} from this configuration", f"{type(error).__name__}: {error}"
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


def _read_config(folder: Path) -> PreTrainedConfig:
    path = folder / "config.json"
    if not path.is_file():
        raise ModelError(
            "FYC-M01",
            "the folder holds no Hugging Face model: it has no config.json",
            where=str(folder),
            next="give a folder as `save_pretrained` writes it, a hub id, or a .gguf file",
        )
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(raw, dict):
            raise ValueError("it is not a JSON object")  # noqa: TRY004
    except (ValueError, RecursionError) as error:
        raise _unsupported(str(path), "config.json cannot be read", str(error)) from error
    _refuse_quantized(path, raw)
    try:
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        raise _unsupported(str(path), "transformers does not accept config.json", str(error)) from error


def _refuse_quantized(path: Path, raw: dict[str, Any]) -> None:
    quantization = raw.get("quantization_config")
    if not quantization:
        return
    method = quantization.get("quant_method", "unknown") if isinstance(quantization, dict) else "unknown"
    if method == "fyc":
        raise ModelError(
            "FYC-M05",
            "this is an fyc artifact, not a source model",
            where=str(path.parent),
            why="a converted model cannot be converted again",
            next="put all passes into one recipe and convert the original model",
        )
    raise ModelError(
        "FYC-M05",
        f"the checkpoint is already quantized (quant_method {method!r})",
        where=str(path),
        why="fyc converts floating-point weights",
        next="use the original checkpoint in float32, bfloat16 or float16",
    )


def _architecture(folder: Path, config: PreTrainedConfig) -> str:
    named = list(config.architectures or [])
    where = str(folder / "config.json")
    if len(named) != 1:
        raise _unsupported(
            where,
            "config.json does not name the model class",
            f"`architectures` is {named}, one name is needed",
            'add it, for example "architectures": ["LlamaForCausalLM"]',
        )
    cls = getattr(transformers, named[0], None)
    if not (isinstance(cls, type) and issubclass(cls, PreTrainedModel)):
        raise _unsupported(
            where,
            f"transformers {transformers.__version__} has no model class {named[0]}",
            "fyc never runs code that comes with a checkpoint",
            "use a model whose class is part of transformers, or another version of transformers",
        )
    return named[0]


def _read_infos(folder: Path) -> tuple[dict[str, TensorInfo], tuple[Path, ...]]:
    if (folder / INDEX).is_file():
        return _read_sharded(folder)
    single = folder / WEIGHTS
    if single.is_file():
        return read_header(single), (single,)
    pickled = sorted([*folder.glob("pytorch_model*.bin"), *folder.glob("*.pth"), *folder.glob("*.pt")])
    if pickled:
        raise ModelError(
            "FYC-M02",
            "the folder holds no safetensors",
            where=str(folder),
            why=f"{pickled[0].name} is a pickle, which can execute code when it is loaded; fyc does not read it",
            next="if you trust it, load the model with transformers and call `save_pretrained` on it",
        )
    loose = sorted(path.name for path in folder.glob("*.safetensors"))
    raise ModelError(
        "FYC-M02",
        f"neither {WEIGHTS} nor {INDEX} is there",
        where=str(folder),
        why=f"the folder does hold {loose[0]}: the index of its shards is missing" if loose else "",
        next="download the whole model again",
    )


def _read_sharded(folder: Path) -> tuple[dict[str, TensorInfo], tuple[Path, ...]]:
    index = folder / INDEX
    try:
        weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        pairs = sorted((str(file), str(name)) for name, file in weight_map.items())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _bad_index(index, f"it holds no weight map ({error})") from error
    infos: dict[str, TensorInfo] = {}
    files: list[Path] = []
    for label, group in groupby(pairs, key=lambda pair: pair[0]):
        if label != Path(label).name or label in ("", "..", ".") or "\\" in label or "\0" in label:
            raise _bad_index(index, f"{label!r} is not a plain file name")
        file = folder / label
        if not file.is_file():
            raise ModelError(
                "FYC-M02",
                f"the shard {label} is missing",
                where=str(folder),
                why=f"{INDEX} names it",
                next="download the whole model again",
            )
        header = read_header(file)
        files.append(file)
        for _, name in group:
            if name not in header:
                raise _missing(folder, name, file=label)
            infos[name] = header[name]
    return infos, tuple(files)


def _model_tensors(
    model: PreTrainedModel, match: NameMatch, infos: Mapping[str, TensorInfo]
) -> dict[str, TensorInfo]:
    if not match.renames_only:
        return {
            name: TensorInfo(Path(), name, tensor.dtype, tuple(tensor.shape), 0, tensor.nbytes)
            for name, tensor in model.state_dict().items()
            if name not in match.computed
        }
    found = {name: infos[stored] for name, stored in match.stored.items()}
    # A tied pair may be stored under either name; the model knows it under the canonical one.
    for name, canonical in tied_aliases(model).items():
        if name in found and canonical not in found:
            found[canonical] = found[name]
    return found


def _check_shapes(
    model: PreTrainedModel, tensors: Mapping[str, TensorInfo], folder: Path, match: NameMatch
) -> None:
    if not match.renames_only:
        return
    for name, expected in model.state_dict().items():
        if name in tensors and tensors[name].shape != tuple(expected.shape):
            info = tensors[name]
            raise _unsupported(
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
        raise _unsupported(
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


def _missing(folder: Path, name: str, count: int = 1, file: str = "") -> ModelError:
    others = f" and {count - 1} more" if count > 1 else ""
    return ModelError(
        "FYC-M02",
        f"tensor {name}{others} is missing",
        where=str(folder / file),
        why="the index names it but the shard does not hold it" if file else "the model needs it, no weight file has it",
        next="download the whole model again, or check `architectures` in config.json: a checkpoint saved without its "
        "head lacks the head's tensors",
    )


def _unreadable(file: Path, error: OSError) -> ModelError:
    return ModelError(
        "FYC-M03", f"{file.name} cannot be read", where=str(file), why=error.strerror or str(error)
    )


def _bad_index(index: Path, why: str) -> ModelError:
    return ModelError(
        "FYC-M03", f"{index.name} is damaged", where=str(index), why=why, next="download the whole model again"
    )


def _unsupported(where: str, what: str, why: str, next: str = "use a model that transformers itself loads") -> ModelError:
    return ModelError("FYC-M05", what, where=where, why=why, next=next)

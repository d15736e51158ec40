"""What a model folder holds: its configuration, its model class, and where its tensors lie."""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path
from typing import Any

import transformers
from transformers import AutoConfig, PreTrainedConfig, PreTrainedModel

from fyc.errors import ModelError
from fyc.models.safetensors_file import TensorInfo, read_header

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"


def read_config(folder: Path) -> PreTrainedConfig:
    """The configuration, without its choice of kernels; FYC-M01 if there is none, FYC-M05 if it cannot be used."""
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
        raise unsupported(str(path), "config.json cannot be read", str(error)) from error
    _refuse_quantized(path, raw)
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        raise unsupported(str(path), "transformers does not accept config.json", str(error)) from error
    # Either may name code on the hub, which transformers would download and import while it builds the model.
    config._attn_implementation = config._experts_implementation = None
    return config


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


def read_architecture(folder: Path, config: PreTrainedConfig) -> str:
    """The model class that config.json names; FYC-M05 if transformers has no such class."""
    named = list(config.architectures or [])
    where = str(folder / "config.json")
    if len(named) != 1:
        raise unsupported(
            where,
            "config.json does not name the model class",
            f"`architectures` is {named}, one name is needed",
            'add it, for example "architectures": ["LlamaForCausalLM"]',
        )
    cls = getattr(transformers, named[0], None)
    if not (isinstance(cls, type) and issubclass(cls, PreTrainedModel)):
        raise unsupported(
            where,
            f"transformers {transformers.__version__} has no model class {named[0]}",
            "fyc never runs code that comes with a checkpoint",
            "use a model whose class is part of transformers, or another version of transformers",
        )
    return str(named[0])


def read_infos(folder: Path) -> tuple[dict[str, TensorInfo], tuple[Path, ...]]:
    """Stored tensors by stored name, and the weight files; FYC-M02 if any is missing, FYC-M03 if one is damaged."""
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
                raise missing_tensor(folder, name, file=label)
            infos[name] = header[name]
    return infos, tuple(files)


def missing_tensor(folder: Path, name: str, count: int = 1, file: str = "") -> ModelError:
    """FYC-M02 for a tensor that a weight file should hold."""
    why = "the index names it, the shard does not hold it" if file else "the model needs it, no weight file has it"
    others = f" and {count - 1} more" if count > 1 else ""
    return ModelError(
        "FYC-M02",
        f"tensor {name}{others} is missing",
        where=str(folder / file),
        why=why,
        next="download the whole model again, or check `architectures` in config.json: a checkpoint saved without its "
        "head lacks the head's tensors",
    )


def _bad_index(index: Path, why: str) -> ModelError:
    return ModelError(
        "FYC-M03", f"{index.name} is damaged", where=str(index), why=why, next="download the whole model again"
    )


def unsupported(
    where: str, what: str, why: str, next: str = "use a model that transformers itself loads"
) -> ModelError:
    """FYC-M05 for a configuration that cannot be used."""
    return ModelError("FYC-M05", what, where=where, why=why, next=next)

"""A GGUF file: dequantized by transformers, then stored once as a plain folder in the cache."""

from __future__ import annotations

import contextlib
import copy
import importlib
import io
import logging
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fyc.cache import build_once, cache_dir, check_free, file_digest
from fyc.errors import ModelError, UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_log = logging.getLogger(__name__)

#: The model card and licence, where the folder holds nothing but a model: elsewhere they are those of a project.
BESIDE = ("README*", "LICENSE*", "LICENCE*", "NOTICE*")
_MODEL_FILES = ("*.gguf", "*.json", *BESIDE)


class GgufSource:
    """Converts `FILE.gguf` to a plain float32 folder, keyed by the file's SHA-256."""

    name = "gguf"
    priority = 30

    def accepts(self, source: str) -> bool:
        """Whether the name ends in .gguf."""
        return source.lower().endswith(".gguf")

    def open(self, source: str, *, revision: str | None, offline: bool) -> Path:
        """The plain folder; made at the first call.

        Raises:
            ModelError: FYC-M01 no such file, FYC-M03 damaged, FYC-M05 an architecture that transformers does not
                read from GGUF, FYC-M06 the extra `gguf` is missing.
        """
        del offline
        path = Path(source).expanduser()
        if revision is not None:
            raise UserError("FYC-R09", f"a GGUF file has no revision {revision!r}", where=source)
        if not path.is_file():
            raise ModelError("FYC-M01", "the GGUF file cannot be found", where=source, next="check the path")
        _require_gguf(source)
        _check_magic(path)
        target = cache_dir() / "gguf" / f"{path.stem}-{file_digest(path)[:16]}"
        return build_once(target, lambda folder: _convert(path, folder))


def _require_gguf(source: str) -> None:
    for package in ("gguf", "accelerate"):  # transformers reads GGUF only if accelerate is there
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise ModelError(
                "FYC-M06", f"reading a GGUF file needs the package {package}", where=source, why=str(error),
                next="pip install 'fyc[gguf]'",
            ) from error  # fmt: skip


def _check_magic(path: Path) -> None:
    with path.open("rb") as stream:
        magic = stream.read(4)
    if magic != b"GGUF":
        raise _damaged(path, f"it begins with {magic!r} instead of b'GGUF'")


def _convert(path: Path, folder: Path) -> None:
    check_free(folder, 4 * _count_values(path) + (64 << 20))
    model, tokenizer = _load(path)
    plain = _plain_copy(model, path)
    plain.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for file in card_and_licence(path):
        shutil.copyfile(file, folder / file.name)


def card_and_licence(path: Path) -> list[Path]:
    """Model card and licence files that belong to a GGUF file; none where the folder is more than a model's."""
    files = [file for file in path.parent.iterdir() if not file.name.startswith(".")]
    if not all(file.is_file() and any(file.match(pattern) for pattern in _MODEL_FILES) for file in files):
        return []
    return [file for file in files if any(file.match(pattern) for pattern in BESIDE)]


def _count_values(path: Path) -> int:
    """Number of weights; reads the whole table of tensors, so it finds a file that was cut off."""
    import gguf

    try:
        return sum(int(tensor.n_elements) for tensor in gguf.GGUFReader(path).tensors)
    except Exception as error:  # the reader raises whatever numpy raises on bytes that make no sense
        raise _damaged(path, f"{type(error).__name__}: {error}") from error


def _load(path: Path) -> tuple[PreTrainedModel, Any]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    noise = io.StringIO()  # a progress bar that transformers' own switch does not turn off
    try:
        with contextlib.redirect_stderr(noise):
            model, report = AutoModelForCausalLM.from_pretrained(
                path.parent, gguf_file=path.name, dtype=torch.float32, local_files_only=True,
                quantization_config=GgufConfig(dequantize=True), output_loading_info=True,
            )  # fmt: skip
            tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name, local_files_only=True)
    except MemoryError:
        raise
    except Exception as error:
        raise ModelError(
            "FYC-M05", "transformers cannot load this GGUF file", where=str(path),
            why=f"{type(error).__name__}: {error}", next="use the model's original safetensors checkpoint",
        ) from error  # fmt: skip
    _log.debug("transformers said: %s", noise.getvalue())
    if report["missing_keys"]:
        raise _incomplete(path, f"missing: {', '.join(sorted(report['missing_keys']))}")
    return model, tokenizer


def _plain_copy(model: PreTrainedModel, path: Path) -> PreTrainedModel:
    """The same weights in a model that transformers agrees to save: it refuses for one that came from GGUF."""
    import torch

    config = copy.deepcopy(model.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    with torch.device("meta"):
        plain: PreTrainedModel = type(model)._from_config(config, dtype=torch.float32)
    try:
        plain.load_state_dict(model.state_dict(), strict=True, assign=True)
    except RuntimeError as error:
        raise _incomplete(path, str(error)) from error
    plain.tie_weights()
    plain.generation_config = copy.deepcopy(model.generation_config)
    config.architectures = [type(model).__name__]
    return plain


def _incomplete(path: Path, why: str) -> ModelError:
    return ModelError(
        "FYC-M05", "the GGUF file does not hold all weights of the model", where=str(path), why=why,
        next="use the model's original safetensors checkpoint",
    )  # fmt: skip


def _damaged(path: Path, why: str) -> ModelError:
    return ModelError("FYC-M03", f"{path.name} is damaged", where=str(path), why=why, next="get the file again")

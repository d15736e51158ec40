"""Models on disk: open a checkpoint, build its skeleton, and give it weights piece by piece.

Example, for a model that does not fit in memory:

    checkpoint = open_checkpoint("path/to/model", sources=sources)
    model = skeleton(checkpoint)                        # meta device
    materialize(model, outer_paths(model, blocks), checkpoint)
    for path in blocks:
        materialize(model, [path], checkpoint)
        ...
        release(model, path)
"""

from fyc.models.checkpoint import Checkpoint, read_checkpoint
from fyc.models.memory import peak_memory_bytes, return_freed_memory, trim_heap
from fyc.models.names import tied_aliases
from fyc.models.plain import load_plain, load_tokenizer
from fyc.models.safetensors_file import TensorInfo, check_finite
from fyc.models.skeleton import materialize, outer_paths, release, skeleton
from fyc.models.source import ModelSource, open_checkpoint, open_folder
from fyc.models.text import read_text, special_tokens, windows

__all__ = [
    "Checkpoint",
    "ModelSource",
    "TensorInfo",
    "check_finite",
    "load_plain",
    "load_tokenizer",
    "materialize",
    "open_checkpoint",
    "open_folder",
    "outer_paths",
    "peak_memory_bytes",
    "read_checkpoint",
    "read_text",
    "release",
    "return_freed_memory",
    "skeleton",
    "special_tokens",
    "tied_aliases",
    "trim_heap",
    "windows",
]

"""The artifact: a folder of safetensors, graphs and a manifest with the hash of every file."""

from fyc.artifact.artifact import Artifact, diff, is_artifact, open_artifact
from fyc.artifact.figures import Figures, figures
from fyc.artifact.files import (
    StoredTensor,
    read_header,
    read_tensors,
    write_json,
    write_tensors,
    write_text,
)
from fyc.artifact.manifest import (
    BlockEntry,
    Guard,
    Manifest,
    ModuleEntry,
    PassEntry,
    Replacement,
    Sample,
    Source,
    is_file_name,
    is_module_path,
)

__all__ = [
    "Artifact",
    "BlockEntry",
    "Figures",
    "Guard",
    "Manifest",
    "ModuleEntry",
    "PassEntry",
    "Replacement",
    "Sample",
    "Source",
    "StoredTensor",
    "diff",
    "figures",
    "is_artifact",
    "is_file_name",
    "is_module_path",
    "open_artifact",
    "read_header",
    "read_tensors",
    "write_json",
    "write_tensors",
    "write_text",
]

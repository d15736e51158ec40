"""`fyc.load`: an artifact folder becomes a transformers model with its blocks bound."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from fyc.artifact import open_artifact
from fyc.errors import ArtifactError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def load(
    folder: str | Path, *, device: str | torch.device = "cpu", dtype: torch.dtype | None = None
) -> PreTrainedModel:
    """Load an artifact; every hash is checked first.

    Args:
        folder: what `fyc convert` wrote.
        device: where the weights go.
        dtype: floating-point type of what is not quantized; by default the type it was converted in.

    Returns:
        The transformers model in eval mode, its blocks running the stored graphs.

    Raises:
        ArtifactError: FYC-A01 to FYC-A07 when the folder is no artifact, damaged, hostile, or does not fit.
    """
    import transformers

    from fyc.loading.configuration import check_configuration
    from fyc.loading.quantizer import FycQuantizer, refusing

    artifact = open_artifact(folder)
    artifact.verify(weights=False)  # config.json decides what transformers does before it comes to fyc
    check_configuration(artifact)
    name = artifact.manifest.architecture
    cls = getattr(transformers, name, None)
    if not (isinstance(cls, type) and issubclass(cls, transformers.PreTrainedModel)):
        raise ArtifactError(
            "FYC-A07",
            f"the architecture {name!r} was refused",
            where=str(artifact.path),
            why="the installed transformers has no model class of this name",
        )
    wanted = dtype or getattr(torch, artifact.manifest.dtype)
    options: dict[str, Any] = {"dtype": wanted, "local_files_only": True, "trust_remote_code": False}
    loader: type[PreTrainedModel] = cls
    with refusing(artifact.path):
        model = loader.from_pretrained(str(artifact.path), **options)
    if not isinstance(getattr(model, "hf_quantizer", None), FycQuantizer):
        raise ArtifactError(
            "FYC-A07",
            "config.json was refused",
            where=str(artifact.path / "config.json"),
            why="it does not name fyc as the quantization method, so the graphs would be left out",
            next="convert the model again",
        )
    return model.to(torch.device(device)).eval()

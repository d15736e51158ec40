"""What an artifact's config.json may not say: transformers acts on it before fyc sees the model."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from fyc.artifact import Artifact
from fyc.errors import ArtifactError

NAME = "config.json"
#: Keys that choose code: for `organization/name` transformers downloads a kernel from the hub and imports it.
_CODE = re.compile(r"(attn|experts)_implementation(_internal)?$")
#: Keys that say how many modules, or items of a list, are made.
_COUNT = re.compile(r"(layers?|blocks?|groups?|experts|depths?)$")
_COUNT_ALWAYS = 1024


def check_configuration(artifact: Artifact) -> None:
    """Refuse a config.json that would load code, or build more layers than there are tensors.

    Raises:
        ArtifactError: FYC-A03 when there is none; FYC-A07.
    """
    path = artifact.path / NAME
    try:
        data = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise ArtifactError("FYC-A03", "a file of the artifact is missing", where=str(path)) from error
    except (ValueError, RecursionError) as error:
        raise _refused(artifact, f"it is not valid JSON: {error}") from error
    most = max(_COUNT_ALWAYS, len(artifact.tensors()))
    for key, value in _pairs(data):
        if _CODE.search(key) and value is not None:
            raise _refused(artifact, f"{key!r:.80} can make transformers load code")
        if _COUNT.search(key) and isinstance(value, int) and value > most:
            raise _refused(artifact, f"{key!r:.80} is {value}, more than there are tensors")


def _pairs(data: Any) -> Iterator[tuple[str, Any]]:
    """Every key with its value, at any depth."""
    waiting = [data]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            yield from item.items()
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)


def _refused(artifact: Artifact, why: str) -> ArtifactError:
    return ArtifactError(
        "FYC-A07",
        "config.json was refused",
        where=str(artifact.path / NAME),
        why=why,
        next="get the artifact again from where it was made",
    )

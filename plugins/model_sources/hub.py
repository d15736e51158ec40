"""A model on the Hugging Face hub, or in the local cache of it."""

from __future__ import annotations

import re
from pathlib import Path

from fyc.cache import disk_error, is_offline
from fyc.errors import ModelError

_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
#: Safetensors at the top of the repository, the configuration and tokenizer, the model card and licence.
WANTED = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", "*.md", "LICEN[CS]E*", "NOTICE*"]


class HubSource:
    """Downloads a snapshot through huggingface_hub; offline, takes it from the local cache."""

    name = "hub"
    priority = 10

    def accepts(self, source: str) -> bool:
        """Whether it has the form of a hub id: NAME or OWNER/NAME."""
        return _ID.fullmatch(source) is not None

    def open(self, source: str, *, revision: str | None, offline: bool) -> Path:
        """The snapshot folder.

        Raises:
            ModelError: FYC-M01 if the model cannot be had.
        """
        from huggingface_hub import snapshot_download

        offline = is_offline(offline)
        try:
            folder = snapshot_download(
                source,
                revision=revision,
                local_files_only=offline,
                allow_patterns=WANTED,
                ignore_patterns=["*/*"],
            )
        except Exception as error:
            if isinstance(error, OSError) and error.errno is not None and not isinstance(error, ConnectionError):
                raise disk_error(error, Path("~/.cache/huggingface").expanduser()) from error
            raise _not_found(source, revision, offline, error) from error
        return Path(folder)


def _not_found(source: str, revision: str | None, offline: bool, error: Exception) -> ModelError:
    name = source if revision is None else f"{source} at revision {revision}"
    if offline:
        why = "the network is switched off (--offline or HF_HUB_OFFLINE) and the local cache does not hold it"
        step = "run once with the network, or download the model elsewhere and give its folder"
    else:
        kind = type(error).__name__
        reasons = {
            "RepositoryNotFoundError": "the hub has no such model, or it is private",
            "GatedRepoError": "the model is gated, and you have not been given access",
            "RevisionNotFoundError": "the model has no such revision",
        }
        why = reasons.get(kind, f"{kind}: {str(error).splitlines()[0] if str(error) else 'no reason given'}")
        step = "check the name, log in with `hf auth login` for private or gated models, or give a folder"
    return ModelError("FYC-M01", f"the model {name} cannot be found", where="Hugging Face hub", why=why, next=step)

"""A folder on this machine, as `save_pretrained` writes it."""

from __future__ import annotations

import os
from pathlib import Path

from fyc.errors import ModelError, UserError


class FolderSource:
    """Opens an existing folder, and says so when something that looks like a path does not exist."""

    name = "folder"
    priority = 20

    def accepts(self, source: str) -> bool:
        """Whether it is a folder or file, or can only be meant as a path."""
        looks_like_path = source.startswith((".", "/", "~", os.sep)) or source.count("/") > 1 or "\\" in source
        return looks_like_path or not source or Path(source).expanduser().exists()

    def open(self, source: str, *, revision: str | None, offline: bool) -> Path:
        """The folder itself."""
        del offline
        folder = Path(source).expanduser()
        if revision is not None:
            raise UserError(
                "FYC-R09", f"a folder has no revision {revision!r}", where=str(folder),
                next="leave `revision` out, or give a hub id",
            )  # fmt: skip
        if not source or not folder.is_dir():
            why = "it is a file" if folder.is_file() else "it does not exist"
            raise ModelError(
                "FYC-M01", "the model folder cannot be found", where=source, why=why,
                next="give a folder with config.json and safetensors, a .gguf file, or a hub id",
            )  # fmt: skip
        return folder

"""A demo model by name: `asset:smollm2-135m` is fetched, then opened like the file it is."""

from __future__ import annotations

from pathlib import Path

from fyc_plugins.model_sources.gguf import GgufSource

from fyc.assets import fetch, find
from fyc.errors import ModelError, UserError

PREFIX = "asset:"


class AssetSource:
    """Opens `asset:NAME`; see `fyc assets list`."""

    name = "asset"
    priority = 40

    def accepts(self, source: str) -> bool:
        """Whether it begins with `asset:`."""
        return source.startswith(PREFIX)

    def open(self, source: str, *, revision: str | None, offline: bool) -> Path:
        """The plain folder of the model.

        Raises:
            UserError: FYC-D01 for an unknown name, FYC-R09 if a revision is given.
            AssetError: FYC-D02 or FYC-D03 if it cannot be fetched.
            ModelError: FYC-M01 if the asset is a text.
        """
        asset = find(source.removeprefix(PREFIX))
        if revision is not None:
            raise UserError("FYC-R09", f"an asset has no revision {revision!r}", where=source)
        if asset.kind != "model":
            raise ModelError(
                "FYC-M01", f"the asset {asset.name} is a {asset.kind}, not a model", where=source,
                next="`fyc assets list` shows which assets are models",
            )  # fmt: skip
        return GgufSource().open(str(fetch(asset.name, offline=offline)), revision=None, offline=offline)

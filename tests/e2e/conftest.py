"""The demo model and texts, fetched at the first test that needs them."""

from __future__ import annotations

from pathlib import Path

import pytest

from fyc.assets import fetch
from fyc.models import open_folder
from fyc.plugins import load_plugins


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """SmolLM2-135M-Instruct as a plain folder. The texts of the shipped recipes are in the cache, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("HF_HUB_OFFLINE", raising=False)
        fetch("wikipedia-calibration")
        return open_folder(str(fetch("smollm2-135m")), sources=load_plugins().sources)

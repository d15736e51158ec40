from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import toys
from torch import nn

from fyc.engine import convert
from fyc.engine.live import LiveModel
from fyc.passes import Block

pytestmark = pytest.mark.usefixtures("traced_once")


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Only counting of references frees: what lies in a circle stays."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
def test_a_block_is_freed_before_the_next_one_is_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: list[weakref.ref[nn.Module]] = []
    load = LiveModel.block

    def block(self: LiveModel, *arguments: Any) -> Block:
        assert [type(module).__name__ for ref in loaded if (module := ref()) is not None] == []
        made = load(self, *arguments)
        loaded.extend(weakref.ref(module) for module in made.module.modules())
        return made

    monkeypatch.setattr(LiveModel, "block", block)
    convert(toys.toy_plan(toys.model(), tmp_path / "out", "toy-round", "toy-rows"))
    assert len(loaded) > 9 * 10

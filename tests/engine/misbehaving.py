"""A pass that does what a test wants, and the error it ends with."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import toys
from torch import nn

import fyc
from fyc.engine import convert
from fyc.errors import FycError
from fyc.passes import Block, ModuleReport, PassResult


class Doing(fyc.Pass[fyc.PassOptions]):
    """Does what a test wants at the second block, and rounds nothing."""

    name = "toy-doing"
    summary = "does anything"
    modules = (toys.RowInt8,)
    act: Callable[[Block, Any], Any] = staticmethod(lambda block, ctx: PassResult())

    def targets(self, model: Any) -> dict[str, int]:
        return dict.fromkeys(model.graph.blocks, 1)

    def run(self, block: Block, ctx: Any) -> Any:
        result = type(self).act(block, ctx) if block.index == 1 else PassResult()
        return result if result is not None else PassResult([ModuleReport(block.path, "done")])


def doing(act: Callable[[Block, Any], Any], **attributes: Any) -> type[Doing]:
    return type("Doing", (Doing,), {"act": staticmethod(act), **attributes})


def failing(cls: type[fyc.Pass[Any]], output: Path, use: str = "toy-doing", **options: Any) -> FycError:
    with pytest.raises(FycError) as caught:
        convert(toys.toy_plan(toys.model(), output, use, host=toys.toy_host(cls), **options))
    assert not output.exists()
    assert pickle.loads(pickle.dumps(caught.value)).code == caught.value.code
    return caught.value


def down(block: Block) -> nn.Linear:
    module = block.module.get_submodule("mlp.down_proj")
    assert isinstance(module, nn.Linear)
    return module


def call_missing(block: Block, ctx: Any) -> None:
    next(node for node in block.graph.graph.nodes if node.op == "call_module").target = "mlp.nothing"

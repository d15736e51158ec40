"""What a pass is given: surveys, gradients, observation, branches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import toys
from misbehaving import Doing, doing, down, failing

from fyc.engine import convert
from fyc.errors import ModelError
from fyc.passes import Block, PassResult, Survey

pytestmark = pytest.mark.usefixtures("traced_once")


def test_surveys_may_share_memory_and_be_views(tmp_path: Path) -> None:
    """What a pass gathers is stored as it is; it need not know about safetensors."""
    seen: list[Any] = []

    class Viewing(Doing):
        def survey(self, block: Block, ctx: Any) -> Survey:
            whole = torch.arange(12.0).reshape(3, 4)
            return Survey({}, {"a": whole[1:], "b": whole[:, 1], "c": whole})

        def run(self, block: Block, ctx: Any) -> PassResult:
            seen.append(ctx.survey_of(block).tensors)
            return PassResult()

    convert(toys.toy_plan(toys.model(), tmp_path / "out", "toy-doing", host=toys.toy_host(Viewing)))
    whole = torch.arange(12.0).reshape(3, 4)
    for tensors in seen:
        torch.testing.assert_close(tensors, {"a": whole[1:], "b": whole[:, 1].contiguous(), "c": whole})


def test_gradients_work_in_a_pass(tmp_path: Path) -> None:
    """The loop over calibration batches does not switch gradients off for the code in it."""
    losses: list[float] = []

    def learn(block: Block, ctx: Any) -> None:
        weight = down(block).weight.requires_grad_(True)
        for args, kwargs in ctx.batches():
            assert torch.is_grad_enabled()
            output = block.graph.run(block.module, args, kwargs)
            loss = (output[0] if isinstance(output, tuple) else output).square().mean()
            losses.append(float(loss.detach()))
            loss.backward()
        assert weight.grad is not None
        assert float(weight.grad.abs().sum()) > 0

    cls = doing(learn)
    convert(toys.toy_plan(toys.model(), tmp_path / "out", "toy-doing", host=toys.toy_host(cls)))
    assert len(losses) == 4


def test_observe_and_branch_refuse_wrong_use(tmp_path: Path) -> None:
    error = failing(doing(lambda block, ctx: ctx.observe(block, {"nothing": print})), tmp_path / "out")
    assert error.code == "FYC-X01"
    assert "'nothing'" in str(error)
    error = failing(doing(lambda block, ctx: ctx.branch("x", block)), tmp_path / "b")
    assert "opened a branch where it may not" in str(error)
    error = failing(doing(lambda block, ctx: ctx.survey_of(block)), tmp_path / "c")
    assert "survey it did not make" in str(error)


def test_an_observed_value_that_is_not_finite(tmp_path: Path) -> None:
    """FYC-M04 names block and node."""

    def act(block: Block, ctx: Any) -> None:
        block.module.input_layernorm.weight.data.fill_(3e38)
        name = next(node.name for node in block.graph.graph.nodes if node.target == "mlp.down_proj")
        ctx.observe(block, {name: lambda value: None})

    error = failing(doing(act), tmp_path / "out")
    assert isinstance(error, ModelError)
    assert error.code == "FYC-M04"
    assert error.where.startswith("model.layers.1: ")

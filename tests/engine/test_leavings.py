"""A pass that leaves what loading could not rebuild is an error that names it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import toys
from misbehaving import Doing, call_missing, doing, down, failing
from torch import nn

import fyc
from fyc.engine import convert
from fyc.errors import PassError
from fyc.passes import Block, FycModule, ModuleReport, PassResult

pytestmark = pytest.mark.usefixtures("traced_once")


class NoConfig(FycModule):
    def forward(self, x: Any) -> Any:
        return x


class Volatile(toys.RowInt8):
    """Keeps a buffer that is not stored."""

    def __init__(self, inputs: int, outputs: int, bias: bool) -> None:
        super().__init__(inputs, outputs, bias)
        self.register_buffer("table", torch.arange(4.0), persistent=False)


class Linear(nn.Linear):
    """Another class with the name of torch's."""


class Resized(toys.RowInt8):
    """Says something wrong about itself."""

    def config(self) -> dict[str, Any]:
        return super().config() | {"inputs": 47}


class Flags(toys.RowInt8):
    """Another type than the constructor makes, or one that nothing loads."""

    def __init__(self, inputs: int, outputs: int, bias: bool, kind: str = "int8") -> None:
        super().__init__(inputs, outputs, bias)
        if kind != "int8":
            self.codes = self.codes.to(getattr(torch, kind))

    def config(self) -> dict[str, Any]:
        return super().config() | ({"kind": "uint16"} if self.codes.dtype == torch.uint16 else {})

    @classmethod
    def holding(cls, dtype: torch.dtype) -> Callable[[nn.Linear], nn.Module]:
        def make(linear: nn.Linear) -> nn.Module:
            made = cls.of(linear)
            made.codes = made.codes.to(dtype)
            return made

        return make


class Forgetful(toys.RowInt8):
    """Drops a buffer that its constructor makes."""

    @classmethod
    def of(cls, linear: Any) -> Any:
        made = super().of(linear)
        made.scale = None
        return made


def fill(value: float) -> Callable[[Block, Any], None]:
    def act(block: Block, ctx: Any) -> None:
        down(block).weight.data[3, 5] = value

    return act


def put(module: Callable[[nn.Linear], nn.Module]) -> Callable[[Block, Any], None]:
    def act(block: Block, ctx: Any) -> None:
        block.module.mlp.down_proj = module(down(block))

    return act


def call_unknown(block: Block, ctx: Any) -> None:
    graph = block.graph.graph
    output = next(node for node in graph.nodes if node.op == "output")
    with graph.inserting_before(output):
        output.args = (graph.call_function(_double, (output.args[0],)),)


def _double(x: Any) -> Any:
    return x * 2


def set_attribute(name: str, value: Any) -> Callable[[Block, Any], None]:
    def act(block: Block, ctx: Any) -> None:
        setattr(block.module.input_layernorm, name, value)

    return act


LEFT: dict[str, tuple[Callable[[Block, Any], Any], str]] = {
    "a foreign module": (put(lambda old: nn.Identity()), "Identity"),
    "a module of another library with a known name": (
        put(lambda old: Linear(48, 32, bias=False)), "left a Linear that cannot be loaded again",
    ),
    "a sequence": (put(nn.Sequential), "Sequential"),
    "a parametrized module": (
        lambda block, ctx: nn.utils.parametrizations.weight_norm(down(block)) and None, "Parametrized"
    ),
    "a module that it does not list": (put(lambda old: NoConfigListed()), "does not list"),
    "a buffer that is not stored": (put(Volatile.of), "a buffer that is not stored"),
    "a removed module": (lambda block, ctx: delattr(block.module, "input_layernorm"), "input_layernorm"),
    "a module set to None": (lambda block, ctx: setattr(block.module.mlp, "act_fn", None), "act_fn"),
    "another shape": (
        lambda block, ctx: setattr(down(block), "weight", nn.Parameter(torch.zeros(32, 47))), "float32 [32, 47]"
    ),
    "another type": (
        lambda block, ctx: setattr(down(block), "weight", nn.Parameter(down(block).weight.half())), "float16"
    ),
    "integers in a float's place": (
        lambda block, ctx: setattr(
            down(block), "weight", nn.Parameter(down(block).weight.detach().to(torch.int8), requires_grad=False)
        ),
        "int8",
    ),
    "a tensor that is gone": (lambda block, ctx: setattr(down(block), "weight", None), "without one of its tensors"),
    "a new tensor": (
        lambda block, ctx: down(block).register_buffer("scale", torch.ones(3)), "new tensor in a module"
    ),
    "a new bias": (lambda block, ctx: setattr(down(block), "bias", nn.Parameter(torch.ones(32))), "new tensor"),
    "NaN": (fill(float("nan")), "NaN or infinity"),
    "infinity": (fill(float("-inf")), "NaN or infinity"),
    "a module without config": (put(lambda old: NoConfig()), "must define config()"),
    "a config of another size": (put(Resized.of), "codes would have the shape [32, 47] instead of [32, 48]"),
    "a buffer of another type": (
        put(Flags.holding(torch.bool)), "left a Flags that its config() builds otherwise",
    ),
    "a buffer of a type that its message names": (
        put(Flags.holding(torch.uint8)), "codes would be int8 instead of uint8",
    ),
    "a float for an integer": (put(Flags.holding(torch.float16)), "codes would be int8 instead of float16"),
    "a buffer of a type that is not loaded": (put(Flags.holding(torch.uint16)), "codes is uint16, a type that"),
    "a buffer that is gone": (put(Forgetful.of), "the constructor makes scale, and it is gone"),
    "no values": (lambda block, ctx: down(block).to("meta") and None, "cannot be stored"),
    "a changed attribute": (set_attribute("variance_epsilon", 0.5), "`variance_epsilon` is 0.5 instead of 1e-06"),
    "a new attribute": (set_attribute("temperature", 2.0), "`temperature`"),
    "a patched forward": (lambda block, ctx: setattr(down(block), "forward", lambda x: x), "patched `forward`"),
    "a hook": (
        lambda block, ctx: down(block).register_forward_hook(lambda *args: None) and None, "a hook on a module"
    ),
    "a function fyc does not know": (call_unknown, "not on the list of functions"),
    "a module the block has not": (call_missing, "mlp.nothing"),
    "a report on nothing": (lambda block, ctx: PassResult([ModuleReport("no path!", "x")]), "'no path!'"),
    "a report that is not JSON": (
        lambda block, ctx: PassResult([ModuleReport(block.path, "x", details={"a": torch.ones(1)})]), "not JSON"
    ),
    "a detail that is NaN": (
        lambda block, ctx: PassResult([ModuleReport(block.path, "x", details={"a": [1, {"b": float("nan")}]})]),
        "report of 'model.layers.1'.details.a[1].b is nan, and only finite numbers",
    ),
    "a metric that is NaN": (lambda block, ctx: PassResult([], {"loss": float("nan")}), "metrics.loss is nan"),
    "a metric that is a tensor": (
        lambda block, ctx: PassResult([], {"loss": torch.ones(1)}), "metrics.loss is a Tensor, which is not JSON"
    ),
    "a report on a module that is not there": (
        lambda block, ctx: PassResult([ModuleReport(f"{block.path}.mlp.nothing", "x")]),
        "there is no 'model.layers.1.mlp.nothing' in this block",
    ),
    "a report whose path starts at the block": (
        lambda block, ctx: PassResult([ModuleReport("mlp.up_proj", "x")]),
        "paths start at the model: 'model.layers.1.mlp.up_proj'",
    ),
    "a report on another block": (
        lambda block, ctx: PassResult([ModuleReport("model.layers.0.mlp", "x")]),
        "there is no 'model.layers.0.mlp' in this block",
    ),
    "a replaced module without a report": (
        lambda block, ctx: put(toys.RowInt8.of)(block, ctx)
        or PassResult([ModuleReport(f"{block.path}.self_attn", "x")]),
        "left a module that it replaced without a report",
    ),
    "a metric that is text": (lambda block, ctx: PassResult([], {"loss": "low"}), "a metric that is no number"),
}  # fmt: skip


class NoConfigListed(NoConfig):
    def config(self) -> dict[str, Any]:
        return {}


@pytest.mark.parametrize(("act", "message"), LEFT.values(), ids=LEFT)
def test_what_a_pass_may_not_leave(act: Callable[[Block, Any], Any], message: str, tmp_path: Path) -> None:
    """Every one of these would be lost, or break, when the artifact is loaded."""
    error = failing(doing(act, modules=(toys.RowInt8, Volatile, Resized, NoConfig, Flags, Forgetful)), tmp_path / "out")
    assert isinstance(error, PassError)
    assert (error.code, error.exit_code) == ("FYC-X03", 4)
    assert message in str(error)
    assert "toy-doing" in error.what
    assert "model.layers.1" in error.where
    if "report" in error.next:
        assert error.next.startswith("if this is your pass, ")


def test_the_advice_names_the_class_to_list(tmp_path: Path) -> None:
    error = failing(doing(put(lambda old: NoConfigListed())), tmp_path / "out")
    assert "add NoConfigListed to its `modules`" in error.next


def test_a_module_that_was_added_needs_no_report(tmp_path: Path) -> None:
    """What the source model does not have is a helper of what was replaced."""

    def act(block: Block, ctx: Any) -> PassResult:
        block.module.mlp.add_module("beside", toys.RowInt8.of(down(block)))
        return put(toys.RowInt8.of)(block, ctx) or PassResult([ModuleReport(f"{block.path}.mlp.down_proj", "int8")])

    cls = doing(act)
    made = convert(toys.toy_plan(toys.model(), tmp_path / "out", "toy-doing", host=toys.toy_host(cls)))
    assert [entry.path for entry in made.manifest.modules] == ["model.layers.1.mlp.down_proj"]


def test_a_pass_that_changes_nothing_is_fine(tmp_path: Path) -> None:
    cls = doing(lambda block, ctx: None)
    made = convert(toys.toy_plan(toys.model(), tmp_path / "out", "toy-doing", host=toys.toy_host(cls)))
    fyc.load(made.path)


class Defaulting(FycModule):
    """A scale whose constructor names no type, as authors write it."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(size))
        self.weight = nn.Parameter(torch.ones(size))

    def config(self) -> dict[str, Any]:
        return {"size": self.scale.shape[0]}

    def forward(self, x: Any) -> Any:
        return x * self.weight * self.scale.to(x.dtype)


def test_tensors_of_a_pass_keep_the_type_they_were_stored_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A float32 scale in a bfloat16 model stays float32 although transformers builds the module in bfloat16."""

    class Scaling(Doing):
        name = "toy-scaling"
        modules = (Defaulting,)

        def run(self, block: Block, ctx: Any) -> PassResult:
            made = Defaulting(32)
            made.scale = torch.full((32,), 1.001)
            made.weight = nn.Parameter(block.module.input_layernorm.weight.detach().clone())
            block.module.input_layernorm = made
            return PassResult([ModuleReport(f"{block.path}.input_layernorm", "scaled")])

    host = toys.toy_host(Scaling)
    text = toys.recipe_text(toys.model(), "toy-scaling").replace("model: {", "model: {dtype: bfloat16, ")
    plan = fyc.engine.prepare(fyc.recipe.parse_recipe(text), host=host, output=tmp_path / "out")
    made = convert(plan)
    monkeypatch.setattr("fyc.loading.quantizer.load_plugins", lambda: host)
    loaded = fyc.load(made.path).model.layers[0].input_layernorm
    assert (loaded.scale.dtype, loaded.weight.dtype) == (torch.float32, torch.bfloat16)
    assert torch.equal(loaded.scale, torch.full((32,), 1.001))
    shorter = fyc.load(made.path, dtype=torch.float16).model.layers[0].input_layernorm
    assert (shorter.scale.dtype, shorter.weight.dtype) == (torch.float32, torch.float16)

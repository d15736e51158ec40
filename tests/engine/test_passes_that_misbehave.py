"""A pass that raises, returns nonsense, or leaves what loading could not rebuild is an error that names it."""

from __future__ import annotations

import dataclasses
import inspect
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pluggy
import pytest
import torch
import toys
from torch import nn

import fyc
from fyc import hookspecs
from fyc.engine import convert, prepare
from fyc.engine.workspace import work_folder
from fyc.errors import FycError, ModelError, PassError, PluginError
from fyc.passes import Block, FycModule, ModuleReport, PassResult, Survey
from fyc.plugins import PluginHost
from fyc.recipe import parse_recipe
from fyc.ui.events import Event

pytestmark = pytest.mark.usefixtures("traced_once")


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


def call_missing(block: Block, ctx: Any) -> None:
    next(node for node in block.graph.graph.nodes if node.op == "call_module").target = "mlp.nothing"


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


PLANNED: dict[str, tuple[str, Any, str, str]] = {
    "targets in floats": ("targets", {"model.layers.0": 3.5}, "its targets", "'model.layers.0' are 3.5"),
    "targets below nothing": ("targets", {"model.layers.0": -1}, "its targets", "'model.layers.0' are -1"),
    "targets in bools": ("targets", {"model.layers.0": True}, "its targets", "'model.layers.0' are True"),
    "a target that is not there": ("targets", {"mlp.up_proj": 1}, "its targets", "no module 'mlp.up_proj'"),
    "a target that is not selected": ("targets", {"model.layers.2": 1}, "its targets", "not selected"),
    "a list of targets": ("targets", ["model.layers.0"], "its targets", "ValueError"),
    "a text as findings": ("check", "too small", "its check", "it returned str instead of a sequence of fyc.Finding"),
    "texts as findings": ("check", ["too small"], "its check", "it returned 'too small', which is no fyc.Finding"),
    "no findings": ("check", None, "its check", "it returned NoneType instead"),
    "a finding of no level": ("check", [fyc.Finding("bad", "x")], "its check", "level 'bad'"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize(("step", "value", "where", "why"), PLANNED.values(), ids=PLANNED)
def test_what_targets_and_check_may_not_return(step: str, value: Any, where: str, why: str, tmp_path: Path) -> None:
    cls = type("Planning", (Doing,), {step: lambda self, model: value})
    use = "{use: toy-doing, exclude: [model.layers.2]}" if step == "targets" else "toy-doing"
    with pytest.raises(PassError) as caught:
        toys.toy_plan(toys.model(), tmp_path / "out", use, host=toys.toy_host(cls))
    assert (caught.value.code, caught.value.where) == ("FYC-X01", where)
    assert "toy-doing" in caught.value.what
    assert why in caught.value.why


def test_a_pass_with_nothing_to_do_says_why_in_its_own_words(tmp_path: Path) -> None:
    class Picky(Doing):
        def targets(self, model: Any) -> dict[str, int]:
            return {}

        def check(self, model: Any) -> list[fyc.Finding]:
            info = fyc.Finding("info", "4 groups")
            return [info, *(fyc.Finding("warning", "48 inputs do not fit", path) for path in "abcde")]

    with pytest.raises(FycError) as caught:
        toys.toy_plan(toys.model(), tmp_path / "out", "toy-doing", host=toys.toy_host(Picky))
    assert caught.value.code == "FYC-R04"
    said = "48 inputs do not fit (a); 48 inputs do not fit (b); 48 inputs do not fit (c); 2 more"
    assert caught.value.why == f"no module that it handles is selected; {said}"


def test_a_pass_that_changes_nothing_is_fine(tmp_path: Path) -> None:
    cls = doing(lambda block, ctx: None)
    made = convert(toys.toy_plan(toys.model(), tmp_path / "out", "toy-doing", host=toys.toy_host(cls)))
    fyc.load(made.path)


def raising(error: Exception) -> Callable[..., Any]:
    def act(*args: Any) -> Any:
        raise error

    return act


RETURNS = {"None": None, "a list": [ModuleReport("model.layers.1", "x")], "text": "done"}


REPORTS: dict[str, tuple[dict[str, Any], str]] = {
    "text": ({"modules": ["x"]}, "it reports 'x', which is no fyc.ModuleReport"),
    "no list": ({"modules": None}, "TypeError"),
    "no metrics": ({"metrics": None}, "TypeError"),
    "no details": ({"modules": [ModuleReport("model.layers.1", "x", details=None)]}, "TypeError"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize(("fields", "why"), REPORTS.values(), ids=REPORTS)
def test_a_result_without_reports(fields: dict[str, Any], why: str, tmp_path: Path) -> None:
    error = failing(doing(lambda block, ctx: PassResult(**fields)), tmp_path / "out")
    assert (error.code, error.where) == ("FYC-X01", "model.layers.1")
    assert why in error.why


@pytest.mark.parametrize("value", RETURNS.values(), ids=RETURNS)
def test_a_run_that_returns_no_result(value: Any, tmp_path: Path) -> None:
    class Returning(Doing):
        def run(self, block: Block, ctx: Any) -> Any:
            return value

    error = failing(Returning, tmp_path / "out")
    assert error.code == "FYC-X01"
    assert f"it returned {type(value).__name__} instead of PassResult" in error.why


RAISED = [ValueError("no"), KeyError("x"), RuntimeError("shape"), FileNotFoundError("f"), AssertionError()]


@pytest.mark.parametrize("raised", RAISED, ids=lambda error: type(error).__name__)
def test_a_pass_that_raises_names_pass_and_block(raised: Exception, tmp_path: Path) -> None:
    error = failing(doing(raising(raised)), tmp_path / "out")
    assert isinstance(error, PassError)
    assert (error.code, error.exit_code) == ("FYC-X01", 4)
    assert "toy-doing" in error.what
    assert error.where == "model.layers.1"
    assert type(raised).__name__ in error.why
    assert "--resume" in error.next
    assert error.__cause__ is raised


class Steps(Doing):
    """Fails in one of its steps."""

    where = ""

    def __init__(self, options: Any) -> None:
        super().__init__(options)
        self.fail("constructor")

    def fail(self, step: str) -> None:
        if step == type(self).where:
            raise ValueError(f"in {step}")

    def survey(self, block: Block, ctx: Any) -> Survey:
        self.fail("survey")
        return Survey({"a": 1})

    def plan(self, surveys: Any, ctx: Any) -> Any:
        self.fail("plan")
        return {}

    def run_outer(self, outer: Any, ctx: Any) -> Any:
        self.fail("run_outer")
        return PassResult()

    def summarize(self, metrics: Any) -> dict[str, float]:
        self.fail("summarize")
        return super().summarize(metrics)

    def check(self, model: Any) -> Any:
        self.fail("check")
        return ()

    def targets(self, model: Any) -> Any:
        self.fail("targets")
        return super().targets(model)

    def surveys(self) -> bool:
        self.fail("surveys")
        return super().surveys()

    def branch_windows(self) -> int:
        self.fail("branch_windows")
        return super().branch_windows()


PLACES = {
    "constructor": "recipe:5:5", "targets": "its targets", "surveys": "whether it surveys",
    "branch_windows": "its branch windows",
    "survey": "model.layers.0", "plan": "its plan over all blocks", "run_outer": "the model outside its blocks",
    "summarize": "its metrics", "check": "its check",
}  # fmt: skip


@pytest.mark.parametrize("step", PLACES)
def test_every_step_of_a_pass_is_guarded(step: str, tmp_path: Path) -> None:
    error = failing(type("Steps", (Steps,), {"where": step}), tmp_path / "out")
    assert error.code == "FYC-X01"
    assert error.where == PLACES[step]
    assert error.why == f"ValueError: in {step}"


class Strange(Doing):
    """Returns what cannot be stored from survey or plan."""

    surveyed: Any = Survey()
    planned: Any = None

    def survey(self, block: Block, ctx: Any) -> Any:
        return type(self).surveyed

    def plan(self, surveys: Any, ctx: Any) -> Any:
        return type(self).planned or {}


STRANGE = {
    "a survey that is none": {"surveyed": {"a": 1}},
    "values that are not JSON": {"surveyed": Survey({"a": torch.ones(1)})},
    "values that are NaN": {"surveyed": Survey({"a": float("nan")})},
    "a plan that is none": {"planned": [1]},
    "a plan that is not JSON": {"planned": {"a": {1, 2}}},
    "a plan with NaN": {"planned": {"a": float("inf")}},
}


@pytest.mark.parametrize("attributes", STRANGE.values(), ids=STRANGE)
def test_what_survey_and_plan_may_not_return(attributes: dict[str, Any], tmp_path: Path) -> None:
    error = failing(type("Strange", (Strange,), attributes), tmp_path / "out")
    assert error.code == "FYC-X01"
    data = attributes.get("planned") or getattr(attributes["surveyed"], "values", None)
    if isinstance(data, dict) and "a" in data:
        assert ".a is " in error.why


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


class Witness:
    """A plugin that implements every hook of a run."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    @fyc.hookimpl
    def fyc_before_pass(self, pass_: Any, block: Any, ctx: Any) -> None:
        self.calls.append(("before", pass_.name, block.path, len(list(ctx.batches()))))

    @fyc.hookimpl
    def fyc_after_pass(self, pass_: Any, block: Any, result: Any, ctx: Any) -> None:
        self.calls.append(("after", pass_.name, block.path, len(result.modules)))

    @fyc.hookimpl
    def fyc_on_pass_error(self, pass_: Any, block: Any, error: Any, ctx: Any) -> None:
        self.calls.append(("error", pass_.name, block.path, str(error)))

    @fyc.hookimpl
    def fyc_artifact_written(self, artifact: Any) -> None:
        self.calls.append(("written", artifact.path, (artifact.path / "fyc.json").is_file()))


def host_with(plugin: object) -> PluginHost:
    manager = pluggy.PluginManager("fyc")
    manager.add_hookspecs(hookspecs)
    manager.register(plugin, "witness")
    return dataclasses.replace(toys.toy_host(), hook=manager.hook)


def witnessed(output: Path, use: str) -> list[tuple[Any, ...]]:
    witness = Witness()
    plan = toys.toy_plan(toys.model(), output, use, host=host_with(witness))
    try:
        convert(plan)
    except PassError:
        return [*witness.calls, ("raised",)]
    return witness.calls


def test_hooks_of_a_good_run(tmp_path: Path) -> None:
    calls = witnessed(tmp_path / "out", "toy-rows")
    paths = [f"model.layers.{i}" for i in range(3)]
    around = [call for path in paths for call in (("before", "toy-rows", path, 4), ("after", "toy-rows", path, 7))]
    assert calls == [*around, ("written", tmp_path / "out", True)]


def test_hooks_of_a_failing_run(tmp_path: Path) -> None:
    calls = witnessed(tmp_path / "out", "{use: toy-rows, options: {fail_at: 1}}")
    assert [call[0] for call in calls] == ["before", "after", "before", "error", "raised"]
    assert calls[3] == ("error", "toy-rows", "model.layers.1", "asked to fail")
    assert not (tmp_path / "out").exists()


def hooked(name: str) -> PluginHost:
    """A host with a plugin whose hook of this name raises."""
    arguments = inspect.signature(getattr(hookspecs, name)).parameters
    namespace: dict[str, Any] = {}
    exec(f"def {name}(self, {', '.join(arguments)}): raise ValueError('in the hook')", namespace)
    return host_with(type("Raising", (), {name: fyc.hookimpl(namespace[name])})())


@pytest.mark.parametrize("hook", ["fyc_before_pass", "fyc_after_pass"])
def test_a_hook_that_raises_stops_the_run_and_names_the_plugin(hook: str, tmp_path: Path) -> None:
    plan = toys.toy_plan(toys.model(), tmp_path / "out", "toy-rows", host=hooked(hook))
    with pytest.raises(PluginError) as caught:
        convert(plan)
    assert caught.value.code == "FYC-P05"
    assert caught.value.what == f"the plugin `witness` failed in `{hook}`"
    assert caught.value.why == "ValueError: in the hook"
    convert(dataclasses.replace(plan, host=toys.toy_host()), resume=True)


@pytest.mark.parametrize("opaque", ["error", "keep"])
def test_a_rule_for_leaves_that_raises_is_not_the_models_fault(
    opaque: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toy_fixtures._TRACES", {})
    text = toys.recipe_text(toys.model(), "toy-rows").replace("model: {", f"model: {{opaque: {opaque}, ")
    with pytest.raises(PluginError) as caught:
        prepare(parse_recipe(text), host=hooked("fyc_trace_leaf"), output=tmp_path / "out")
    assert caught.value.what == "the plugin `witness` failed in `fyc_trace_leaf`"


def test_a_hook_that_raises_after_an_error_hides_nothing(tmp_path: Path) -> None:
    events: list[Event] = []
    use = "{use: toy-rows, options: {fail_at: 1}}"
    plan = toys.toy_plan(toys.model(), tmp_path / "out", use, host=hooked("fyc_on_pass_error"))
    with pytest.raises(PassError, match="FYC-X01") as caught:
        convert(plan, events=events.append)
    assert "asked to fail" in caught.value.why
    assert ["in the hook" in event.data["message"] for event in events if event.kind == "warning"] == [True]


def test_a_hook_that_raises_after_the_artifact_is_written_is_a_warning(tmp_path: Path) -> None:
    events: list[Event] = []
    plan = toys.toy_plan(toys.model(), tmp_path / "out", "toy-rows", host=hooked("fyc_artifact_written"))
    convert(plan, events=events.append).verify()
    assert ["in the hook" in event.data["message"] for event in events if event.kind == "warning"] == [True]


def test_a_failed_run_can_be_repaired_and_resumed(tmp_path: Path) -> None:
    """Finished blocks are kept; the repaired pass goes on at the block that failed."""
    ran: list[str] = []
    broken = [True]

    def act(block: Block, ctx: Any) -> None:
        if broken[0]:
            raise ValueError("broken")

    class Repaired(doing(act)):  # type: ignore[misc]
        def run(self, block: Block, ctx: Any) -> Any:
            ran.append(block.path)
            return super().run(block, ctx)

    plan = toys.toy_plan(toys.model(), tmp_path / "out", "toy-doing", host=toys.toy_host(Repaired))
    with pytest.raises(PassError):
        convert(plan)
    assert work_folder(plan.output).is_dir()
    broken[0] = False
    convert(plan, resume=True)
    assert ran == ["model.layers.0", "model.layers.1", "model.layers.1", "model.layers.2"]


def test_the_ir_is_dumped_before_and_after(tmp_path: Path) -> None:
    plan = toys.toy_plan(toys.model(), tmp_path / "out", "toy-round", "toy-rows")
    convert(plan, dump_ir=tmp_path / "ir")
    rows = sorted(path.name for path in (tmp_path / "ir" / "01-toy-rows").iterdir())
    assert rows == [f"block-000{i}.{end}" for i in range(3) for end in ("after.txt", "before.txt", "diff")]
    assert "+" in (tmp_path / "ir" / "01-toy-rows" / "block-0001.diff").read_text()
    assert "clamp" in (tmp_path / "ir" / "01-toy-rows" / "block-0001.after.txt").read_text()
    assert "clamp" not in (tmp_path / "ir" / "01-toy-rows" / "block-0001.before.txt").read_text()
    assert (tmp_path / "ir" / "00-toy-round" / "block-0001.diff").read_text().strip() == ""


def test_the_ir_of_a_failing_pass_is_dumped_too(tmp_path: Path) -> None:
    host = toys.toy_host(doing(call_missing))
    plan = toys.toy_plan(toys.model(), tmp_path / "out", "toy-doing", host=host)
    with pytest.raises(PassError):
        convert(plan, dump_ir=tmp_path / "ir")
    assert "mlp.nothing" in (tmp_path / "ir" / "00-toy-doing" / "block-0001.after.txt").read_text()


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

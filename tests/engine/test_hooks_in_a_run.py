"""Hooks of plugins around the passes of a run, and plugins that fail in them."""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path
from typing import Any

import pluggy
import pytest
import toys

import fyc
from fyc import hookspecs
from fyc.engine import convert, prepare
from fyc.errors import PassError, PluginError
from fyc.plugins import PluginHost
from fyc.recipe import parse_recipe
from fyc.ui.events import Event

pytestmark = pytest.mark.usefixtures("traced_once")


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

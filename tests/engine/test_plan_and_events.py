"""What is known before anything is computed, what a run says while it goes on, and what a pass is given."""

from __future__ import annotations

import json
import resource
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import toys
from children import forked
from transformers import T5Config, T5ForConditionalGeneration

import fyc
from fyc import models
from fyc.engine import convert, progress
from fyc.engine.context import seeded_generator
from fyc.engine.units import units_of
from fyc.errors import RecipeError, TraceError, UserError
from fyc.passes import Finding, ModuleReport, PassResult

pytestmark = pytest.mark.usefixtures("traced_once")


def test_a_plan_writes_nothing_and_is_json(tmp_path: Path) -> None:
    plan = toys.toy_plan(toys.model(), tmp_path / "out", "toy-round", "toy-rows", verify=0.5)
    data = plan.to_json()
    assert json.loads(json.dumps(data)) == data
    assert list(tmp_path.iterdir()) == []
    assert data["architecture"] == "LlamaForCausalLM"
    assert (data["blocks"], data["structures"], data["opaque"]) == (3, 1, [])
    assert data["calibration_tokens"] == 64
    assert [entry["use"] for entry in data["passes"]] == ["toy-round", "toy-rows"]
    assert len(data["passes"][1]["modules"]) == 21
    assert data["passes"][0]["options"] == {"digits": 2}
    assert data["source_bytes"] == (toys.model() / "model.safetensors").stat().st_size


@pytest.mark.parametrize("use", ["toy-round", "toy-rows", "{use: toy-rows, include: ['*.0', '*.1']}"])
@pytest.mark.parametrize("family", ["llama", "untied", "bert"])
def test_the_predicted_size_is_about_right(family: str, use: str, tmp_path: Path) -> None:
    plan = toys.toy_plan(toys.model(family), tmp_path / "out", use)
    made = convert(plan)
    stored = sum(entry.nbytes for entry in made.tensors().values())
    assert plan.predicted_size_bytes == pytest.approx(stored, rel=0.1)


def test_the_predicted_memory_covers_stream_and_blocks(tmp_path: Path) -> None:
    few = toys.toy_plan(toys.model(), tmp_path / "out", "toy-rows", samples=2)
    many = toys.toy_plan(toys.model(), tmp_path / "out", "toy-rows", samples=64)
    assert many.predicted_peak_memory_bytes - few.predicted_peak_memory_bytes == 62 * 16 * 32 * 4


class Opinionated(toys.Round):
    name = "toy-opinionated"
    level = "warning"

    def check(self, model: Any) -> list[Finding]:
        assert all(parameter.is_meta for parameter in model.skeleton.parameters())
        return [Finding(self.level, "this will hurt", where="model.norm", next="do not do it")]


def test_a_warning_of_a_pass_reaches_the_plan_and_the_run(tmp_path: Path) -> None:
    plan = toys.toy_plan(toys.model(), tmp_path / "out", "toy-opinionated", host=toys.toy_host(Opinionated))
    assert [finding.message for finding in plan.findings] == ["this will hurt"]
    events: list[Any] = []
    convert(plan, events=events.append)
    assert [event.data for event in events if event.kind == "warning"] == [
        {"message": "this will hurt", "where": "model.norm"}
    ]


def test_an_error_of_a_check_stops_before_work(tmp_path: Path) -> None:
    host = toys.toy_host(type("Stern", (Opinionated,), {"level": "error"}))
    with pytest.raises(UserError) as caught:
        toys.toy_plan(toys.model(), tmp_path / "out", "toy-opinionated", host=host)
    assert (caught.value.code, caught.value.exit_code) == ("FYC-R09", 2)
    assert (caught.value.what, caught.value.where, caught.value.next) == (
        "this will hurt", "model.norm", "do not do it",
    )  # fmt: skip
    assert list(tmp_path.iterdir()) == []


def test_events_of_a_run(tmp_path: Path) -> None:
    events: list[Any] = []
    convert(toys.toy_plan(toys.model(), tmp_path / "out", "toy-rows", verify=9.0), events=events.append)
    kinds = [event.kind for event in events]
    assert kinds[0] == "run"
    assert kinds[-1] == "done"
    sweeps = [event.data for event in events if event.kind == "sweep"]
    assert sweeps == [{"pass": "toy-rows", "phase": phase, "blocks": 3} for phase in ("survey", "run")]
    blocks = [event.data for event in events if event.kind == "block"]
    assert [(data["phase"], data["index"], data["path"]) for data in blocks] == [
        (phase, index, f"model.layers.{index}") for phase in ("survey", "run") for index in range(3)
    ]
    assert all(data["eta_seconds"] >= 0 and data["peak_memory_bytes"] > 50e6 for data in blocks)
    assert blocks[-1]["eta_seconds"] == 0
    assert {event.data["name"] for event in events if event.kind == "metric"} == {
        "held_out_perplexity_before", "held_out_perplexity_after", "held_out_perplexity_ratio",
    }  # fmt: skip
    json.dumps([event.data for event in events])


def test_peak_memory_has_one_measure() -> None:
    """VmHWM: ru_maxrss would be that of whoever started the command, since Linux keeps it over exec."""
    assert progress.peak_memory_bytes is models.peak_memory_bytes


@pytest.mark.parametrize(("family", "calls"), [("llama", 1), ("albert", 3)])
def test_batches_are_the_inputs_of_every_call(family: str, calls: int, tmp_path: Path) -> None:
    seen: list[tuple[str, int]] = []

    class Counting(toys.Round):
        name = "toy-counting"

        def survey(self, block: Any, ctx: Any) -> fyc.Survey:
            seen.append((block.path, len(list(ctx.batches()))))
            return fyc.Survey()

        def run(self, block: Any, ctx: Any) -> PassResult:
            shapes = {tuple((args or tuple(kwargs.values()))[0].shape) for args, kwargs in ctx.batches()}
            assert shapes == {(1, 16, 32)}
            seen.append((block.path, len(list(ctx.batches()))))
            return super().run(block, ctx)

    convert(toys.toy_plan(toys.model(family), tmp_path / "out", "toy-counting", host=toys.toy_host(Counting)))
    assert {count for _, count in seen} == {4 * calls}


def test_without_calibration_there_are_no_batches(tmp_path: Path) -> None:
    seen: list[int] = []

    class Counting(toys.Round):
        name = "toy-counting"

        def run(self, block: Any, ctx: Any) -> PassResult:
            seen.append(len(list(ctx.batches())))
            return super().run(block, ctx)

    host = toys.toy_host(Counting)
    convert(toys.toy_plan(toys.model(), tmp_path / "out", "toy-counting", host=host, calibration=False))
    assert seen == [0, 0, 0]


class Noise(fyc.Pass[fyc.PassOptions]):
    """Adds noise from the generator that it is given."""

    name = "toy-noise"
    summary = "adds noise"

    def targets(self, model: Any) -> Mapping[str, int]:
        return dict.fromkeys(model.graph.blocks, 1)

    def run(self, block: Any, ctx: Any) -> PassResult:
        torch.rand(3)
        weight = block.module.mlp.down_proj.weight.data
        weight += torch.randn(weight.shape, generator=ctx.generator)
        return PassResult([ModuleReport(block.path, "noisy")])


def test_chance_depends_on_seed_position_and_block_only(tmp_path: Path) -> None:
    host = toys.toy_host(Noise)

    def noise(name: str, *passes: str, seed: int = 0) -> list[torch.Tensor]:
        text = toys.recipe_text(toys.model(), *passes) + f"seed: {seed}\n"
        plan = fyc.engine.prepare(fyc.recipe.parse_recipe(text), host=host, output=tmp_path / name)
        model = fyc.load(convert(plan).path)
        return [layer.mlp.down_proj.weight.detach() for layer in model.model.layers]

    torch.manual_seed(0)
    first = noise("a", "toy-noise")
    torch.manual_seed(99)
    again, other = noise("b", "toy-noise"), noise("c", "toy-noise", seed=1)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(first, other, strict=True))
    plain = fyc.load(toys.artifact("llama", "{use: toy-round, options: {digits: 8}}").path)
    added = [a - layer.mlp.down_proj.weight.detach() for a, layer in zip(first, plain.model.layers, strict=True)]
    assert not torch.allclose(added[0], added[1], atol=1e-3)


def test_generators_do_not_collide() -> None:
    draws = {
        (seed, position, path): torch.rand(4, generator=seeded_generator(seed, position, path))
        for seed in (0, 1, 2**63 - 1)
        for position in (0, 1)
        for path in ("", "model.layers.1", "model.layers.11")
    }
    values = {tuple(draw.tolist()) for draw in draws.values()}
    assert len(values) == len(draws)


def test_a_block_that_is_called_again_after_others_is_refused() -> None:
    from types import SimpleNamespace as Graph

    def call(index: int, path: str) -> Any:
        return Graph(index=index, path=path, node=f"n{index}")

    in_a_row = [call(0, "a"), call(1, "a"), call(2, "b")]
    assert [(unit.path, unit.calls) for unit in units_of(Graph(calls=in_a_row))] == [("a", (0, 1)), ("b", (2,))]
    with pytest.raises(TraceError) as caught:
        units_of(Graph(calls=[*in_a_row, call(3, "a")]))
    assert caught.value.code == "FYC-G09"


def test_a_model_larger_than_the_memory_it_may_use(tmp_path: Path) -> None:
    """98 MB of blocks convert with 52 MB of address space: one block at a time is in memory."""
    sizes = {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 25, "vocab_size": 64}
    folder = toys.toy_model(tmp_path / "m", **sizes)
    assert (folder / "model.safetensors").stat().st_size > 98e6
    plan = toys.toy_plan(folder, tmp_path / "out", "toy-rows")

    def limited() -> int:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + 52 * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        convert(plan)
        return 0

    assert forked(limited, timeout=120) == 0
    assert fyc.artifact.open_artifact(plan.output).size_bytes < 52e6


def test_an_unknown_pass_is_named_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        toys.toy_plan(toys.model(), tmp_path / "out", "toy-rounds")
    assert caught.value.code == "FYC-P01"
    assert caught.value.where == "recipe:5:10"
    assert "toy-round" in caught.value.next


def test_an_unknown_option_is_named_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        toys.toy_plan(toys.model(), tmp_path / "out", "{use: toy-round, options: {digit: 3}}")
    assert (caught.value.code, caught.value.where) == ("FYC-R02", "recipe:5:32")
    assert "digits" in caught.value.next


def test_a_model_that_needs_a_second_input_is_refused_before_work(tmp_path: Path) -> None:
    settings = {"vocab_size": 64, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}
    folder = toys.toy_model(tmp_path / "m")
    T5ForConditionalGeneration(T5Config(**settings)).save_pretrained(folder)
    with pytest.raises(TraceError, match="token ids alone") as refused:
        toys.toy_plan(folder, tmp_path / "out", "toy-rows")
    assert refused.value.code == "FYC-G02"
    assert "T5" in refused.value.next

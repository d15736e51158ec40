"""A conversion gives what the passes do by hand, for every family of models, and the artifact is that very model."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import toys
import transformers
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

import fyc
from fyc import ir
from fyc.engine import convert
from fyc.errors import RecipeError, TraceError
from fyc.models import load_plain

pytestmark = pytest.mark.usefixtures("traced_once")
IDS = torch.arange(2, 26).reshape(2, 12)
CAUSAL = ["llama", "untied", "gpt2", "opt"]
FAMILIES = list(toys.FAMILIES)


def logits(model: nn.Module, ids: Tensor = IDS) -> Tensor:
    with torch.no_grad():
        return model(ids).logits


def rounded(family: str) -> nn.Module:
    """The source model with every weight rounded by hand."""
    model = load_plain(toys.model(family))
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Embedding):
            module.weight.data = module.weight.data.double().round(decimals=2).float()
    return model


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_only_pass_equals_applying_it_by_hand(family: str) -> None:
    loaded = fyc.load(toys.artifact(family, "toy-round").path)
    expected = rounded(family)
    torch.testing.assert_close(loaded.state_dict(), expected.state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(logits(loaded), logits(expected), rtol=0, atol=1e-6)
    assert float((logits(loaded) - logits(load_plain(toys.model(family)))).abs().max()) > 1e-4


def rows_by_hand(family: str) -> nn.Module:
    """The source model with int8 rows and clamps, made without fyc's graphs: hooks on the original modules.

    A clamp's limit is the largest input that the calibration text gave the module in the *untouched* model, as the
    pass's survey sees it.
    """
    model = load_plain(toys.model(family))
    tokens = [int(word[1:]) for word in (toys.model(family) / "text.txt").read_text().split()[: 4 * 16]]
    blocks = ir.find_blocks(model)
    limits: dict[nn.Module, float] = {}

    def record(module: nn.Module, args: tuple[Tensor, ...]) -> None:
        limits[module] = max(limits.get(module, 0.0), float(args[0].abs().max()))

    chosen = [
        (f"{path}.{name}", module)
        for path in blocks
        for name, module in model.get_submodule(path).named_modules()
        if isinstance(module, nn.Linear | Conv1D)
    ]
    hooks = [module.register_forward_pre_hook(record) for _, module in chosen]
    for start in range(0, 64, 16):
        logits(model, torch.tensor([tokens[start : start + 16]]))
    for hook in hooks:
        hook.remove()
    for path, module in chosen:
        limit = limits[module]
        rows = toys.RowInt8.of(module)
        rows.register_forward_pre_hook(lambda _, args, limit=limit: (args[0].clamp(-limit, limit),))
        parent, _, leaf = path.rpartition(".")
        setattr(model.get_submodule(parent), leaf, rows)
    return model.eval()


@pytest.mark.parametrize("family", FAMILIES)
def test_module_and_graph_pass_equals_doing_it_by_hand(family: str) -> None:
    loaded = fyc.load(toys.artifact(family, "toy-rows").path)
    torch.testing.assert_close(logits(loaded), logits(rows_by_hand(family)), rtol=0, atol=1e-5)
    blocks = [loaded.get_submodule(entry.path) for entry in toys.artifact(family, "toy-rows").manifest.blocks]
    assert blocks
    assert all(ir.is_bound(block) for block in blocks)
    assert float((logits(loaded) - logits(load_plain(toys.model(family)))).abs().max()) > 1e-4


@pytest.mark.parametrize("family", CAUSAL)
def test_generation_from_an_artifact_equals_the_hand_made_model(family: str) -> None:
    loaded, expected = fyc.load(toys.artifact(family, "toy-rows").path), rows_by_hand(family)
    options: dict[str, Any] = {"max_new_tokens": 24, "do_sample": False, "pad_token_id": 0}
    torch.testing.assert_close(loaded.generate(IDS, **options), expected.generate(IDS, **options))
    padded = torch.ones_like(IDS)
    padded[1, :5] = 0
    torch.testing.assert_close(
        loaded.generate(IDS, attention_mask=padded, **options), expected.generate(IDS, attention_mask=padded, **options)
    )
    sequences = loaded.generate(IDS, cache_implementation="static", **options)
    torch.testing.assert_close(sequences, expected.generate(IDS, **options))


def test_converted_blocks_feed_the_blocks_after_them(tmp_path: Path) -> None:
    """`run` sees the inputs that the *converted* model produces."""
    inputs: dict[str, list[Tensor]] = {}

    class Watching(toys.Round):
        name = "toy-watching"

        def run(self, block: Any, ctx: Any) -> Any:
            result = super().run(block, ctx)
            inputs[block.path] = [(args or tuple(kwargs.values()))[0].clone() for args, kwargs in ctx.batches()]
            return result

    plan = toys.toy_plan(toys.model(), tmp_path / "out", "toy-watching", host=toys.toy_host(Watching))
    made = fyc.load(convert(plan).path)
    expected: dict[str, list[Tensor]] = {}
    for path in ir.find_blocks(made):
        made.get_submodule(path).register_forward_pre_hook(
            lambda _, args, path=path: expected.setdefault(path, []).append(args[0].clone()), with_kwargs=False
        )
    for row in plan.calibration:
        logits(made, row.unsqueeze(0))
    assert inputs.keys() == expected.keys()
    for path, batches in inputs.items():
        torch.testing.assert_close(batches, expected[path], rtol=0, atol=1e-6)


def test_two_passes_in_a_row(tmp_path: Path) -> None:
    """The second pass starts from what the first left, in the graph and in the weights."""
    plan = toys.toy_plan(toys.model(), tmp_path / "out", "{use: toy-round, options: {digits: 1}}", "toy-rows")
    made = convert(plan)
    loaded = fyc.load(made.path)
    assert [entry.name for entry in made.manifest.passes] == ["toy-round", "toy-rows"]
    source = load_plain(toys.model())
    weight = source.model.layers[1].mlp.down_proj.weight.data.double().round(decimals=1).float()
    expected = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    expected.weight.data = weight
    found = loaded.model.layers[1].mlp.down_proj
    assert torch.equal(found.codes, toys.RowInt8.of(expected).codes)
    by = {(entry.path, entry.by) for entry in made.manifest.modules}
    assert {("model.layers.1.mlp.down_proj", "toy-round"), ("model.layers.1.mlp.down_proj", "toy-rows")} <= by
    assert torch.equal(loaded.lm_head.weight, loaded.model.embed_tokens.weight)
    torch.testing.assert_close(
        loaded.lm_head.weight.data, source.lm_head.weight.data.double().round(decimals=1).float(), rtol=0, atol=0
    )


def test_two_passes_that_both_edit_the_graph(tmp_path: Path) -> None:
    """A graph edited by one pass reaches the next one and stays in the artifact."""
    scaled: list[str] = []

    class Halve(fyc.Pass[fyc.PassOptions]):
        name = "toy-halve"
        summary = "halves what a block returns, in the graph"

        def targets(self, model: Any) -> dict[str, int]:
            return dict.fromkeys(model.graph.blocks, 0)

        def run(self, block: Any, ctx: Any) -> Any:
            graph = block.graph.graph
            scaled.append(str(graph))
            output = next(node for node in graph.nodes if node.op == "output")
            with graph.inserting_before(output):
                output.args = (graph.call_function(torch.mul, (output.args[0], 0.5)),)
            return fyc.PassResult([fyc.ModuleReport(block.path, "halved")])

    host = toys.toy_host(Halve)
    loaded = fyc.load(convert(toys.toy_plan(toys.model(), tmp_path / "out", "toy-rows", "toy-halve", host=host)).path)
    assert all("clamp" in text for text in scaled)
    assert len(scaled) == 3
    plain = fyc.load(toys.artifact("llama", "toy-rows").path)
    hidden = torch.randn(1, 5, 32, generator=torch.Generator().manual_seed(0))
    position = plain.model.rotary_emb(hidden, torch.arange(5).unsqueeze(0))
    with torch.no_grad():
        once = plain.model.layers[0](hidden, position_embeddings=position)
        halved = loaded.model.layers[0](hidden, position_embeddings=position)
    torch.testing.assert_close(halved, once / 2)


def nll(model: nn.Module, tokens: Tensor) -> float:
    """Mean next-token NLL over windows, computed in the plainest way."""
    rows = [nn.functional.cross_entropy(logits(model, row.unsqueeze(0))[0, :-1], row[1:]) for row in tokens]
    return float(torch.stack(rows).mean())


def test_branches_and_losses(tmp_path: Path) -> None:
    """A branch's loss and divergence are those of the model in which only that block is changed."""
    decided: dict[str, Any] = {}

    class Deciding(toys.Rows):
        name = "toy-deciding"

        def plan(self, surveys: Any, ctx: Any) -> dict[str, Any]:
            decided.update(super().plan(surveys, ctx))
            return dict(decided)

    plan = toys.toy_plan(
        toys.model(), tmp_path / "out", "{use: toy-deciding, options: {branches: 3}}", host=toys.toy_host(Deciding)
    )
    convert(plan)
    source = load_plain(toys.model())
    assert decided["blocks"] == ir.find_blocks(source)
    losses = decided["losses"]
    assert losses.keys() == {"", *ir.find_blocks(source)}
    assert losses[""] == pytest.approx(nll(source, plan.calibration[:3]), abs=1e-6)
    assert decided["divergences"].keys() == set(ir.find_blocks(source))
    for path in ir.find_blocks(source):
        changed = copy.deepcopy(source)
        attention = changed.get_submodule(path).self_attn
        for module in (attention.q_proj, attention.k_proj, attention.v_proj):
            module.weight.data.zero_()
        expected = nll(changed, plan.calibration[:3])
        assert losses[path] == pytest.approx(expected, abs=1e-5)
        assert abs(expected - losses[""]) > 1e-4
        reference, found = (logits(model, plan.calibration[:3]).log_softmax(-1) for model in (source, changed))
        divergence = float((reference.exp() * (reference - found)).sum(-1).mean())
        assert decided["divergences"][path] == pytest.approx(divergence, rel=1e-4)


@pytest.mark.parametrize("family", CAUSAL)
def test_held_out_perplexity_is_that_of_the_loaded_artifact(family: str, tmp_path: Path) -> None:
    plan = toys.toy_plan(toys.model(family), tmp_path / "out", "toy-rows", verify=10.0)
    made = convert(plan)
    metrics = made.manifest.metrics
    before, after = nll(load_plain(toys.model(family)), plan.held_out), nll(fyc.load(made.path), plan.held_out)
    assert metrics["held_out_perplexity_before"] == pytest.approx(torch.tensor(before).exp().item(), rel=1e-5)
    assert metrics["held_out_perplexity_after"] == pytest.approx(torch.tensor(after).exp().item(), rel=1e-5)
    assert len(plan.held_out) == 2
    assert not set(map(tuple, plan.held_out.tolist())) & set(map(tuple, plan.calibration.tolist()))


@pytest.mark.parametrize("family", ["bert", "albert", "bart"])
def test_verify_is_refused_for_a_model_that_does_not_predict_the_next_token(family: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as caught:
        toys.toy_plan(toys.model(family), tmp_path / "out", "toy-rows", verify=0.1)
    assert caught.value.code == "FYC-R09"
    assert caught.value.where.startswith("recipe:6:")
    assert "perplexity" in str(caught.value)


def test_an_encoder_decoder_converts_with_flatten_quant(tmp_path: Path) -> None:
    """What stands between its encoder and its decoder has to be in memory when the calibration text gets there."""
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(toys.recipe_text(toys.model("bart"), "flatten-quant"), encoding="utf-8")
    made = fyc.convert(recipe, output=tmp_path / "out")
    blocks = {entry.path for entry in made.manifest.blocks}
    assert blocks == {f"model.{side}.layers.{i}" for side in ("encoder", "decoder") for i in (0, 1)}
    assert {path.rsplit(".layers.", 1)[0] for path in made.manifest.replaced} >= {"model.encoder", "model.decoder"}
    found, expected = logits(fyc.load(made.path)), logits(load_plain(toys.model("bart")))
    assert 0 < float((found - expected).norm() / expected.norm()) < 0.1


def test_albert_converts_its_one_block_once_and_calls_it_often() -> None:
    made = toys.artifact("albert", "toy-rows")
    assert len(made.manifest.blocks) == 1
    assert len(made.manifest.replaced) == 6
    assert fyc.load(made.path).config.num_hidden_layers == 3


def test_include_and_exclude_choose_modules(tmp_path: Path) -> None:
    use = "{use: toy-rows, include: ['model.layers.1', 'model.layers.2.mlp'], exclude: ['*.down_proj']}"
    made = convert(toys.toy_plan(toys.model(), tmp_path / "out", use))
    attention = {f"model.layers.1.self_attn.{name}_proj" for name in "qkvo"}
    gate_up = {f"model.layers.{i}.mlp.{name}_proj" for i in (1, 2) for name in ("gate", "up")}
    assert set(made.manifest.replaced) == attention | gate_up
    assert {entry.path: entry.changed for entry in made.manifest.blocks} == {
        "model.layers.0": False, "model.layers.1": True, "model.layers.2": True,
    }  # fmt: skip
    loaded = fyc.load(made.path)
    assert torch.equal(
        loaded.model.layers[0].mlp.up_proj.weight, load_plain(toys.model()).model.layers[0].mlp.up_proj.weight
    )


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_the_recipe_chooses_the_dtype(dtype: str, tmp_path: Path) -> None:
    text = toys.recipe_text(toys.model(), "toy-round").replace("model: {", f"model: {{dtype: {dtype}, ")
    plan = fyc.engine.prepare(fyc.recipe.parse_recipe(text), host=toys.toy_host(), output=tmp_path / "out")
    made = convert(plan)
    loaded = fyc.load(made.path)
    assert made.manifest.dtype == dtype
    assert {parameter.dtype for parameter in loaded.parameters()} == {getattr(torch, dtype)}
    expected = load_plain(toys.model()).to(getattr(torch, dtype)).model.layers[0].mlp.up_proj.weight.data
    rounded_by_hand = expected.double().round(decimals=2).to(expected.dtype)
    assert torch.equal(loaded.model.layers[0].mlp.up_proj.weight, rounded_by_hand)


def test_what_the_source_brings_is_carried_over(tmp_path: Path) -> None:
    folder = toys.toy_model(tmp_path / "m", num_hidden_layers=1)
    for name in ("README.md", "LICENSE", "NOTICE.txt", "chat_template.jinja", "USE_POLICY.md"):
        (folder / name).write_text(f"the {name}", encoding="utf-8")
    (folder / "modeling_evil.py").write_text("raise SystemExit", encoding="utf-8")
    made = convert(toys.toy_plan(folder, tmp_path / "out", "toy-round"))
    for name in ("README.md", "LICENSE", "NOTICE.txt", "chat_template.jinja", "USE_POLICY.md"):
        assert (made.path / name).read_text() == f"the {name}"
        assert name in made.manifest.files
    assert not (made.path / "modeling_evil.py").exists()
    tokenizer = transformers.AutoTokenizer.from_pretrained(made.path)
    assert tokenizer("w3 w5").input_ids == [3, 5]


def test_files_with_names_that_a_manifest_cannot_hold_stay_behind(tmp_path: Path) -> None:
    """Hub downloads by browser are full of `tokenizer (1).json`."""
    folder = toys.toy_model(tmp_path / "m", num_hidden_layers=1)
    (folder / "tokenizer (1).json").write_text("{}", encoding="utf-8")
    (folder / "LICENSE copy").write_text("x", encoding="utf-8")
    made = convert(toys.toy_plan(folder, tmp_path / "out", "toy-round"))
    assert not (made.path / "tokenizer (1).json").exists()
    fyc.load(made.path)


def test_config_does_not_point_at_code_or_at_this_machine(tmp_path: Path) -> None:
    folder = toys.toy_model(tmp_path / "m", num_hidden_layers=1)
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "modeling_evil.EvilModel"}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    made = convert(toys.toy_plan(folder, tmp_path / "out", "toy-round"))
    text = (made.path / "config.json").read_text()
    assert "auto_map" not in text
    assert str(tmp_path) not in text
    assert json.loads(text)["quantization_config"]["quant_method"] == "fyc"


def test_a_sharded_checkpoint_gives_the_same_weights(tmp_path: Path) -> None:
    folder = toys.toy_model(tmp_path / "m")
    transformers.LlamaForCausalLM.from_pretrained(folder).save_pretrained(folder, max_shard_size="20KB")
    (folder / "model.safetensors").unlink()
    assert len(list(folder.glob("model-*.safetensors"))) > 2
    made = convert(toys.toy_plan(folder, tmp_path / "out", "toy-rows"))
    whole = toys.files_of(toys.artifact("llama", "toy-rows").path)
    parts = toys.files_of(made.path)
    shards = [name for name in whole if name.endswith(".safetensors")]
    assert shards
    assert all(whole[name] == parts[name] for name in shards)


def branching(self: Any, x: Tensor) -> Tensor:
    """An MLP whose code looks at data: it has no single graph."""
    if float(x.abs().max()) > 1e9:
        return x
    return self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x))


@pytest.fixture
def untraceable(monkeypatch: pytest.MonkeyPatch, traced_once: None) -> None:
    monkeypatch.undo()  # trace really, and see the new code
    monkeypatch.syspath_prepend(str(toys.site()))
    monkeypatch.setattr(transformers.models.llama.modeling_llama.LlamaMLP, "forward", branching)


@pytest.mark.usefixtures("untraceable")
def test_a_block_that_cannot_be_traced_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(TraceError) as caught:
        toys.toy_plan(toys.model(), tmp_path / "out", "toy-round")
    assert caught.value.exit_code == 3
    assert "model.layers.0" in caught.value.where


@pytest.mark.usefixtures("untraceable")
def test_an_opaque_block_is_kept_as_it_is_and_reported(tmp_path: Path) -> None:
    text = toys.recipe_text(toys.model(), "toy-round").replace("model: {", "model: {opaque: keep, ")
    plan = fyc.engine.prepare(fyc.recipe.parse_recipe(text), host=toys.toy_host(), output=tmp_path / "out")
    paths = [f"model.layers.{i}" for i in range(3)]
    assert plan.to_json()["opaque"] == paths
    assert [finding.where for finding in plan.findings if finding.level == "warning"] == paths
    events: list[Any] = []
    made = convert(plan, events=events.append)
    assert [event.data["where"] for event in events if event.kind == "warning"] == paths
    assert [(entry.graph, entry.changed) for entry in made.manifest.blocks] == [(None, False)] * 3
    assert {entry.path for entry in made.manifest.modules} == {"model.embed_tokens", "lm_head"}
    expected = load_plain(toys.model())
    expected.lm_head.weight.data = expected.lm_head.weight.data.double().round(decimals=2).float()
    torch.testing.assert_close(logits(fyc.load(made.path)), logits(expected), rtol=0, atol=0)

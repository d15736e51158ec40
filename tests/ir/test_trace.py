"""What tracing refuses, with the place in the model's code, and what it must not bake into a graph."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import ALL, VOCAB, build, config_of
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedModel
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaMLP, LlamaModel

from fyc.errors import TraceError
from fyc.ir import BlockGraph, ModelGraph, bind, find_blocks, trace_model

LLAMA, ALBERT, BERT, GEMMA3, GPT2 = (
    next(arch for arch in ALL if arch.name == name) for name in ("llama", "albert", "bert", "gemma3_text", "gpt2")
)


def tokens(batch: int = 2, length: int = 9) -> Tensor:
    return torch.randint(3, VOCAB, (batch, length), generator=torch.Generator().manual_seed(3))


def changed(cls: type[nn.Module], part: str = "mlp", **attributes: Any) -> PreTrainedModel:
    """A tiny Llama, one part of whose layers is of a class defined in this file."""
    model = build(LLAMA)
    for layer in model.model.layers:
        target = layer.get_submodule(part) if part else layer
        target.__class__ = cls
        for name, value in attributes.items():
            setattr(target, name, value)
    return model


def line_of(cls: type, text: str) -> str:
    lines, start = inspect.getsourcelines(cls)
    return f"{Path(__file__).name}:{start + next(i for i, line in enumerate(lines) if text in line)}"


def bind_all(model: PreTrainedModel, graph: ModelGraph) -> None:
    for path, block in graph.blocks.items():
        bind(model.get_submodule(path), block)


class BranchOnData(LlamaMLP):
    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            return super().forward(x)
        return x


class Item(LlamaMLP):
    def forward(self, x: Tensor) -> Tensor:
        scale = x.abs().max().item()
        return super().forward(x) * scale


class Index(LlamaMLP):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[:, : int(x.argmax())]


class Iterate(LlamaMLP):
    def forward(self, x: Tensor) -> Tensor:
        return torch.stack([super(Iterate, self).forward(row) for row in x])


class Threshold(LlamaMLP):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if x.shape[1] > 6 else x


class Window(LlamaMLP):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) if x.shape[1] < 100 else x


class Unrolled(LlamaMLP):
    def forward(self, x: Tensor) -> Tensor:
        for _ in range(x.shape[0]):
            x = super().forward(x)
        return x


class Stateful(LlamaMLP):
    def forward(self, x: Tensor) -> Tensor:
        self.last = x
        return super().forward(x)


class TrainingOnly(LlamaMLP):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + (1.0 if self.training else 0.0)


class CacheOnly(LlamaDecoderLayer):
    def forward(self, hidden_states: Tensor, past_key_values: Any = None, **kwargs: Any) -> Tensor:
        if past_key_values is not None:
            hidden_states = hidden_states * 2
        return super().forward(hidden_states, past_key_values=past_key_values, **kwargs)


class MaskOnly(LlamaDecoderLayer):
    def forward(self, hidden_states: Tensor, attention_mask: Any = None, **kwargs: Any) -> Tensor:
        if attention_mask is None:
            hidden_states = hidden_states * 2
        return super().forward(hidden_states, attention_mask=attention_mask, **kwargs)


class TupleDefault(LlamaDecoderLayer):
    def forward(self, hidden_states: Tensor, scales: Any = (1.0, 2.0), **kwargs: Any) -> Tensor:
        return super().forward(hidden_states * scales[0], **kwargs)


class Foreign(LlamaMLP):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(torch.fft.fft(x).real)


class ModelItem(LlamaModel):
    def forward(self, input_ids: Tensor, **kwargs: Any) -> Any:
        if input_ids.max().item() > 90:
            input_ids = input_ids % 90
        return super().forward(input_ids=input_ids, **kwargs)


class DecodeOnly(LlamaMLP):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * x.sum().item() if x.shape[1] == 1 else super().forward(x)


REFUSED = [
    (BranchOnData, "mlp", "FYC-G01", "if x.sum() > 0", "bool() of a tensor"),
    (Item, "mlp", "FYC-G01", ".item()", "Tensor.item()"),
    (Index, "mlp", "FYC-G01", "int(x.argmax())", "int() of a tensor"),
    (Iterate, "mlp", "FYC-G05", "for row in x", "iteration over a tensor gives 2"),
    (Threshold, "mlp", "FYC-G05", "x.shape[1] > 6", "bool gives False"),
    (Window, "mlp", "FYC-G05", "x.shape[1] < 100", "bool gives True"),
    (Unrolled, "mlp", "FYC-G05", "range(x.shape[0])", "index gives 2"),
    (DecodeOnly, "mlp", "FYC-G01", "x.sum().item()", "Tensor.item()"),
    (Stateful, "mlp", "FYC-G02", "self.last = x", "state between calls in its attribute `last`"),
    (Foreign, "mlp", "FYC-G02", "torch.fft.fft", "not on the list"),
]


@pytest.mark.parametrize(("cls", "part", "code", "text", "says"), REFUSED, ids=lambda v: getattr(v, "__name__", None))
def test_refusals_name_the_line(cls: type[nn.Module], part: str, code: str, text: str, says: str) -> None:
    """Trap (e): control flow on data, or on sizes, is refused and not specialised."""
    with pytest.raises(TraceError) as raised:
        trace_model(changed(cls, part))
    error = raised.value
    message = f"{error.what} {error.where} {error.why}"
    assert error.code == code
    assert says in message
    assert line_of(cls, text) in message
    assert "model.layers.0" in message
    assert error.next


@pytest.mark.parametrize(
    ("cls", "part", "says"),
    [(TrainingOnly, "mlp", "training flag"), (CacheOnly, "", "given a cache"), (MaskOnly, "", "given a mask")],
    ids=lambda v: getattr(v, "__name__", None),
)
def test_refusals_of_what_is_no_part_of_the_graph(cls: type[nn.Module], part: str, says: str) -> None:
    with pytest.raises(TraceError, match=says) as raised:
        trace_model(changed(cls, part))
    assert raised.value.code == "FYC-G05"
    assert "model.layers.0" in f"{raised.value.what} {raised.value.where}"


def test_a_graph_that_could_not_be_stored_is_refused_at_once() -> None:
    with pytest.raises(TraceError, match="scales: the default of an input is a plain value") as raised:
        trace_model(changed(TupleDefault, ""))
    assert raised.value.code == "FYC-G02"


def test_refusals_outside_the_blocks_do_not_offer_opaque_blocks() -> None:
    model = build(LLAMA)
    model.model.__class__ = ModelItem
    with pytest.raises(TraceError, match=r"Tensor\.item") as raised:
        trace_model(model, opaque="keep")
    assert raised.value.code == "FYC-G01"
    assert f"model at {__file__}" in raised.value.where
    assert "outside" in raised.value.next
    assert "opaque" not in raised.value.next


@pytest.mark.parametrize(
    ("cls", "text"),
    [(row[0], row[3]) for row in REFUSED if row[0] in (BranchOnData, Threshold, Stateful, DecodeOnly)],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_opaque_blocks_run_as_they_are(cls: type[nn.Module], text: str) -> None:
    model = changed(cls)
    graph = trace_model(model, opaque="keep")
    assert all(block.opaque for block in graph.blocks.values())
    assert all("FYC-G0" in (block.reason or "") for block in graph.blocks.values())
    assert all(line_of(cls, text) in (block.reason or "") for block in graph.blocks.values())
    with torch.no_grad():
        expected = model(input_ids=tokens()).logits
        assert torch.equal(graph.run(model, {"input_ids": tokens()})["logits"], expected)
        bind_all(model, graph)
        assert torch.equal(model(input_ids=tokens()).logits, expected)
    again = BlockGraph.from_json(graph.blocks["model.layers.0"].to_json())
    assert again.opaque
    with pytest.raises(TraceError, match="no nodes"):
        again.run(model.model.layers[0], on_node=lambda node, value: None)


def test_a_leaf_rule_hides_what_cannot_be_traced() -> None:
    model = changed(BranchOnData)
    graph = trace_model(model, is_leaf=lambda m: True if isinstance(m, BranchOnData) else None)
    assert "mlp" in {node.target for node in graph.blocks["model.layers.0"].graph.nodes}
    bind_all(model, graph)
    with torch.no_grad():
        expected = changed(BranchOnData)(input_ids=tokens()).logits
        torch.testing.assert_close(model(input_ids=tokens()).logits, expected)


class UsesIndex(LlamaMLP):
    layer_idx: int

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * (self.layer_idx + 1)


def test_a_graph_that_depends_on_its_layer_index_is_not_shared() -> None:
    model = changed(UsesIndex)
    for index, layer in enumerate(model.model.layers):
        layer.mlp.layer_idx = index
    graph = trace_model(model)
    assert len({id(block) for block in graph.blocks.values()}) == 3
    assert len({block.digest for block in graph.blocks.values()}) == 3
    with torch.no_grad():
        expected = model(input_ids=tokens()).logits
        bind_all(model, graph)
        torch.testing.assert_close(model(input_ids=tokens()).logits, expected)


def test_masks_that_are_none_while_tracing_are_not_baked_in() -> None:
    """Trap (a): masks change what these models say, and a graph made without any mask must see them."""
    model, other = build(LLAMA), build(LLAMA)
    mask = torch.ones(2, 9, dtype=torch.long)
    mask[0, :3] = 0
    bind_all(other, trace_model(other))
    with torch.no_grad():
        unmasked, masked = model(input_ids=tokens()).logits, model(input_ids=tokens(), attention_mask=mask).logits
        assert (masked - unmasked).abs().max() > 0.05
        torch.testing.assert_close(other(input_ids=tokens(), attention_mask=mask).logits, masked)
        torch.testing.assert_close(other(input_ids=tokens()).logits, unmasked)


def test_a_value_that_was_none_while_tracing_is_refused_later() -> None:
    arch = next(a for a in ALL if a.name == "gpt2")
    model = build(arch)
    bind_all(model, trace_model(model))
    block = model.transformer.h[0]
    with torch.no_grad(), pytest.raises(TraceError, match="encoder_hidden_states") as raised:
        block(torch.randn(1, 4, 32), encoder_hidden_states=torch.randn(1, 4, 32))
    assert raised.value.code == "FYC-G06"


def test_tracing_leaves_the_model_and_the_libraries_alone() -> None:
    model = build(LLAMA).train()
    before = {name: (t.device, t.clone()) for name, t in model.state_dict().items()}
    patched = [(nn.Module, "__call__"), (nn.Module, "__getattr__"), (nn.Module, "__setattr__"), (torch, "arange")]
    originals = [vars(holder)[name] for holder, name in patched]
    trace_model(model)
    with pytest.raises(TraceError):
        trace_model(changed(BranchOnData))
    assert [vars(holder)[name] for holder, name in patched] == originals
    assert all(module.training for module in model.modules())
    assert model.config.use_cache
    for name, tensor in model.state_dict().items():
        assert before[name][0] == tensor.device
        assert torch.equal(before[name][1], tensor)


def test_a_model_without_weights_gives_the_same_graphs() -> None:
    with torch.device("meta"):
        empty = AutoModelForCausalLM.from_config(config_of(LLAMA))
    graph, full = trace_model(empty), trace_model(build(LLAMA))
    assert [c.path for c in graph.calls] == [c.path for c in full.calls]
    assert {p: b.digest for p, b in graph.blocks.items()} == {p: b.digest for p, b in full.blocks.items()}


def test_an_edited_bound_layer_can_be_traced_again() -> None:
    model = build(LLAMA)
    graph = trace_model(model)
    bind_all(model, graph)
    assert trace_model(model).blocks["model.layers.0"].digest == graph.blocks["model.layers.0"].digest


def test_half_precision_is_traced_as_such() -> None:
    model = build(LLAMA).to(torch.bfloat16)
    graph = trace_model(model)
    with torch.no_grad():
        expected = model(input_ids=tokens()).logits
        assert torch.equal(graph.run(model, {"input_ids": tokens()})["logits"], expected)


def test_24_equal_layers_share_one_graph() -> None:
    with torch.device("meta"):
        config = LlamaConfig(hidden_size=256, intermediate_size=688, num_hidden_layers=24, num_attention_heads=8)
        model = LlamaForCausalLM(config)
    graph = trace_model(model)
    assert len(graph.calls) == 24
    assert len({id(block) for block in graph.blocks.values()}) == 1


def test_blocks_are_found_without_their_names() -> None:
    model = build(LLAMA)
    model.model.w = nn.ModuleDict({"x": model.model.layers})
    del model.model.layers
    assert find_blocks(model) == ["model.w.x.0", "model.w.x.1", "model.w.x.2"]
    assert find_blocks(build(ALBERT)) == ["albert.encoder.albert_layer_groups.0.albert_layers.0"]
    assert find_blocks(nn.Sequential(nn.Linear(2, 2))) == []


def test_a_model_without_blocks_is_refused() -> None:
    class Flat(PreTrainedModel):
        config_class = LlamaConfig

        def __init__(self, config: LlamaConfig) -> None:
            super().__init__(config)
            self.head = nn.Linear(4, 4)

    with pytest.raises(TraceError, match="no repeated blocks") as raised:
        trace_model(Flat(LlamaConfig()))
    assert raised.value.code == "FYC-G04"


_DIGESTS = """
import sys
sys.path.insert(0, sys.argv[1])
from tiny_models import ALL, build
from fyc.ir import trace_model
for name in ("bert", "gemma3_text", "gpt2"):
    arch = next(arch for arch in ALL if arch.name == name)
    graph = trace_model(build(arch))
    print(*[block.digest for block in graph.blocks.values()], *[node.name for node in graph.graph.nodes])
"""


def test_digests_and_names_are_equal_across_processes() -> None:
    """Trap (f): the stored hash of a structure must be the same on another day."""
    folder = str(Path(__file__).parent)
    environment = {**os.environ, "PYTHONHASHSEED": "4711", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", _DIGESTS, folder]
    there = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()
    graphs = [trace_model(build(arch)) for arch in (BERT, GEMMA3, GPT2)]
    here = [(*[b.digest for b in g.blocks.values()], *[n.name for n in g.graph.nodes]) for g in graphs]
    assert there == [word for words in here for word in words]
    assert len({word for word in there if len(word) == 64}) == 4


def test_digest_ignores_names_but_nothing_else() -> None:
    graph = trace_model(build(LLAMA)).blocks["model.layers.0"]
    renamed, changed_graph = graph.copy(), graph.copy()
    for number, node in enumerate(renamed.graph.nodes):
        node.name = f"n{number}"
    assert renamed.digest == graph.digest
    attention = next(n for n in changed_graph.graph.nodes if n.name == "attention")
    attention.update_kwarg("scaling", 0.5)
    assert changed_graph.digest != graph.digest
    assert changed_graph.source_digest == graph.source_digest == graph.digest


def test_tied_and_shared_tensors_stay_tied() -> None:
    """Trap (d): binding must not copy a tensor that two modules share."""
    config = config_of(LLAMA)
    config.tie_word_embeddings = True
    model = LlamaForCausalLM(config)
    bind_all(model, trace_model(model))
    assert model.lm_head.weight is model.model.embed_tokens.weight
    albert = build(ALBERT)
    graph = trace_model(albert)
    bind_all(albert, graph)
    assert len(graph.calls) == 3
    assert len(graph.blocks) == 1

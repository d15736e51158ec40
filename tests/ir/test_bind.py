"""Bound layers keep everything that people do with transformers models."""

from __future__ import annotations

import copy
import inspect
import io
import pickle
from dataclasses import replace
from typing import Any

import pytest
import torch
from test_architectures import bound, mask_of, tokens, traced
from tiny_models import ALL, Arch, build
from torch import nn
from transformers import PreTrainedModel

from fyc.errors import FycError
from fyc.ir import bind, is_bound, trace_model, unbind

LLAMA, GEMMA3, BERT, ALBERT, GPT2 = (
    next(arch for arch in ALL if arch.name == name) for name in ("llama", "gemma3_text", "bert", "albert", "gpt2")
)
some = pytest.mark.parametrize("arch", [LLAMA, GEMMA3, BERT, ALBERT, GPT2], ids=lambda arch: arch.name)


def given() -> dict[str, Any]:
    return {"input_ids": tokens(), "attention_mask": mask_of("left-padded")}


def blocks(model: PreTrainedModel, arch: Arch) -> list[nn.Module]:
    return [model.get_submodule(path) for path in traced(arch).blocks]


@some
def test_class_name_and_isinstance_stay(arch: Arch) -> None:
    before, after = build(arch), bound(arch)
    for old, new in zip(blocks(before, arch), blocks(after, arch), strict=True):
        assert is_bound(new)
        assert not is_bound(old)
        assert isinstance(new, type(old))
        assert (type(new).__qualname__, type(new).__module__) == (type(old).__qualname__, type(old).__module__)
    assert before.state_dict().keys() == after.state_dict().keys()


@some
def test_unbind_gives_the_class_back(arch: Arch) -> None:
    model = bound(arch)
    for old, new in zip(blocks(build(arch), arch), blocks(model, arch), strict=True):
        unbind(new)
        assert type(new) is type(old)
        assert not is_bound(new)
    with torch.no_grad():
        assert torch.equal(model(**given()).logits, build(arch)(**given()).logits)


def test_binding_twice_replaces_the_graph() -> None:
    model = bound(LLAMA)
    layer = blocks(model, LLAMA)[0]
    graph = traced(LLAMA).blocks["model.layers.0"].copy()
    bind(layer, graph)
    assert type(layer).fyc_graph is graph
    unbind(layer)
    assert not is_bound(layer)


@some
def test_output_hidden_states_and_attentions(arch: Arch) -> None:
    results = []
    for model in (build(arch), bound(arch)):
        model.set_attn_implementation("eager")
        with torch.no_grad():
            results.append(model(**given(), output_hidden_states=True, output_attentions=True))
    expected, actual = results
    assert len(expected.hidden_states) == 4
    assert len(expected.attentions) == 3
    torch.testing.assert_close(actual.hidden_states, expected.hidden_states)
    torch.testing.assert_close(actual.attentions, expected.attentions)


@some
def test_forward_hooks_fire(arch: Arch) -> None:
    model = bound(arch)
    seen: list[nn.Module] = []
    layer = blocks(model, arch)[-1]
    layer.register_forward_hook(lambda module, args, output: seen.append(module))
    layer.register_forward_pre_hook(lambda module, args: seen.append(module))
    with torch.no_grad():
        model(**given())
    calls = [call.path for call in traced(arch).calls].count(list(traced(arch).blocks)[-1])
    assert seen == [layer, layer] * calls


@some
@pytest.mark.parametrize("reentrant", [False, True])
def test_gradients_with_and_without_checkpointing(arch: Arch, reentrant: bool) -> None:
    gradients = []
    for model in (build(arch), bound(arch)):
        if arch is not ALBERT:
            model.gradient_checkpointing_enable({"use_reentrant": reentrant})
            model.enable_input_require_grads()
        model.train()
        torch.manual_seed(5)
        model(**given(), use_cache=False).logits.square().mean().backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert len(gradients[0]) > 10
    torch.testing.assert_close(gradients[1], gradients[0], rtol=0, atol=0)


def test_checkpointing_runs_the_block_again() -> None:
    model = bound(LLAMA)
    calls: list[int] = []
    model.get_submodule("model.layers.0.self_attn.q_proj").register_forward_hook(lambda *_: calls.append(1))
    model.gradient_checkpointing_enable({"use_reentrant": False})
    model.train()
    model(**given(), use_cache=False).logits.mean().backward()
    assert len(calls) == 2


@some
def test_deepcopy_is_bound_and_independent(arch: Arch) -> None:
    model = bound(arch)
    again = copy.deepcopy(model)
    assert all(is_bound(layer) for layer in blocks(again, arch))
    with torch.no_grad():
        expected = model(**given()).logits
        assert torch.equal(again(**given()).logits, expected)
        for parameter in again.parameters():
            parameter.zero_()
        assert torch.equal(model(**given()).logits, expected)
    unbind(blocks(again, arch)[0])
    assert is_bound(blocks(model, arch)[0])


@pytest.mark.parametrize("save", [pickle.dumps, lambda model: torch.save(model, io.BytesIO())], ids=["pickle", "torch"])
def test_pickling_is_refused(save: Any) -> None:
    model = bound(LLAMA)
    with pytest.raises(FycError, match="cannot be pickled") as raised:
        save(model)
    assert raised.value.code == "FYC-A08"
    for layer in blocks(model, LLAMA):
        unbind(layer)
    save(model)


def test_a_state_dict_can_be_saved() -> None:
    model, buffer = bound(LLAMA), io.BytesIO()
    torch.save(model.state_dict(), buffer)
    buffer.seek(0)
    assert model.load_state_dict(torch.load(buffer)).missing_keys == []


def test_a_graph_that_does_not_fit_is_refused() -> None:
    with pytest.raises(FycError, match="does not have") as raised:
        bind(blocks(build(BERT), BERT)[0], traced(LLAMA).blocks["model.layers.0"])
    assert raised.value.code == "FYC-G07"


def test_equal_layers_share_their_code() -> None:
    layers = blocks(bound(LLAMA), LLAMA)
    inner = {inspect.unwrap(type(layer).forward).__code__ for layer in layers}
    assert len(inner) == 1


def test_lora_adapters_train_on_bound_layers() -> None:
    peft = pytest.importorskip("peft", reason="peft is not installed (extra `dev`): LoRA on bound layers is not tested")
    results = []
    for model in (build(LLAMA), bound(LLAMA)):
        config = peft.LoraConfig(r=4, target_modules=["q_proj", "down_proj"], init_lora_weights=False, lora_dropout=0.1)
        torch.manual_seed(2)
        adapted = peft.get_peft_model(model, config)
        adapted.train()
        torch.manual_seed(3)
        adapted(**given()).logits.square().mean().backward()
        gradients = {name: p.grad for name, p in adapted.named_parameters() if p.grad is not None}
        adapted.eval()
        text = adapted.generate(**given(), max_new_tokens=16, do_sample=False)
        results.append((gradients, text))
    assert len(results[0][0]) == 3 * 2 * 2
    torch.testing.assert_close(results[1][0], results[0][0], rtol=0, atol=0)
    assert torch.equal(results[1][1], results[0][1])


@pytest.mark.slow
@some
def test_compiles_as_one_graph(arch: Arch) -> None:
    model = bound(arch)
    with torch.no_grad():
        expected = model(**given()).logits
        compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
        torch.testing.assert_close(compiled(**given()).logits, expected)


@pytest.mark.parametrize("arch", ALL, ids=lambda arch: arch.name)
def test_training_mode_draws_the_same_dropout(arch: Arch) -> None:
    """Trap (c): a trace in evaluation mode would leave dropout out."""
    rates = {"attention_dropout": 0.2, "attention_probs_dropout_prob": 0.2, "attn_pdrop": 0.2, "dropout": 0.2}
    known = build(arch).config.to_dict()
    noisy = replace(arch, name=arch.name, changes={**arch.changes, **{k: v for k, v in rates.items() if k in known}})
    plain, changed = build(noisy), build(noisy)
    for path, graph in trace_model(changed).blocks.items():
        bind(changed.get_submodule(path), graph)
    outputs = []
    for model in (plain, changed):
        model.train()
        torch.manual_seed(11)
        outputs.append(model(**given()).logits)
    torch.testing.assert_close(outputs[1], outputs[0], rtol=0, atol=1e-5)
    plain.eval()
    assert not torch.allclose(plain(**given()).logits, outputs[0], atol=1e-3), "this model has no dropout to test"
    changed.eval()
    torch.testing.assert_close(changed(**given()).logits, plain(**given()).logits, rtol=0, atol=1e-5)

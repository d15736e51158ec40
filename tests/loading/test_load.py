"""`fyc.load` and transformers' own `from_pretrained`: what a loaded artifact is, and what it refuses to do."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import toys
import transformers
from torch import Tensor, nn

import fyc
from fyc import ir
from fyc.engine import convert
from fyc.errors import ArtifactError
from fyc.models import load_plain

pytestmark = pytest.mark.usefixtures("traced_once")
IDS = torch.arange(2, 26).reshape(2, 12)


def logits(model: nn.Module, ids: Tensor = IDS) -> Tensor:
    with torch.no_grad():
        return model(ids).logits


def test_a_loaded_model_is_the_transformers_model() -> None:
    model = fyc.load(toys.artifact().path)
    assert type(model) is transformers.LlamaForCausalLM
    assert not model.training
    assert {parameter.device.type for parameter in model.parameters()} == {"cpu"}
    assert all(ir.is_bound(layer) for layer in model.model.layers)
    assert isinstance(model.model.layers[0], transformers.models.llama.modeling_llama.LlamaDecoderLayer)
    assert model.generation_config.bos_token_id == 1
    assert not any(tensor.is_meta for tensor in model.state_dict().values())


@pytest.mark.parametrize(
    "cls", [transformers.AutoModelForCausalLM, transformers.LlamaForCausalLM], ids=["auto", "concrete"]
)
def test_from_pretrained_gives_the_same_model(cls: Any) -> None:
    expected = fyc.load(toys.artifact().path)
    model = cls.from_pretrained(toys.artifact().path)
    assert all(ir.is_bound(layer) for layer in model.model.layers)
    torch.testing.assert_close(model.state_dict(), expected.state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(logits(model), logits(expected), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["AutoModel", "LlamaModel", "LlamaForSequenceClassification", "AutoModelForMaskedLM"])
def test_another_class_is_refused(name: str) -> None:
    """Its head or body would be random, or its aliases would point nowhere."""
    with pytest.raises((ArtifactError, ValueError)) as caught:
        getattr(transformers, name).from_pretrained(toys.artifact().path)
    if isinstance(caught.value, ArtifactError):
        assert caught.value.code == "FYC-A06"
        assert "LlamaForCausalLM" in str(caught.value)
    else:
        assert name == "AutoModelForMaskedLM"
        assert "Unrecognized configuration class" in str(caught.value)


TIED = {
    "llama": ("lm_head.weight", "model.embed_tokens.weight"),
    "gpt2": ("lm_head.weight", "transformer.wte.weight"),
    "opt": ("lm_head.weight", "model.decoder.embed_tokens.weight"),
    "bert": ("cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight"),
    "albert": ("predictions.decoder.bias", "predictions.bias"),
}


@pytest.mark.parametrize("family", TIED)
@pytest.mark.parametrize("name", ["toy-round", "toy-rows"])
def test_tied_tensors_stay_one_object(family: str, name: str) -> None:
    model = fyc.load(toys.artifact(family, name).path)
    a, b = (model.get_parameter(path) for path in TIED[family])
    assert a is b
    assert isinstance(a, nn.Parameter)


def test_untied_tensors_are_two_objects() -> None:
    model = fyc.load(toys.artifact("untied").path)
    assert model.lm_head.weight is not model.model.embed_tokens.weight
    assert not torch.equal(model.lm_head.weight, model.model.embed_tokens.weight)


class Untie(fyc.Pass[fyc.PassOptions]):
    """Gives the head a matrix of its own although the configuration ties it."""

    name = "toy-untie"
    summary = "unties the head"

    def targets(self, model: Any) -> dict[str, int]:
        return {"lm_head": 0}

    def run_outer(self, outer: Any, ctx: Any) -> Any:
        outer.module.lm_head.weight = nn.Parameter(outer.module.lm_head.weight.detach() * 3)
        return fyc.PassResult([fyc.ModuleReport("lm_head", "untied")])

    def run(self, block: Any, ctx: Any) -> Any:
        return fyc.PassResult()


def test_a_pass_may_untie_the_head(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = convert(toys.toy_plan(toys.model(), tmp_path / "out", "toy-untie", host=toys.toy_host(Untie)))
    model = fyc.load(made.path)
    assert made.manifest.aliases == {}
    torch.testing.assert_close(model.lm_head.weight, model.model.embed_tokens.weight * 3)
    expected = 3 * logits(load_plain(toys.model()))
    torch.testing.assert_close(logits(model), expected, atol=1e-5, rtol=1e-5)
    assert "tie" not in caplog.text
    assert not model.config.tie_word_embeddings
    model.tie_weights()
    torch.testing.assert_close(logits(model), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_dtype_override(dtype: torch.dtype) -> None:
    """What is not quantized takes the new type; codes, scales and aliases stay."""
    model = fyc.load(toys.artifact().path, dtype=dtype)
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}
    assert model.lm_head.weight is model.model.embed_tokens.weight
    rows = model.model.layers[0].mlp.down_proj
    assert rows.codes.dtype == torch.int8
    full = fyc.load(toys.artifact().path)
    assert float((logits(model).float() - logits(full)).abs().max()) < 0.1
    by_class = transformers.LlamaForCausalLM.from_pretrained(toys.artifact().path, dtype=dtype)
    torch.testing.assert_close(by_class.state_dict(), model.state_dict(), rtol=0, atol=0)


def test_attention_implementation_can_be_chosen() -> None:
    eager = transformers.LlamaForCausalLM.from_pretrained(toys.artifact().path, attn_implementation="eager")
    assert eager.config._attn_implementation == "eager"
    torch.testing.assert_close(logits(eager), logits(fyc.load(toys.artifact().path)), atol=1e-5, rtol=1e-5)


SAVERS: dict[str, Callable[[nn.Module], Any]] = {
    "torch.save": lambda model: torch.save(model, io.BytesIO()),
    "pickle": pickle.dumps,
    "pickle protocol 2": lambda model: pickle.dumps(model, protocol=2),
    "pickle of one block": lambda model: pickle.dumps(model.model.layers[0]),
}


@pytest.mark.parametrize("save", SAVERS.values(), ids=SAVERS)
@pytest.mark.parametrize("name", ["toy-round", "toy-rows"])
def test_pickle_is_refused(save: Callable[[nn.Module], Any], name: str) -> None:
    """It would load transformers' own class and silently lose the graphs."""
    with pytest.raises(ArtifactError) as caught:
        save(fyc.load(toys.artifact("llama", name).path))
    assert caught.value.code == "FYC-A08"


@pytest.mark.parametrize("name", ["toy-round", "toy-rows"])
def test_save_pretrained_is_refused_and_leaves_no_weights(name: str, tmp_path: Path) -> None:
    model = fyc.load(toys.artifact("llama", name).path)
    with pytest.raises(ArtifactError) as caught:
        model.save_pretrained(tmp_path / "saved")
    assert caught.value.code == "FYC-A08"
    assert "copy the artifact" in caught.value.next
    assert not list(tmp_path.rglob("*.safetensors"))


def test_state_dict_round_trip() -> None:
    model, other = fyc.load(toys.artifact().path), fyc.load(toys.artifact().path)
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    buffer.seek(0)
    for parameter in other.parameters():
        parameter.data.zero_()
    other.model.layers[0].mlp.down_proj.codes.zero_()
    other.load_state_dict(torch.load(buffer, weights_only=True))
    torch.testing.assert_close(logits(other), logits(model), rtol=0, atol=0)


def test_deepcopy_keeps_the_graphs() -> None:
    model = fyc.load(toys.artifact().path)
    twin = copy.deepcopy(model)
    assert all(ir.is_bound(layer) for layer in twin.model.layers)
    torch.testing.assert_close(logits(twin), logits(model), rtol=0, atol=0)
    twin.model.layers[0].mlp.down_proj.scale.zero_()
    assert not torch.equal(logits(twin), logits(model))


def test_hidden_states_and_hooks_work() -> None:
    model = fyc.load(toys.artifact().path)
    seen: list[Tensor] = []
    model.model.layers[1].mlp.down_proj.register_forward_hook(lambda _, args, output: seen.append(output))
    with torch.no_grad():
        result = model(IDS, output_hidden_states=True)
    assert len(result.hidden_states) == 4
    assert len(seen) == 1


def test_adapters_train_beside_the_integer_weights() -> None:
    peft = pytest.importorskip("peft", reason="PEFT is in the `dev` extra: this test did NOT run")
    model = fyc.load(toys.artifact("llama", "{use: toy-rows, exclude: ['*.q_proj', '*.v_proj']}").path)
    before = logits(model)
    wrapped = peft.get_peft_model(
        model, peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=True)
    )
    torch.testing.assert_close(logits(wrapped), before, atol=1e-6, rtol=0)
    trained = [parameter for parameter in wrapped.parameters() if parameter.requires_grad]
    assert trained
    loss = wrapped(IDS, labels=IDS).loss
    loss.backward()
    assert any(float(parameter.grad.abs().sum()) > 0 for parameter in trained)
    torch.optim.SGD(trained, 0.5).step()
    wrapped(IDS, labels=IDS).loss.backward()
    torch.optim.SGD(trained, 0.5).step()
    assert float(wrapped(IDS, labels=IDS).loss.detach()) < float(loss.detach())
    assert float((logits(wrapped) - before).abs().max()) > 1e-5


def test_a_missing_pass_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FYC_DISABLE_PLUGINS", "toys")
    with pytest.raises(ArtifactError) as caught:
        fyc.load(toys.artifact("llama", "toy-rows").path)
    assert caught.value.code == "FYC-A04"
    assert "toy-rows" in str(caught.value)
    assert "fyc-toys" in str(caught.value)


def test_a_pass_that_left_no_module_need_not_be_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    made = toys.artifact("llama", "toy-round")
    expected = logits(fyc.load(made.path))
    monkeypatch.setenv("FYC_DISABLE_PLUGINS", "toys")
    torch.testing.assert_close(logits(fyc.load(made.path)), expected, rtol=0, atol=0)


def test_an_artifact_can_be_moved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    toys.copied(toys.artifact(), tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path)
    torch.testing.assert_close(logits(fyc.load("elsewhere")), logits(fyc.load(toys.artifact().path)), rtol=0, atol=0)


def test_a_link_to_the_folder_is_the_folder(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(toys.artifact().path, target_is_directory=True)
    fyc.load(tmp_path / "link")

"""Folder, GGUF file and hub: each gives a plain folder or says what to do."""

from __future__ import annotations

import shutil
import string
import sys
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
import transformers
from fyc_plugins.model_sources import AssetSource, FolderSource, GgufSource, HubSource, asset
from fyc_plugins.model_sources.gguf import card_and_licence

from fyc.errors import ModelError, PluginError, ResourceError, UserError
from fyc.models import ModelSource, load_plain, load_tokenizer, open_checkpoint, open_folder

SOURCES: list[ModelSource] = [HubSource(), FolderSource(), AssetSource(), GgufSource()]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FYC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


def opened(source: str, **options: Any) -> Path:
    return open_folder(source, sources=SOURCES, **options)


def test_they_keep_to_the_protocol() -> None:
    assert all(isinstance(source, ModelSource) for source in SOURCES)


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("asset:smollm2-135m", "asset"),
        ("model.gguf", "gguf"),
        ("a/b/model.GGUF", "gguf"),
        ("./here", "folder"),
        ("/somewhere", "folder"),
        ("~/models/x", "folder"),
        ("a/b/c", "folder"),
        ("", "folder"),
        ("gpt2", "hub"),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", "hub"),
    ],
)
def test_who_opens_what(source: str, name: str) -> None:
    accepting = [candidate for candidate in SOURCES if candidate.accepts(source)]
    assert max(accepting, key=lambda candidate: candidate.priority).name == name


@pytest.mark.parametrize("step", ["accepts", "open"])
def test_a_source_that_raises_is_named(step: str) -> None:
    class Source:
        name, priority = "mine", 99

        def accepts(self, source: str) -> bool:
            return step == "open" or bool(1 // 0)

        def open(self, source: str, *, revision: str | None, offline: bool) -> Path:
            return Path(str(1 // 0))

    with pytest.raises(PluginError) as caught:
        open_folder("anything", sources=[*SOURCES, Source()])
    assert (caught.value.code, caught.value.where) == ("FYC-P05", "anything")
    assert "'mine'" in caught.value.what
    assert "ZeroDivisionError" in caught.value.why


def test_an_existing_folder_wins_over_a_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gpt2").mkdir()
    monkeypatch.chdir(tmp_path)
    assert opened("gpt2") == Path("gpt2")


@pytest.mark.parametrize("source", ["./nothing", "/no/such/folder", "", "a/b/c"])
def test_a_folder_that_is_not_there(source: str) -> None:
    with pytest.raises(ModelError, match="FYC-M01"):
        opened(source)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ModelError, match="FYC-M01") as caught:
        opened(str(tmp_path / "file"))
    assert "file" in caught.value.why


def test_a_folder_has_no_revision(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="FYC-R09"):
        opened(str(tmp_path), revision="main")


def test_something_nobody_knows() -> None:
    with pytest.raises(ModelError, match="FYC-M01") as caught:
        opened("what is this?")
    assert "asset, folder, gguf, hub" in caught.value.why


def test_the_hub_s_local_cache_is_enough(tiny_model: Path, tmp_path: Path) -> None:
    repository = tmp_path / "hub" / "models--me--tiny"
    commit = "0123456789" * 4
    shutil.copytree(tiny_model, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    folder = opened("me/tiny", offline=True)
    assert folder == repository / "snapshots" / commit
    assert open_checkpoint("me/tiny", sources=SOURCES, offline=True).architecture == "LlamaForCausalLM"
    assert opened("me/tiny", offline=True, revision=commit) == folder


def test_a_hub_model_that_is_not_in_the_cache() -> None:
    with pytest.raises(ModelError, match=r"FYC-M01.*me/other at revision v2") as caught:
        opened("me/other", offline=True, revision="v2")
    assert "network" in caught.value.why


def test_hf_hub_offline_counts_as_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError, match="FYC-M01") as caught:
        opened("me/other")
    assert "HF_HUB_OFFLINE" in caught.value.why


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (ConnectionError("no route to host"), "FYC-M01", "no route"),
        (ValueError("strange"), "FYC-M01", "strange"),
        (OSError(28, "No space left on device"), "FYC-S01", "disk"),
    ],
)
def test_what_can_go_wrong_with_the_hub(
    monkeypatch: pytest.MonkeyPatch, error: Exception, code: str, says: str
) -> None:
    def failing(*args: object, **kwargs: object) -> str:
        raise error

    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(huggingface_hub, "snapshot_download", failing)
    with pytest.raises((ModelError, ResourceError), match=code) as caught:
        opened("me/other")
    assert says in str(caught.value)


# ---------------------------------------------------------------------------------------------------------- GGUF


def write_gguf(path: Path, model: transformers.LlamaForCausalLM, *, skip: str = "") -> Path:
    """A GGUF file with float32 weights, as llama.cpp's converter lays them out."""
    gguf = pytest.importorskip("gguf")
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    tokens = [*string.ascii_lowercase, "ab", "cd", *(f"<{i}>" for i in range(29, config.vocab_size)), "<|endoftext|>"]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([1] * len(tokens))
    writer.add_token_merges(["a b", "c d"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template("{{ messages[0].content }}")
    for name, tensor in gguf_tensors(model):
        if name != skip:
            writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def gguf_tensors(model: transformers.LlamaForCausalLM) -> list[tuple[str, np.ndarray[Any, Any]]]:
    names = {
        "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "post_attention_layernorm": "ffn_norm",
        "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
    }  # fmt: skip
    state = model.state_dict()
    found = [("token_embd.weight", "model.embed_tokens.weight"), ("output_norm.weight", "model.norm.weight")]
    found += [("output.weight", "lm_head.weight")]
    for layer in range(model.config.num_hidden_layers):
        found += [(f"blk.{layer}.{new}.weight", f"model.layers.{layer}.{old}.weight") for old, new in names.items()]
    tensors = []
    for name, old in found:
        tensor = state[old]
        heads = {"q_proj": model.config.num_attention_heads, "k_proj": model.config.num_key_value_heads}
        for part, count in heads.items():
            if part in old:  # llama.cpp interleaves the two halves of each rotary head
                rows, columns = tensor.shape
                tensor = tensor.reshape(count, 2, rows // count // 2, columns).transpose(1, 2).reshape(rows, columns)
        tensors.append((name, tensor.numpy()))
    return tensors


@pytest.fixture
def source_model() -> transformers.LlamaForCausalLM:
    config = transformers.LlamaConfig(
        vocab_size=64, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=128, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    torch.manual_seed(0)
    return transformers.LlamaForCausalLM(config).eval()


def test_a_gguf_file_becomes_a_plain_folder_once(
    source_model: transformers.LlamaForCausalLM, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").mkdir()
    path = write_gguf(tmp_path / "in" / "tiny.gguf", source_model)
    (tmp_path / "in" / "LICENSE").write_text("mine")
    folder = opened(str(path))
    checkpoint = open_checkpoint(path, sources=SOURCES)
    assert checkpoint.folder == folder
    assert (folder / "LICENSE").read_text() == "mine"
    assert "quantization_config" not in (folder / "config.json").read_text()
    model = load_plain(folder)
    expected = source_model.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in model.state_dict().items())
    ids = torch.arange(20)[None]
    torch.testing.assert_close(model(ids).logits, source_model(ids).logits)
    tokenizer = load_tokenizer(folder)
    assert len(tokenizer) == 64
    assert tokenizer.chat_template == "{{ messages[0].content }}"
    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", None)  # it is not loaded again
    assert opened(str(path)) == folder


def test_a_changed_gguf_file_is_converted_again(source_model: transformers.LlamaForCausalLM, tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", source_model)
    first = opened(str(path))
    with torch.no_grad():
        source_model.model.norm.weight.add_(1)
    write_gguf(path, source_model)
    second = opened(str(path))
    assert first != second
    assert torch.equal(load_plain(second).model.norm.weight, source_model.model.norm.weight)


def test_damaged_gguf_files(source_model: transformers.LlamaForCausalLM, tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", source_model)
    content = path.read_bytes()
    for damaged in (b"", content[:3], b"GGML" + content[4:], content[:200], content[: len(content) // 2], content[:-8]):
        path.write_bytes(damaged)
        with pytest.raises(ModelError, match=r"FYC-M03.*tiny\.gguf"):
            opened(str(path))
    assert not list((tmp_path / "cache" / "gguf").glob("*/config.json"))


def test_a_gguf_file_that_lacks_a_tensor(source_model: transformers.LlamaForCausalLM, tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", source_model, skip="blk.1.ffn_up.weight")
    with pytest.raises(ModelError, match="FYC-M05") as caught:
        opened(str(path))
    assert "model.layers.1.mlp.up_proj.weight" in caught.value.why


def test_a_model_asset(source_model: transformers.LlamaForCausalLM, tmp_path: Path, monkeypatch: Any) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", source_model)
    asked = []

    def fetched(name: str, *, offline: bool) -> Path:
        asked.append((name, offline))
        return path

    monkeypatch.setattr(asset, "fetch", fetched)
    folder = opened("asset:smollm2-135m", offline=True)
    assert asked == [("smollm2-135m", True)]
    assert torch.equal(load_plain(folder).model.norm.weight, source_model.model.norm.weight)
    with pytest.raises(UserError, match="FYC-R09"):
        opened("asset:smollm2-135m", revision="main")


def test_assets_that_are_no_models() -> None:
    with pytest.raises(ModelError, match=r"FYC-M01.*is a text"):
        opened("asset:lee")
    with pytest.raises(UserError, match="FYC-D01"):
        opened("asset:smollm")


def test_a_gguf_file_that_is_not_there() -> None:
    with pytest.raises(ModelError, match="FYC-M01"):
        opened("nothing.gguf")


@pytest.mark.parametrize("package", ["gguf", "accelerate"])
def test_the_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ModelError, match="FYC-M06") as caught:
        opened(str(tmp_path / "a.gguf"))
    assert "pip install 'fyc[gguf]'" in caught.value.next


def test_a_gguf_file_takes_only_the_card_and_licence_of_a_model_folder(tmp_path: Path) -> None:
    for name in ("model.gguf", "README.md", "LICENSE", ".gitattributes", "sha256.json"):
        (tmp_path / name).write_text("x")
    found = card_and_licence(tmp_path / "model.gguf")
    assert {file.name for file in found} == {"README.md", "LICENSE"}
    (tmp_path / "train.py").write_text("x")  # a project: its README is not the model's
    assert card_and_licence(tmp_path / "model.gguf") == []

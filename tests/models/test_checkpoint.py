"""Opening a model folder: names as checkpoints in the wild have them, and every way a folder can be wrong."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel
from zoo import GROUPED, SMALL, Tensors, assert_equal, reference_of, tiny

from fyc.errors import ModelError
from fyc.models import Checkpoint, load_plain, load_tokenizer, materialize, names, read_checkpoint, skeleton


def save(model: PreTrainedModel, folder: Path, change: Callable[[Tensors], Tensors] = lambda tensors: tensors) -> Path:
    model.save_pretrained(folder)
    file = folder / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})
    return folder


def save_sharded(folder: Path) -> Path:
    tiny("LlamaForCausalLM").save_pretrained(folder, max_shard_size="20KB")
    return folder


def edit_json(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def assert_loads(folder: Path) -> Checkpoint:
    checkpoint = read_checkpoint(folder)
    model = skeleton(checkpoint)
    materialize(model, [""], checkpoint)
    assert_equal(model, reference_of(folder, checkpoint.architecture))
    return checkpoint


def test_facts(tmp_path: Path) -> None:
    save_sharded(tmp_path)
    for name in ("README.md", "LICENSE", "tokenizer.json", "training_args.bin", "notes.txt"):
        (tmp_path / name).write_text("x")
    checkpoint = read_checkpoint(tmp_path)
    assert checkpoint.architecture == "LlamaForCausalLM"
    assert checkpoint.size_bytes == sum(file.stat().st_size for file in tmp_path.glob("*.safetensors"))
    names = {path.name for path in checkpoint.companions}
    assert names == {"README.md", "LICENSE", "tokenizer.json", "generation_config.json"}
    info = checkpoint.tensors["model.layers.0.self_attn.k_proj.weight"]
    assert (info.shape, info.dtype, info.nbytes) == ((16, 32), torch.float32, 2048)
    assert checkpoint.dtype == torch.float32


def test_digest_depends_on_every_byte_and_nothing_else(tmp_path: Path) -> None:
    save_sharded(tmp_path)
    digest = read_checkpoint(tmp_path).digest()
    assert re.fullmatch("[0-9a-f]{64}", digest)
    (tmp_path / "README.md").write_text("x")
    assert read_checkpoint(tmp_path).digest() == digest
    shard = min(tmp_path.glob("*.safetensors"))
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(bytes(content))
    assert read_checkpoint(tmp_path).digest() != digest


def test_names_without_the_model_s_prefix(tmp_path: Path) -> None:
    def without(tensors: Tensors) -> Tensors:
        return {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}

    assert_loads(save(tiny("GPT2LMHeadModel"), tmp_path, without))


def test_gamma_and_beta_of_old_checkpoints(tmp_path: Path) -> None:
    def old(tensors: Tensors) -> Tensors:
        return {
            name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): tensor
            for name, tensor in tensors.items()
        }

    assert assert_loads(save(tiny("BertForMaskedLM"), tmp_path, old)).streaming


def test_tensors_the_model_has_no_place_for_are_listed(tmp_path: Path) -> None:
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    save(tiny("LlamaForCausalLM"), tmp_path, lambda tensors: tensors | {name: torch.ones(4)})
    assert assert_loads(tmp_path).unused == (name,)


def test_a_tied_tensor_stored_under_its_other_name(tmp_path: Path) -> None:
    def swapped(tensors: Tensors) -> Tensors:
        return {("lm_head.weight" if "embed" in name else name): tensor for name, tensor in tensors.items()}

    assert_loads(save(tiny("Qwen2ForCausalLM"), tmp_path, swapped))


@pytest.mark.parametrize("different", [False, True])
def test_a_tied_tensor_stored_twice(tmp_path: Path, different: bool) -> None:
    def twice(tensors: Tensors) -> Tensors:
        return tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"] + float(different)}

    checkpoint = assert_loads(save(tiny("Qwen2ForCausalLM"), tmp_path, twice))
    assert checkpoint.untied == different
    assert skeleton(checkpoint).config.tie_word_embeddings is not different


def save_mixture(folder: Path, family: str = "Mixtral") -> Path:
    experts = {"num_local_experts": 4, "num_experts": 4, "moe_intermediate_size": 16}
    config = getattr(transformers, f"{family}Config")(**GROUPED, **experts)
    torch.manual_seed(0)
    getattr(transformers, f"{family}ForCausalLM")(config).save_pretrained(folder, max_shard_size="20KB")
    return folder


@pytest.mark.parametrize("family", ["Mixtral", "Qwen2Moe", "Qwen3Moe", "Olmoe"])
def test_experts_that_are_stored_one_by_one_are_merged(tmp_path: Path, family: str) -> None:
    checkpoint = assert_loads(save_mixture(tmp_path, family))
    assert checkpoint.streaming
    name = "model.layers.1.mlp.experts.down_proj"
    expected = getattr(transformers, f"{family}ForCausalLM").from_pretrained(tmp_path).state_dict()[name]
    assert checkpoint.tensors[name].shape == expected.shape
    read = checkpoint.read([name], dtype=torch.bfloat16)[name]
    assert torch.equal(read, expected.bfloat16())


def test_a_missing_expert_is_noticed(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = transformers.MixtralForCausalLM(transformers.MixtralConfig(**GROUPED, num_local_experts=4))

    def less(tensors: Tensors) -> Tensors:
        return {
            name: tensor for name, tensor in tensors.items() if "layers.1" not in name or "experts.2.w2" not in name
        }

    with pytest.raises(ModelError, match=r"FYC-M05.*layers\.1\.mlp\.experts\.down_proj"):
        read_checkpoint(save(model, tmp_path, less))


@pytest.fixture
def whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if no merge could be done on its own."""
    monkeypatch.setattr(names, "_planned", lambda merges, infos: None if merges else {})


@pytest.mark.usefixtures("whole")
def test_what_cannot_be_merged_alone_is_loaded_whole(tmp_path: Path) -> None:
    checkpoint = assert_loads(save_mixture(tmp_path))
    assert not checkpoint.streaming
    name = "model.layers.0.mlp.experts.down_proj"
    assert checkpoint.read([name], dtype=torch.bfloat16)[name].dtype == torch.bfloat16


@pytest.mark.usefixtures("whole")
def test_what_is_loaded_whole_is_checked_too(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = transformers.MixtralForCausalLM(transformers.MixtralConfig(**GROUPED, num_local_experts=2))

    def damaged(tensors: Tensors) -> Tensors:
        tensors["model.norm.weight"][0] = float("nan")
        return tensors

    checkpoint = read_checkpoint(save(model, tmp_path / "nan", damaged))
    with pytest.raises(ModelError, match=r"FYC-M04.*model\.norm\.weight"):
        checkpoint.read(["model.norm.weight"])

    def less(tensors: Tensors) -> Tensors:
        return {name: tensor for name, tensor in tensors.items() if name != "model.norm.weight"}

    checkpoint = read_checkpoint(save(model, tmp_path / "less", less))
    with pytest.raises(ModelError, match=r"FYC-M02.*model\.norm\.weight"):
        checkpoint.read(["model.norm.weight"])


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    save_sharded(tmp_path)
    shard = sorted(tmp_path.glob("*.safetensors"))[1]
    shard.unlink()
    with pytest.raises(ModelError, match=f"FYC-M02.*{shard.name}") as caught:
        read_checkpoint(tmp_path)
    assert "index" in caught.value.why


def test_a_missing_index_is_named(tmp_path: Path) -> None:
    save_sharded(tmp_path)
    (tmp_path / "model.safetensors.index.json").unlink()
    with pytest.raises(ModelError, match=r"FYC-M02.*index"):
        read_checkpoint(tmp_path)


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    def less(tensors: Tensors) -> Tensors:
        return {name: tensor for name, tensor in tensors.items() if "layers.1.mlp.up_proj" not in name}

    save(tiny("LlamaForCausalLM"), tmp_path, less)
    with pytest.raises(ModelError, match=r"FYC-M02.*model\.layers\.1\.mlp\.up_proj\.weight"):
        read_checkpoint(tmp_path)


def test_a_checkpoint_saved_without_its_head_is_incomplete(tmp_path: Path) -> None:
    tiny("BertForMaskedLM").bert.save_pretrained(tmp_path)
    edit_json(tmp_path / "config.json", architectures=["BertForMaskedLM"])
    with pytest.raises(ModelError, match=r"FYC-M02.*cls\.predictions") as caught:
        read_checkpoint(tmp_path)
    assert "head" in caught.value.next


def test_an_index_that_names_a_tensor_its_shard_lacks(tmp_path: Path) -> None:
    save_sharded(tmp_path)
    index = tmp_path / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    shards = sorted(set(content["weight_map"].values()))
    content["weight_map"]["model.norm.weight"] = shards[0]
    index.write_text(json.dumps(content))
    with pytest.raises(ModelError, match=r"FYC-M02.*model\.norm\.weight"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("label", ["../secret.safetensors", "/etc/passwd", "a/b", "..", "", "a\\b"])
def test_an_index_cannot_point_outside_its_folder(tmp_path: Path, label: str) -> None:
    save_sharded(tmp_path)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"model.norm.weight": label}}))
    with pytest.raises(ModelError, match="FYC-M03"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"weight_map": 3}', "{", "[" * 100_000])
def test_an_index_that_is_no_index(tmp_path: Path, content: str) -> None:
    save_sharded(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text(content)
    with pytest.raises(ModelError, match=r"FYC-M03.*index"):
        read_checkpoint(tmp_path)


def test_a_damaged_shard_is_named(tmp_path: Path) -> None:
    save_sharded(tmp_path)
    shard = min(tmp_path.glob("*.safetensors"))
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(ModelError, match=f"FYC-M03.*{shard.name}"):
        read_checkpoint(tmp_path)


def test_weights_that_do_not_fit_the_configuration(tmp_path: Path) -> None:
    save(tiny("LlamaForCausalLM"), tmp_path)
    edit_json(tmp_path / "config.json", intermediate_size=64)
    with pytest.raises(ModelError, match=r"FYC-M05.*mlp.*_proj") as caught:
        read_checkpoint(tmp_path)
    assert "[48, 32]" in caught.value.why
    assert "[64, 32]" in caught.value.why


def test_nan_in_the_weights_names_the_tensor(tmp_path: Path) -> None:
    def poison(tensors: Tensors) -> Tensors:
        tensors["model.layers.1.self_attn.o_proj.weight"][3, 4] = float("inf")
        return tensors

    checkpoint = read_checkpoint(save(tiny("LlamaForCausalLM"), tmp_path, poison))
    materialize(skeleton(checkpoint), ["model.layers.0"], checkpoint)
    with pytest.raises(ModelError, match=r"FYC-M04.*model\.layers\.1\.self_attn\.o_proj\.weight"):
        materialize(skeleton(checkpoint), ["model.layers.1"], checkpoint)


def test_reading_an_unknown_name(tmp_path: Path) -> None:
    checkpoint = read_checkpoint(save(tiny("LlamaForCausalLM"), tmp_path))
    with pytest.raises(ModelError, match=r"FYC-M02.*nothing"):
        checkpoint.read(["nothing"])


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="FYC-M01"):
        read_checkpoint(tmp_path)


def test_pickles_are_not_read(tmp_path: Path) -> None:
    save(tiny("LlamaForCausalLM"), tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(ModelError, match="FYC-M02") as caught:
        read_checkpoint(tmp_path)
    assert "pickle" in caught.value.why


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"architectures": None}, "architectures"),
        ({"architectures": ["LlamaForCausalLM", "LlamaModel"]}, "architectures"),
        ({"architectures": ["MyOwnModel"]}, "MyOwnModel"),
        ({"architectures": ["load_tokenizer"]}, "load_tokenizer"),
        ({"architectures": ["LlamaConfig"]}, "LlamaConfig"),
        ({"model_type": "no-such-type"}, "no-such-type"),
        ({"hidden_size": "many"}, "config.json"),
        ({"quantization_config": {"quant_method": "gptq"}}, "gptq"),
        ({"quantization_config": {"quant_method": "fyc"}}, "fyc artifact"),
    ],
)
def test_configurations_that_cannot_be_used(tmp_path: Path, changes: dict[str, object], says: str) -> None:
    save(tiny("LlamaForCausalLM"), tmp_path)
    edit_json(tmp_path / "config.json", **changes)
    with pytest.raises(ModelError, match="FYC-M05") as caught:
        read_checkpoint(tmp_path)
    assert says in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xff", b"[" * 100_000])
def test_a_configuration_that_is_not_json(tmp_path: Path, content: bytes) -> None:
    save(tiny("LlamaForCausalLM"), tmp_path)
    (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(ModelError, match="FYC-M05"):
        read_checkpoint(tmp_path)


def test_code_that_comes_with_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    save(tiny("LlamaForCausalLM"), tmp_path)
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    auto_map = {"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"}
    edit_json(tmp_path / "config.json", auto_map=auto_map, model_type="evil", architectures=["EvilModel"])
    with pytest.raises(ModelError, match="FYC-M05"):
        read_checkpoint(tmp_path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation", "experts_implementation"])
def test_kernels_that_a_configuration_names_are_not_fetched(tmp_path: Path, key: str) -> None:
    save(tiny("LlamaForCausalLM"), tmp_path)
    plain = load_plain(tmp_path).config
    edit_json(tmp_path / "config.json", **{key: "somebody/kernel@main"})
    config = load_plain(tmp_path).config
    assert config._attn_implementation == plain._attn_implementation == "sdpa"
    assert config._experts_implementation == plain._experts_implementation


def test_load_plain_equals_from_pretrained(tmp_path: Path) -> None:
    config = transformers.GPTNeoXConfig(**SMALL)
    torch.manual_seed(0)
    transformers.GPTNeoXForCausalLM(config).save_pretrained(tmp_path)
    assert_equal(load_plain(tmp_path), reference_of(tmp_path, "GPTNeoXForCausalLM"))
    assert_equal(load_plain(tmp_path, torch.bfloat16), reference_of(tmp_path, "GPTNeoXForCausalLM", torch.bfloat16))


def test_a_missing_tokenizer(tmp_path: Path) -> None:
    save(tiny("LlamaForCausalLM"), tmp_path)
    with pytest.raises(ModelError, match="FYC-M07"):
        load_tokenizer(tmp_path)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_of_reading_is_one_block(tmp_path: Path) -> None:
    config = transformers.LlamaConfig(
        **GROUPED | {"num_hidden_layers": 12, "hidden_size": 512, "intermediate_size": 2048}
    )
    with torch.device("meta"):
        model = transformers.LlamaForCausalLM(config).to(torch.bfloat16)
    model.to_empty(device="cpu")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    model.save_pretrained(tmp_path, max_shard_size="40MB")
    script = f"""
        import torch
        from pathlib import Path
        from fyc.models import *
        torch.set_num_threads(1)
        checkpoint = read_checkpoint(Path({str(tmp_path)!r}))
        for dtype in (torch.bfloat16, torch.float32):
            model = skeleton(checkpoint, dtype)
            for index in range(12):
                materialize(model, [f"model.layers.{{index}}"], checkpoint)
                release(model, f"model.layers.{{index}}")
                if index == 0:
                    first = peak_memory_bytes()
            print(peak_memory_bytes() - first)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True)
    assert all(int(growth) < 4 << 20 for growth in done.stdout.split())
    assert len(done.stdout.split()) == 2

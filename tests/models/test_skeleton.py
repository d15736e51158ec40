"""Materialized skeletons equal what `from_pretrained` gives, for every architecture fyc names."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers
from zoo import ARCHITECTURES, assert_equal, reference_of, tensors, ties, tiny

from fyc.errors import ModelError
from fyc.ir import find_blocks
from fyc.models import materialize, outer_paths, read_checkpoint, release, skeleton, tied_aliases


@pytest.fixture(scope="module", params=sorted(ARCHITECTURES))
def saved(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    folder = tmp_path_factory.mktemp(request.param)
    tiny(request.param).save_pretrained(folder, max_shard_size="20KB")
    return request.param, folder


def test_the_skeleton_has_no_weights_and_the_model_s_ties(saved: tuple[str, Path]) -> None:
    architecture, folder = saved
    model = skeleton(read_checkpoint(folder))
    assert type(model).__name__ == architecture
    assert all(tensor.is_meta for tensor in tensors(model).values())
    assert ties(tensors(model)) == ties(tensors(reference_of(folder, architecture)))


def test_the_whole_model(saved: tuple[str, Path]) -> None:
    architecture, folder = saved
    checkpoint = read_checkpoint(folder)
    assert checkpoint.streaming
    assert len(checkpoint.files) > 1
    model = skeleton(checkpoint)
    materialize(model, [""], checkpoint)
    reference = reference_of(folder, architecture)
    assert_equal(model, reference)
    assert model.config.to_dict() == reference.config.to_dict()
    if model.can_generate():
        assert model.generation_config.to_dict() == reference.generation_config.to_dict()


def test_block_by_block(saved: tuple[str, Path]) -> None:
    architecture, folder = saved
    checkpoint = read_checkpoint(folder)
    model = skeleton(checkpoint)
    blocks = find_blocks(model)
    expected = tensors(reference_of(folder, architecture))
    outside = outer_paths(model, blocks)
    materialize(model, outside, checkpoint)
    within = tuple(f"{block}." for block in blocks)
    for name, tensor in tensors(model).items():
        assert tensor.is_meta == name.startswith(within), name
    for block in blocks:
        materialize(model, [block], checkpoint)
        for name, tensor in model.get_submodule(block).state_dict().items():
            assert torch.equal(tensor, expected[f"{block}.{name}"])
        release(model, block)
        assert all(tensor.is_meta for tensor in model.get_submodule(block).parameters())
    materialize(model, blocks, checkpoint)
    assert_equal(model, reference_of(folder, architecture))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_other_dtypes(saved: tuple[str, Path], dtype: torch.dtype) -> None:
    architecture, folder = saved
    checkpoint = read_checkpoint(folder)
    model = skeleton(checkpoint, dtype)
    materialize(model, [""], checkpoint)
    assert_equal(model, reference_of(folder, architecture, dtype))


def test_a_dtype_given_to_materialize_overrides_the_skeleton_s(tmp_path: Path) -> None:
    tiny("LlamaForCausalLM").save_pretrained(tmp_path)
    checkpoint = read_checkpoint(tmp_path)
    model = skeleton(checkpoint)
    materialize(model, ["model.layers.0"], checkpoint, dtype=torch.bfloat16)
    layer = model.get_submodule("model.layers.0")
    assert {parameter.dtype for parameter in layer.parameters()} == {torch.bfloat16}


def test_parameters_kept_in_float32_stay_so(tmp_path: Path) -> None:
    config = transformers.T5Config(vocab_size=64, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4)
    torch.manual_seed(0)
    transformers.T5ForConditionalGeneration(config).save_pretrained(tmp_path)
    checkpoint = read_checkpoint(tmp_path)
    model = skeleton(checkpoint, torch.float16)
    materialize(model, [""], checkpoint)
    assert_equal(model, reference_of(tmp_path, "T5ForConditionalGeneration", torch.float16))
    assert {tensor.dtype for tensor in tensors(model).values()} == {torch.float16, torch.float32}


def test_a_tied_tensor_is_read_once_whichever_name_comes_first(tmp_path: Path) -> None:
    tiny("Qwen2ForCausalLM").save_pretrained(tmp_path)
    checkpoint = read_checkpoint(tmp_path)
    model = skeleton(checkpoint)
    assert tied_aliases(model) == {"lm_head.weight": "model.embed_tokens.weight"}
    assert "lm_head.weight" not in checkpoint.tensors
    materialize(model, ["lm_head"], checkpoint)
    assert model.model.embed_tokens.weight.is_meta
    materialize(model, ["model.embed_tokens"], checkpoint)
    assert model.lm_head.weight is model.model.embed_tokens.weight


def test_single_tensors_can_be_named(tmp_path: Path) -> None:
    tiny("LlamaForCausalLM").save_pretrained(tmp_path)
    checkpoint = read_checkpoint(tmp_path)
    model = skeleton(checkpoint)
    materialize(model, ["model.norm.weight"], checkpoint)
    assert [name for name, tensor in tensors(model).items() if not tensor.is_meta] == ["model.norm.weight"]
    release(model, "model.norm.weight")
    assert model.model.norm.weight.is_meta


def test_outer_paths_are_few_and_cover_everything_else() -> None:
    model = tiny("BertForMaskedLM")
    blocks = find_blocks(model)
    assert outer_paths(model, blocks) == ["bert.embeddings", "cls"]
    assert outer_paths(model, []) == [""]


def test_what_a_pass_put_in_place_is_left_alone(tmp_path: Path) -> None:
    tiny("LlamaForCausalLM").save_pretrained(tmp_path)
    checkpoint = read_checkpoint(tmp_path)
    model = skeleton(checkpoint)
    own = torch.nn.Linear(32, 32, bias=False)
    model.model.layers[0].self_attn.q_proj = own
    materialize(model, ["model.layers.0"], checkpoint)
    assert model.model.layers[0].self_attn.q_proj is own
    assert not model.model.layers[0].self_attn.k_proj.weight.is_meta


def test_a_buffer_that_nobody_computes_is_an_error(tmp_path: Path) -> None:
    tiny("LlamaForCausalLM").save_pretrained(tmp_path)
    checkpoint = read_checkpoint(tmp_path)
    model = skeleton(checkpoint)
    model.model.register_buffer("table", torch.empty(3, device="meta"), persistent=False)
    with pytest.raises(ModelError, match=r"FYC-M05.*model\.table"):
        materialize(model, [""], checkpoint)

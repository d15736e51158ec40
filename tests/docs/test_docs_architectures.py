"""docs/ir.md says what happens with architectures that fyc was not written for; this is what happens."""

from __future__ import annotations

import inspect
import re
from importlib.metadata import version
from typing import Any

import pytest
import torch
import transformers
from doc_pages import DOCS, sections

from fyc import ir
from fyc.errors import TraceError

_ROWS = re.findall(
    r"^\| `(\w+)` \| (traced|refused), *([^|]*)\| ([^|]*?) *\|$|^\| `(\w+)` \| (traced)([^|]*)\| ([^|]*?) *\|$",
    sections(DOCS / "ir.md")["What is supported"],
    re.MULTILINE,
)
#: Architecture: (outcome, remark, outcome with `opaque: keep`).
TABLE = {row[0] or row[4]: (row[1] or row[5], row[2] or row[6], row[3] or row[7]) for row in _ROWS}

_PLAIN: dict[str, Any] = {
    "vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
_GROUPED = _PLAIN | {"num_key_value_heads": 2}
_EXPERTS = _GROUPED | {"num_local_experts": 4, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
CONFIGS: dict[str, dict[str, Any]] = {
    "GPTNeoXForCausalLM": _PLAIN,
    "BloomForCausalLM": {"vocab_size": 96, "hidden_size": 32, "n_layer": 2, "n_head": 4},
    "GPTJForCausalLM": {
        "vocab_size": 96, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64, "rotary_dim": 4,
        "bos_token_id": 1, "eos_token_id": 2,
    },
    "GPTNeoForCausalLM": {
        "vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_layers": 2, "num_heads": 4,
        "max_position_embeddings": 64, "attention_types": [[["global", "local"], 1]], "bos_token_id": 1,
        "eos_token_id": 2,
    },
    "PhiForCausalLM": _PLAIN,
    "CohereForCausalLM": _GROUPED,
    "StableLmForCausalLM": _GROUPED,
    "GraniteForCausalLM": _GROUPED,
    "Olmo2ForCausalLM": _GROUPED,
    "Starcoder2ForCausalLM": _GROUPED,
    "SmolLM3ForCausalLM": _GROUPED,
    "MixtralForCausalLM": _EXPERTS,
    "Qwen3MoeForCausalLM": _EXPERTS,
    "OlmoeForCausalLM": _EXPERTS,
    "GptOssForCausalLM": _EXPERTS | {"head_dim": 8},
    "T5ForConditionalGeneration": {
        "vocab_size": 96, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4,
    },
    "BartForConditionalGeneration": {
        "vocab_size": 96, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
        "decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "max_position_embeddings": 64,
    },
    "DebertaV2ForMaskedLM": _PLAIN,
    "ModernBertForMaskedLM": _PLAIN | {"cls_token_id": 1, "sep_token_id": 2},
    "MPNetForMaskedLM": _PLAIN,
    "FalconForCausalLM": {"vocab_size": 96, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4},
    "MambaForCausalLM": {"vocab_size": 96, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 4},
    "JambaForCausalLM": _EXPERTS,
    "Qwen3NextForCausalLM": _EXPERTS,
    "MptForCausalLM": {"vocab_size": 96, "d_model": 32, "n_layers": 2, "n_heads": 4, "max_seq_len": 64},
    "RwkvForCausalLM": {"vocab_size": 96, "hidden_size": 32, "num_hidden_layers": 2, "context_length": 64},
    "XLNetLMHeadModel": {"vocab_size": 96, "d_model": 32, "n_layer": 2, "n_head": 4, "d_inner": 48},
    "ViTForImageClassification": {
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
        "image_size": 32, "patch_size": 8,
    },
}  # fmt: skip

pytestmark = pytest.mark.skipif(
    not version("transformers").startswith("5.23."), reason="the table in docs/ir.md was made with transformers 5.23"
)


def test_the_table_and_the_configurations_agree() -> None:
    assert TABLE.keys() == CONFIGS.keys()


#: One of each outcome; the others take longer together than a quick run of the suite should.
_QUICK = {"GPTNeoXForCausalLM", "MixtralForCausalLM", "FalconForCausalLM", "XLNetLMHeadModel"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in _QUICK else pytest.mark.slow) for name in CONFIGS]
)
def test_the_outcome_is_as_documented(name: str) -> None:
    cls = getattr(transformers, name)
    torch.manual_seed(0)
    model = cls(cls.config_class(**CONFIGS[name])).eval()
    outcome, remark, kept = TABLE[name]
    if outcome == "refused":
        with pytest.raises(TraceError) as refused:
            ir.trace_model(model)
        assert refused.value.code == remark.split(":")[0].strip()
        assert refused.value.where
        if kept == "refused":
            with pytest.raises(TraceError):
                ir.trace_model(model, opaque="keep")
        else:
            assert all(block.opaque for block in ir.trace_model(model, opaque="keep").blocks.values())
        return
    graph = ir.trace_model(model)
    assert not any(block.opaque for block in graph.blocks.values())
    inputs = _inputs(model)
    with torch.no_grad():
        expected = model(**inputs).logits
        for path, block in graph.blocks.items():
            ir.bind(model.get_submodule(path), block)
        torch.testing.assert_close(model(**inputs).logits, expected, rtol=0, atol=1e-5)
    roles = {
        group.role
        for path, block in graph.blocks.items()
        for group in ir.linear_groups(block, model.get_submodule(path))
    }
    assert ("qkv" not in roles) == ("share" in remark)
    assert ("down" not in roles) == ("experts" in remark)


def _inputs(model: Any) -> dict[str, Any]:
    ids = torch.randint(3, 90, (2, 10), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[0, :3] = 0
    inputs = {"input_ids": ids, "attention_mask": mask}
    if "decoder_input_ids" in inspect.signature(model.forward).parameters:
        inputs["decoder_input_ids"] = ids[:, :5]
    return inputs

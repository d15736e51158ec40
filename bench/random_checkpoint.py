"""Write a sharded bf16 Llama checkpoint of random weights (1.1B by default) with a tokenizer, one tensor at a time."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoConfig, AutoModelForCausalLM, LlamaConfig

TINYLLAMA = {
    "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22, "num_attention_heads": 32,
    "num_key_value_heads": 4, "vocab_size": 32000, "max_position_embeddings": 2048, "tie_word_embeddings": False,
}  # fmt: skip


def write_tokenizer(folder: Path, vocabulary: int) -> None:
    """A word-level tokenizer whose words are w0, w1, ..."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {f"w{i}": i for i in range(vocabulary - 1)} | {"[UNK]": vocabulary - 1}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]").save_pretrained(folder)


def write_text(path: Path, vocabulary: int, tokens: int) -> None:
    """Random words of that tokenizer."""
    ids = torch.randint(0, vocabulary - 1, (tokens,), generator=torch.Generator().manual_seed(3)).tolist()
    path.write_text(" ".join(f"w{i}" for i in ids), encoding="utf-8")


def write_checkpoint(folder: Path, shards: int, settings: dict[str, object]) -> int:
    """Returns the bytes of all tensors."""
    folder.mkdir(parents=True, exist_ok=True)
    config = LlamaConfig(**settings, dtype="bfloat16", architectures=["LlamaForCausalLM"])
    config.save_pretrained(folder)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder), dtype=torch.bfloat16)
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    names = list(shapes)
    per_shard = -(-len(names) // shards)
    weight_map: dict[str, str] = {}
    total = 0
    generator = torch.Generator().manual_seed(1)
    for index in range(shards):
        file = f"model-{index + 1:05d}-of-{shards:05d}.safetensors"
        tensors = {}
        for name in names[index * per_shard : (index + 1) * per_shard]:
            shape = shapes[name]
            scale = 1.0 if len(shape) == 1 else shape[-1] ** -0.5
            value = torch.ones(shape) if len(shape) == 1 else torch.randn(shape, generator=generator) * scale
            tensors[name] = value.to(torch.bfloat16)
            total += tensors[name].numel() * 2
            weight_map[name] = file
        save_file(tensors, folder / file, metadata={"format": "pt"})
    index_data = {"metadata": {"total_size": total}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index_data), encoding="utf-8")
    write_tokenizer(folder, int(str(settings["vocab_size"])))
    write_text(folder / "text.txt", int(str(settings["vocab_size"])), 80 * 512)
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shards", type=int, default=4)
    arguments = parser.parse_args()
    total = write_checkpoint(arguments.folder, arguments.shards, TINYLLAMA)
    print(f"{total / 1e9:.2f} GB in {arguments.shards} shards")


if __name__ == "__main__":
    main()

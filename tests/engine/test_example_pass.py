"""The pass of examples/third-party-pass does what its paper says, on models that hand over their inputs differently."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest
import torch
import toys
import transformers
from safetensors.torch import load_file

from fyc.engine import convert

EXAMPLE = Path(__file__).parents[2] / "examples" / "third-party-pass"


@pytest.mark.parametrize(("family", "first"), [("llama", "mlp.up_proj"), ("opt", "fc1")])
def test_the_example_weighs_every_channel_of_the_input(
    family: str, first: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OPT hands its MLP [tokens, channels]; a sum over two fixed dimensions would leave plain magnitude pruning."""
    monkeypatch.syspath_prepend(str(EXAMPLE))
    example = importlib.import_module("fyc_wanda")
    use = "{use: wanda, options: {sparsity: 0.5}}"
    made = convert(toys.toy_plan(toys.model(family), tmp_path / "out", use, host=toys.toy_host(example.Wanda)))

    plain = transformers.AutoModelForCausalLM.from_pretrained(toys.model(family))
    path = "model.layers.0" if family == "llama" else "model.decoder.layers.0"
    inputs: dict[str, list[torch.Tensor]] = {"self_attn.q_proj": [], first: []}
    for name, seen in inputs.items():
        module = plain.get_submodule(f"{path}.{name}")
        module.register_forward_pre_hook(lambda module, args, seen=seen: seen.append(args[0].flatten(0, -2).double()))
    words = (toys.model(family) / "text.txt").read_text(encoding="utf-8").split()[:64]
    with torch.no_grad():
        for window in torch.tensor([int(word[1:]) for word in words]).reshape(4, 16):
            plain(window[None])

    weights: dict[str, torch.Tensor] = {}
    for shard in made.path.glob("*.safetensors"):
        weights |= load_file(shard)
    lost = total = 0.0
    for name, source in [(first, first), *((f"self_attn.{x}_proj", "self_attn.q_proj") for x in "qkv")]:
        linear, x = plain.get_submodule(f"{path}.{name}").double(), torch.cat(inputs[source])
        score = linear.weight.detach().abs() * x.square().sum(0).sqrt()
        dropped = torch.zeros_like(score).scatter_(1, score.argsort(1)[:, : score.shape[1] // 2], 1).bool()
        pruned = weights[f"{path}.{name}.weight"]
        assert torch.equal(pruned == 0, dropped)
        if source != first:
            change = x @ (pruned.double() - linear.weight.detach()).T
            lost += float(change.square().sum())
            total += float(torch.nn.functional.linear(x, linear.weight, linear.bias).detach().square().sum())
    (error,) = (entry.error for entry in made.manifest.modules if entry.path == f"{path}.self_attn.k_proj")
    assert error == pytest.approx(lost / total, rel=1e-4)
    assert made.manifest.passes[0].metrics == {"zeros": pytest.approx(0.5)}

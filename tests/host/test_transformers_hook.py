"""After `import fyc`, transformers' own `from_pretrained` gives the converted model, in either order of import."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest
import torch

import fyc
from fyc import engine
from fyc.plugins import RegisteredPass, load_plugins
from fyc.recipe import parse_recipe

ORDERS = {
    "fyc first": "import fyc, sys; assert 'torch' not in sys.modules; import transformers",
    "transformers first": "import transformers, fyc",
    "quantizers first": "import transformers.quantizers; import fyc, transformers",
    "layers first": "import fyc, transformers.modeling_layers, transformers",
    "twice": "import fyc, importlib; importlib.reload(fyc); import transformers",
}


class Halve(fyc.Pass):
    name = "halve"
    summary = "halves every Linear weight, and adds a node to every graph"

    def targets(self, model):
        return dict.fromkeys(model.graph.blocks, 0)

    def run(self, block, ctx):
        for module in block.module.modules():
            if isinstance(module, torch.nn.Linear):
                module.weight.data /= 2
        (output,) = [node for node in block.graph.graph.nodes if node.op == "output"]
        with block.graph.graph.inserting_before(output):
            doubled = block.graph.graph.call_function(torch.mul, (output.args[0], 2.0))
        output.replace_input_with(output.args[0], doubled)
        return fyc.PassResult([fyc.ModuleReport(block.path, "halved")])


@pytest.fixture(scope="module")
def converted(tiny_model, tmp_path_factory):
    """An artifact, and the logits of `fyc.load` for one input; they differ from the source model's."""
    from transformers import LlamaForCausalLM

    folder = tmp_path_factory.mktemp("hook") / "out"
    recipe = parse_recipe(f"schema: 1\nmodel: {{source: {tiny_model}}}\npasses: [{{use: halve}}]\n")
    host = dataclasses.replace(load_plugins(), passes={"halve": RegisteredPass(Halve, "test", "1", "test")})
    engine.convert(engine.prepare(recipe, host=host, output=folder))
    ids = torch.arange(1, 9)[None]
    with torch.no_grad():
        logits = fyc.load(folder)(ids).logits
        assert not torch.allclose(logits, LlamaForCausalLM.from_pretrained(tiny_model)(ids).logits)
    torch.save(logits, folder.parent / "logits.pt")
    return folder


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_from_pretrained_gives_the_converted_model(converted, order):
    code = f"""
import warnings
warnings.simplefilter("error", UserWarning)
{order}
import torch
torch.set_num_threads(1)
logits = torch.load({str(converted.parent / "logits.pt")!r})
for cls in (transformers.AutoModelForCausalLM, transformers.LlamaForCausalLM):
    model = cls.from_pretrained({str(converted)!r})
    with torch.no_grad():
        assert torch.equal(model(torch.arange(1, 9)[None]).logits, logits)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_importing_fyc_imports_neither_torch_nor_transformers():
    code = "import sys, fyc; assert not {'torch', 'transformers', 'pydantic', 'typer'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_hook_leaves_the_loader_as_it_was():
    code = """
import sys, fyc
assert [finder for finder in sys.meta_path if type(finder).__module__.startswith("fyc")]
import transformers.quantizers.auto as auto
assert not [finder for finder in sys.meta_path if type(finder).__module__.startswith("fyc")]
assert "exec_module" not in vars(auto.__spec__.loader)
assert "fyc" in auto.AUTO_QUANTIZER_MAPPING
import inspect
assert "AUTO_QUANTIZER_MAPPING" in inspect.getsource(auto)
"""
    subprocess.run([sys.executable, "-c", code], check=True)

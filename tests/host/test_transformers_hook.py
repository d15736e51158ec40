"""After `import fyc`, transformers' own `from_pretrained` gives the converted model, in either order of import."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

import fyc
from fyc.recipe import parse_recipe

ORDERS = {
    "fyc first": "import fyc, sys; assert 'torch' not in sys.modules; import transformers",
    "transformers first": "import transformers, fyc",
    "a class first": "from transformers import LlamaForCausalLM; import transformers, fyc",
    "quantizers first": "import transformers.quantizers; import fyc",
    "layers first": "import fyc, transformers.modeling_layers, transformers",
    "masks first": "import fyc, transformers.masking_utils, transformers",
    "twice": "import fyc, importlib; importlib.reload(fyc); import transformers",
}


@pytest.fixture(scope="module")
def converted(tiny_model, tmp_path_factory):
    """An artifact, and the logits of `fyc.load` for one input."""
    folder = tmp_path_factory.mktemp("hook") / "out"
    recipe = parse_recipe("schema: 1\nmodel: {source: x}\npasses: [{use: flatten-quant}]\n")
    fyc.convert(
        recipe,
        model=str(tiny_model),
        calibration=tiny_model / "text.txt",
        output=folder,
        set=["calibration.length=32", "calibration.samples=4"],
    )
    ids = torch.arange(1, 9)[None]
    with torch.no_grad():
        torch.save(fyc.load(folder)(ids).logits, folder.parent / "logits.pt")
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
before = len(sys.meta_path)
import transformers.quantizers.auto as auto
assert len(sys.meta_path) == before - 1
assert "exec_module" not in vars(auto.__spec__.loader)
assert "fyc" in auto.AUTO_QUANTIZER_MAPPING
import inspect
assert "AUTO_QUANTIZER_MAPPING" in inspect.getsource(auto)
"""
    subprocess.run([sys.executable, "-c", code], check=True)

"""Small real passes and models for the engine's tests: weight-only int8 rows, a clamp in the graph, surveys, branches.

The module is a fyc plugin itself: `site()` is a folder that, put on `sys.path`, makes it an installed distribution.
"""

from __future__ import annotations

import atexit
import copy
import dataclasses
import functools
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn
from transformers.pytorch_utils import Conv1D

import fyc
from fyc import ir
from fyc.artifact import Artifact, is_artifact, open_artifact
from fyc.cache import file_digest
from fyc.engine import RunPlan, convert, prepare
from fyc.engine.workspace import work_folder
from fyc.passes import (
    Block,
    FycModule,
    ModelView,
    ModuleReport,
    Outer,
    Pass,
    PassContext,
    PassOptions,
    PassResult,
    Survey,
)
from fyc.plugins import PluginHost, RegisteredPass, load_plugins
from fyc.recipe import parse_recipe


class RowInt8(FycModule):
    """A Linear with int8 weights and one scale a row."""

    def __init__(self, inputs: int, outputs: int, bias: bool) -> None:
        super().__init__()
        self.register_buffer("codes", torch.zeros(outputs, inputs, dtype=torch.int8))
        self.register_buffer("scale", torch.zeros(outputs, 1, dtype=torch.float32))
        self.register_buffer("bias", torch.zeros(outputs) if bias else None)

    def config(self) -> dict[str, Any]:
        outputs, inputs = self.codes.shape
        return {"inputs": inputs, "outputs": outputs, "bias": self.bias is not None}

    @classmethod
    def of(cls, linear: nn.Linear | Conv1D) -> RowInt8:
        weight = linear.weight.detach()
        weight = weight.T if isinstance(linear, Conv1D) else weight
        made = cls(weight.shape[1], weight.shape[0], linear.bias is not None)
        made.scale = weight.abs().amax(1, keepdim=True).float() / 127
        made.codes = (weight / made.scale).round().to(torch.int8).contiguous()
        made.bias = None if linear.bias is None else linear.bias.detach().clone()
        return made

    def error(self, linear: nn.Linear) -> float:
        difference = self.codes * self.scale - linear.weight.detach()
        return float(difference.square().sum() / linear.weight.detach().square().sum())

    def forward(self, x: Tensor) -> Tensor:
        weight = (self.codes * self.scale).to(x.dtype)
        return nn.functional.linear(x, weight, self.bias)


class ClampOptions(PassOptions):
    headroom: float = 1.0
    """Factor on the largest input seen."""
    fail_at: int | None = None
    """Raise at this block, to test failures."""
    branches: int = 0
    """Windows for branches."""
    measure: bool = False
    """Report the relative error of the rows, which makes the report draw a picture."""


class Rows(Pass[ClampOptions]):
    """Weight-only int8, plus a clamp of every group's input at its calibrated maximum."""

    name = "toy-rows"
    summary = "int8 rows and a clamp"
    Options = ClampOptions
    requires = frozenset({"float-weights", "calibration"})
    removes = frozenset({"float-weights"})
    produces = frozenset({"int8-rows"})
    modules = (RowInt8,)

    def targets(self, model: ModelView) -> Mapping[str, int]:
        return {
            f"{path}.{linear}": model.skeleton.get_submodule(f"{path}.{linear}").weight.numel()
            for path, graph in model.graph.blocks.items()
            if not graph.opaque
            for group in ir.linear_groups(graph, model.skeleton.get_submodule(path))
            for linear in group.paths
            if model.selects(f"{path}.{linear}")
        }

    def branch_windows(self) -> int:
        return self.options.branches

    def survey(self, block: Block, ctx: PassContext) -> Survey:
        limits: dict[str, float] = {}

        def watch(name: str) -> Any:
            def see(value: Tensor) -> None:
                limits[name] = max(limits.get(name, 0.0), float(value.abs().max()))

            return see

        groups = ir.linear_groups(block.graph, block.module)
        ctx.observe(block, {group.input: watch(group.input.name) for group in groups})
        if self.options.branches:
            changed = copy.deepcopy(block)
            for group in groups[:1]:
                for path in group.paths:
                    changed.module.get_submodule(path).weight.data.zero_()
            ctx.branch(block.path, changed)
        return Survey(limits, {"limits": torch.tensor(list(limits.values()))})

    def plan(self, surveys: Mapping[str, Survey], ctx: PassContext) -> dict[str, Any]:
        scores = {"losses": dict(ctx.branch_loss), "divergences": dict(ctx.branch_divergence)}
        return {"blocks": sorted(surveys), **scores}

    def run(self, block: Block, ctx: PassContext) -> PassResult:
        if block.index == self.options.fail_at:
            raise ValueError("asked to fail")
        assert block.path in ctx.plan["blocks"]
        limits = ctx.survey_of(block).values
        reports = []
        for group in ir.linear_groups(block.graph, block.module):
            limit = limits[group.input.name] * self.options.headroom
            with block.graph.graph.inserting_after(_last_input(group.input)):
                clamped = block.graph.graph.call_function(torch.clamp, (group.input, -limit, limit))
            for node, path in zip(group.nodes, group.paths, strict=True):
                if ctx.selects(f"{block.path}.{path}"):
                    node.replace_input_with(group.input, clamped)
                    parent, _, leaf = path.rpartition(".")
                    linear = block.module.get_submodule(path)
                    rows = RowInt8.of(linear)
                    setattr(block.module.get_submodule(parent), leaf, rows)
                    error = rows.error(linear) if self.options.measure else None
                    reports.append(ModuleReport(f"{block.path}.{path}", "int8 rows", bits=8.0, error=error))
        return PassResult(reports, {"clamped": float(len(reports))})


def _last_input(node: fx.Node) -> fx.Node:
    """Where a node that reads this one can stand: behind the last placeholder, since a graph's inputs come first."""
    while node.op == "placeholder" and node.next.op == "placeholder":
        node = node.next
    return node


class RoundOptions(PassOptions):
    digits: int = 2
    """Decimal digits to keep."""


class Round(Pass[RoundOptions]):
    """Rounds every floating weight to some decimal digits; needs no calibration and leaves no module."""

    name = "toy-round"
    summary = "rounds weights"
    Options = RoundOptions
    requires = frozenset({"float-weights"})

    def targets(self, model: ModelView) -> Mapping[str, int]:
        return {
            name: sum(p.numel() * p.element_size() for p in module.parameters(recurse=False))
            for name, module in model.skeleton.named_modules()
            if isinstance(module, nn.Linear | nn.Embedding) and model.selects(name)
        }

    def _round(self, root: nn.Module, prefix: str, ctx: PassContext) -> PassResult:
        reports = []
        for name, module in root.named_modules():
            if (
                isinstance(module, nn.Linear | nn.Embedding)
                and not module.weight.is_meta
                and ctx.selects(prefix + name)
            ):
                module.weight.data.copy_(module.weight.data.double().round(decimals=self.options.digits))
                reports.append(ModuleReport(prefix + name, "rounded"))
        return PassResult(reports)

    def run_outer(self, outer: Outer, ctx: PassContext) -> PassResult:
        return self._round(outer.module, "", ctx)

    def run(self, block: Block, ctx: PassContext) -> PassResult:
        return self._round(block.module, f"{block.path}.", ctx)


@fyc.hookimpl
def fyc_register_passes(register: Callable[[type[Pass[Any]]], None]) -> None:
    register(Rows)
    register(Round)


def scratch() -> Path:
    """A new folder that is removed when the process ends."""
    folder = Path(tempfile.mkdtemp(prefix="fyc-toys-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


@functools.cache
def site() -> Path:
    """A folder that holds the metadata of the distribution `fyc-toys`, whose entry point is this module."""
    info = scratch() / "fyc_toys-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fyc-toys\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[fyc]\ntoys = toys\n", encoding="utf-8")
    return info.parent


def toy_host(*extra: type[Pass[Any]]) -> PluginHost:
    """The installed plugins plus passes that are not installed."""
    host = load_plugins()
    added = {cls.name: RegisteredPass(cls, "extra", "1", "extra") for cls in (Rows, Round, *extra)}
    return dataclasses.replace(host, passes={**added, **host.passes, **{c.name: added[c.name] for c in extra}})


_LLAMA = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 128, "tie_word_embeddings": True, "initializer_range": 0.1,
    "bos_token_id": 1, "eos_token_id": None,
}  # fmt: skip
_PLAIN = {
    "vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
    "max_position_embeddings": 128, "initializer_range": 0.1, "init_std": 0.1, "pad_token_id": 0,
}  # fmt: skip
#: One model of every family that differs in how its weights are laid out: class name and configuration.
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaForCausalLM", _LLAMA),
    "untied": ("LlamaForCausalLM", _LLAMA | {"tie_word_embeddings": False}),
    "gpt2": ("GPT2LMHeadModel", {
        "vocab_size": 64, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 128, "initializer_range": 0.1,
        "bos_token_id": 1, "eos_token_id": None,
    }),
    "opt": ("OPTForCausalLM", _PLAIN | {"ffn_dim": 48, "word_embed_proj_dim": 32, "eos_token_id": None}),
    "bert": ("BertForMaskedLM", _PLAIN),
    "albert": ("AlbertForMaskedLM", _PLAIN | {"embedding_size": 16, "num_hidden_layers": 3}),
    "bart": ("BartForConditionalGeneration", _PLAIN | {
        "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4,
        "decoder_attention_heads": 4, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "bos_token_id": 1,
        "eos_token_id": 2, "decoder_start_token_id": 2,
    }),
}  # fmt: skip


def toy_model(folder: Path, family: str = "llama", **config: Any) -> Path:
    """Save a tiny random model with a word-level tokenizer, and a text it can read; returns the folder."""
    import transformers
    from tokenizers import Tokenizer, models, pre_tokenizers

    name, settings = FAMILIES[family]
    cls = getattr(transformers, name)
    torch.manual_seed(1)
    cls(cls.config_class(**(settings | config))).save_pretrained(folder)
    vocabulary = {f"w{i}": i for i in range(63)} | {"[UNK]": 63}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]").save_pretrained(folder)
    generator = torch.Generator().manual_seed(2)
    words = torch.randint(0, 63, (2000,), generator=generator).tolist()
    (folder / "text.txt").write_text(" ".join(f"w{i}" for i in words), encoding="utf-8")
    return folder


def model(family: str = "llama") -> Path:
    """The folder of a toy model, made once a process: do not change it."""
    return _model(family)


@functools.cache
def _model(family: str) -> Path:
    return toy_model(scratch() / family, family)


def recipe_text(
    folder: Path,
    *passes: str,
    verify: float | None = None,
    calibration: bool = True,
    samples: int = 4,
    section: str | None = None,
) -> str:
    """A recipe for a toy model; each pass is a line of YAML such as `{use: toy-round, options: {digits: 1}}`."""
    lines = ["schema: 1", f"model: {{source: {folder}}}"]
    if calibration:
        lines.append(f"calibration: {{text: {folder}/text.txt, samples: {samples}, length: 16}}")
    lines += ["passes:", *(f"  - {item if item.startswith('{') else f'use: {item}'}" for item in passes)]
    if verify is not None:
        lines.append(f"verify: {{max_perplexity_increase: {verify}, samples: 2}}")
    if section is not None:
        lines.append(f"output: {section}")
    return "\n".join(lines) + "\n"


def toy_plan(folder: Path, output: Path, *passes: str, host: PluginHost | None = None, **options: Any) -> RunPlan:
    """The plan of a run over a toy model; `options` are those of `recipe_text`."""
    return prepare(parse_recipe(recipe_text(folder, *passes, **options)), host=host or toy_host(), output=output)


def artifact(family: str = "llama", *passes: str) -> Artifact:
    """An artifact made once a process: do not change it, `copied` gives one to change."""
    return _artifact(family, passes or ("toy-rows",))


@functools.cache
def _artifact(family: str, passes: tuple[str, ...]) -> Artifact:
    return convert(toy_plan(model(family), scratch() / f"{family}-artifact", *passes))


def copied(made: Artifact, folder: Path) -> Path:
    """A copy of an artifact that may be damaged."""
    shutil.copytree(made.path, folder)
    return folder


def files_of(folder: Path) -> dict[str, bytes]:
    """Every hashed file of an artifact, and the manifest, by relative path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "run.json"
    }


def edit_manifest(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change an artifact's manifest in place; the hashes of the other files stay as they are."""
    data = json.loads((folder / "fyc.json").read_text(encoding="utf-8"))
    change(data)
    (folder / "fyc.json").write_text(json.dumps(data), encoding="utf-8")


def rehash(folder: Path, *names: str) -> None:
    """Put the hashes of changed (or new) files into the manifest, as somebody with bad intentions would."""
    hashes = {name: file_digest(folder / name) for name in names}
    edit_manifest(folder, lambda data: data["files"].update(hashes))


def nothing_loads(plan: RunPlan) -> None:
    """Neither the output nor anything in the work folder passes for an artifact."""
    assert not plan.output.exists()
    for folder in [work_folder(plan.output), *work_folder(plan.output).rglob("*")]:
        if folder.is_dir() and is_artifact(folder):
            assert folder.name == "artifact"
            open_artifact(folder).verify()

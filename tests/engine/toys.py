"""Small real passes for the engine's tests: weight-only int8 rows, a clamp in the graph, surveys and branches."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fyc import ir
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
    def of(cls, linear: nn.Linear) -> RowInt8:
        made = cls(linear.in_features, linear.out_features, linear.bias is not None)
        made.scale = linear.weight.detach().abs().amax(1, keepdim=True).float() / 127
        made.codes = (linear.weight.detach() / made.scale).round().to(torch.int8)
        made.bias = None if linear.bias is None else linear.bias.detach().clone()
        return made

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
        return {"blocks": sorted(surveys), "losses": dict(ctx.branch_loss)}

    def run(self, block: Block, ctx: PassContext) -> PassResult:
        if block.index == self.options.fail_at:
            raise ValueError("asked to fail")
        assert block.path in ctx.plan["blocks"]
        limits = ctx.survey_of(block).values
        reports = []
        for group in ir.linear_groups(block.graph, block.module):
            limit = limits[group.input.name] * self.options.headroom
            with block.graph.graph.inserting_after(group.input):
                clamped = block.graph.graph.call_function(torch.clamp, (group.input, -limit, limit))
            for node, path in zip(group.nodes, group.paths, strict=True):
                if ctx.selects(f"{block.path}.{path}"):
                    node.replace_input_with(group.input, clamped)
                    parent, _, leaf = path.rpartition(".")
                    linear = block.module.get_submodule(path)
                    setattr(block.module.get_submodule(parent), leaf, RowInt8.of(linear))
                    reports.append(ModuleReport(f"{block.path}.{path}", "int8 rows", bits=8.0))
        return PassResult(reports, {"clamped": float(len(reports))})


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
            if isinstance(module, nn.Linear | nn.Embedding) and not module.weight.is_meta and ctx.selects(prefix + name):
                module.weight.data.copy_(module.weight.data.double().round(decimals=self.options.digits))
                reports.append(ModuleReport(prefix + name, "rounded"))
        return PassResult(reports)

    def run_outer(self, outer: Outer, ctx: PassContext) -> PassResult:
        return self._round(outer.module, "", ctx)

    def run(self, block: Block, ctx: PassContext) -> PassResult:
        return self._round(block.module, f"{block.path}.", ctx)


def toy_host(*extra: type[Pass[Any]]) -> PluginHost:
    """The installed plugins plus the toy passes."""
    host = load_plugins()
    toys = {cls.name: RegisteredPass(cls, "toys", "1", "toys") for cls in (Rows, Round, *extra)}
    return dataclasses.replace(host, passes={**host.passes, **toys})


def toy_model(folder: Path, **config: Any) -> Path:
    """Save a tiny random Llama with a word-level tokenizer, and a text it can read; returns the folder."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    settings = {
        "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
        "num_key_value_heads": 2, "max_position_embeddings": 128, "tie_word_embeddings": True,
    } | config  # fmt: skip
    torch.manual_seed(1)
    LlamaForCausalLM(LlamaConfig(**settings)).save_pretrained(folder)
    vocabulary = {f"w{i}": i for i in range(63)} | {"[UNK]": 63}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]").save_pretrained(folder)
    generator = torch.Generator().manual_seed(2)
    words = torch.randint(0, 63, (2000,), generator=generator).tolist()
    (folder / "text.txt").write_text(" ".join(f"w{i}" for i in words), encoding="utf-8")
    return folder

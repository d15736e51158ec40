"""What a pass is: a class with options, an order it may run in, and a `run` that rewrites one block.

The engine drives a pass like this, block by block, so that a model larger than memory converts:

1. `targets(model)`, `check(model)`   pure; they feed `--dry-run`; nothing is computed before every pass has checked.
2. `survey(block, ctx)`      optional sweep over the untouched blocks: gather statistics, open branches.
3. `plan(surveys, ctx)`      one decision over all blocks (budgets, bit widths), as plain JSON data.
4. `run_outer(outer, ctx)`   rewrite what lies outside the blocks: embeddings and the head.
5. `run(block, ctx)`         rewrite one block; its inputs come from the converted model before it.

A pass never opens a file, prints, or reads global state: `ctx` gives it all it may use.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, Protocol, TypeVar

from pydantic import BaseModel, ConfigDict
from torch import Tensor, nn

if TYPE_CHECKING:
    import logging

    import torch
    from torch import fx

    from fyc.ir import BlockGraph, ModelGraph

#: Facts about the model that passes can require, produce or exclude. `float-weights`, `graph` and, if the recipe
#: names a text, `calibration` hold at the start.
Fact = str
Json = None | bool | int | float | str | list[Any] | dict[str, Any]


class PassOptions(BaseModel):
    """Base of every pass's options: frozen, no unknown keys; each field needs a description."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class FycModule(nn.Module):
    """Base of every module class that a pass may leave in a model.

    `config()` returns the JSON-able keyword arguments that build an equal module again; parameters and buffers come
    from the artifact's safetensors. The constructor must work under `torch.device("meta")`.
    """

    def config(self) -> dict[str, Json]:
        """Keyword arguments for the constructor, JSON-able."""
        raise TypeError(f"{type(self).__name__} must define config()")


@dataclass(frozen=True)
class Finding:
    """One line of a `check`: a fact for the dry run, a warning, or an error that stops the run."""

    level: Literal["info", "warning", "error"]
    message: str
    where: str = ""
    next: str = ""


@dataclass(frozen=True)
class ModuleReport:
    """What was done to one module, as `fyc inspect` shows it.

    Attributes:
        path: module path in the model.
        action: one word or two, for example `int8`, `int4`, `pruned`.
        bits: bits in which one weight is stored, without scales; None if the pass does not quantize.
        expansion: extra input columns divided by input columns (0.01 is 1 %); None if the pass adds none.
        error: output error of the module's group on the calibration inputs, squared and relative:
            mean |y' - y|^2 / mean |y|^2, with y and y' for the same input; None if it was not measured.
        details: anything else that is JSON-able.
    """

    path: str
    action: str
    bits: float | None = None
    expansion: float | None = None
    error: float | None = None
    details: Mapping[str, Json] = field(default_factory=dict)


@dataclass(frozen=True)
class PassResult:
    """What `run` or `run_outer` did."""

    modules: Sequence[ModuleReport] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class Survey:
    """What `survey` learned about one block: JSON-able values and tensors. The engine stores it for `--resume`."""

    values: Mapping[str, Json] = field(default_factory=dict)
    tensors: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass
class Block:
    """One block of the model with its weights in memory.

    Attributes:
        index: position of the block among all blocks, in the order of their first calls.
        path: module path, for example `model.layers.3`.
        module: the block itself; edit its submodules in place.
        graph: this block's own copy of the graph; edit `graph.graph` (a `torch.fx.Graph`) in place.
    """

    index: int
    path: str
    module: nn.Module
    graph: BlockGraph

    def __deepcopy__(self, memo: dict[int, Any]) -> Block:
        import copy

        return Block(self.index, self.path, copy.deepcopy(self.module, memo), self.graph.copy())


@dataclass
class Outer:
    """The model outside its blocks: embeddings, final norm and head have weights, the blocks have none.

    `aliases` maps the name of a tied tensor to the tensor it shares, as the source model declares it.
    """

    module: nn.Module
    graph: ModelGraph
    aliases: Mapping[str, str]


@dataclass(frozen=True)
class ModelView:
    """The model as `check` sees it: graphs and shapes, no weights.

    Attributes:
        skeleton: the whole model on the meta device.
        graph: the model graph with its block graphs.
        selects: whether the recipe's `include`/`exclude` patterns choose a module path.
    """

    skeleton: nn.Module
    graph: ModelGraph
    selects: Callable[[str], bool]

    @property
    def causal(self) -> bool:
        """Whether the model predicts the next token, so that branches and perplexity make sense."""
        return predicts_next(self.skeleton)


def predicts_next(model: nn.Module) -> bool:
    """Whether a model predicts every token from those before it: an encoder-decoder generates, but saw them all."""
    can_generate = getattr(model, "can_generate", None)
    config = getattr(model, "config", None)
    return bool(can_generate is not None and can_generate()) and not getattr(config, "is_encoder_decoder", False)


class PassContext(Protocol):
    """All that a pass may use while it runs."""

    device: torch.device
    generator: torch.Generator
    """Seeded by recipe seed, pass position and path of the block, on the CPU."""
    logger: logging.Logger
    plan: Mapping[str, Any]
    """What `plan` returned; empty during `survey`."""
    branch_loss: Mapping[str, float]
    """For `plan`: mean next-token NLL (nats) of every branch, and of the untouched model under the name `""`."""
    branch_divergence: Mapping[str, float]
    """For `plan`: mean over tokens of KL(untouched || branch) (nats) of every branch; far less noisy than the loss."""

    def selects(self, path: str) -> bool:
        """Whether the recipe's `include`/`exclude` patterns choose this module path."""
        ...

    def batches(self) -> Iterator[tuple[tuple[Any, ...], dict[str, Any]]]:
        """The block's calibration inputs, one (args, kwargs) a batch; `survey`: of the untouched model,
        `run`: of the converted blocks before this one. A block that the model calls several times yields the
        inputs of every call."""
        ...

    def observe(self, block: Block, watch: Mapping[fx.Node | str, Callable[[Tensor], None]]) -> None:
        """Run the block over all calibration batches and hand each watched node's value to its callback.

        Nodes are given themselves or by name. The value is passed as the graph computes it, mostly `[batch, tokens,
        channels]`; some models flatten batch and tokens, and `x.flatten(0, -2)` makes `[rows, channels]` of both. The
        callback must not keep or change it. May be called repeatedly; gradients are off. Raises FYC-M04 when a
        watched value is NaN or infinite.
        """
        ...

    def branch(self, name: str, block: Block) -> None:
        """During `survey`: run this changed copy of the block on the branch windows and carry the result through the
        untouched blocks that follow; `plan` finds `branch_loss[name]` and `branch_divergence[name]`."""
        ...

    def survey_of(self, block: Block) -> Survey:
        """During `run`: what `survey` returned for this block."""
        ...


O = TypeVar("O", bound=PassOptions)  # noqa: E741


class Pass(abc.ABC, Generic[O]):
    """Base of every pass. Subclass it, set the class attributes, implement `targets` and `run`."""

    name: ClassVar[str]
    """What recipes say after `use:`."""
    version: ClassVar[int] = 1
    """Raise it when the same options give other bytes."""
    summary: ClassVar[str]
    """One line for `fyc passes list`."""
    Options: ClassVar[type[PassOptions]] = PassOptions
    requires: ClassVar[frozenset[Fact]] = frozenset()
    produces: ClassVar[frozenset[Fact]] = frozenset()
    removes: ClassVar[frozenset[Fact]] = frozenset()
    """Facts that no longer hold afterwards, for example `float-weights`."""
    conflicts: ClassVar[frozenset[Fact]] = frozenset()
    modules: ClassVar[tuple[type[FycModule], ...]] = ()
    """Module classes the pass may leave in a model: the allow-list for loading."""

    def __init__(self, options: O) -> None:
        self.options = options

    @abc.abstractmethod
    def targets(self, model: ModelView) -> Mapping[str, int]:
        """The module paths this pass will change, and the bytes each will take afterwards (an estimate). Pure.

        Only paths that `model.selects` may be named.
        """

    def check(self, model: ModelView) -> Sequence[Finding]:
        """What a user should know before this pass runs, and what stands in its way. Pure."""
        del model
        return ()

    def surveys(self) -> bool:
        """Whether this pass needs the survey sweep with these options."""
        return type(self).survey is not Pass.survey

    def branch_windows(self) -> int:
        """How many calibration windows branches run on (0: no branches)."""
        return 0

    def survey(self, block: Block, ctx: PassContext) -> Survey:
        """Look at an untouched block; must not change it."""
        del block, ctx
        return Survey()

    def plan(self, surveys: Mapping[str, Survey], ctx: PassContext) -> dict[str, Any]:
        """Decide over all blocks. `surveys` maps block paths to surveys. Returns JSON-able data."""
        del surveys, ctx
        return {}

    @abc.abstractmethod
    def run(self, block: Block, ctx: PassContext) -> PassResult:
        """Rewrite one block in place."""

    def run_outer(self, outer: Outer, ctx: PassContext) -> PassResult:
        """Rewrite what lies outside the blocks, in place; runs before the blocks.

        Tensors that two modules share afterwards (a tied embedding) must be the same object in both.
        """
        del outer, ctx
        return PassResult()

    def summarize(self, metrics: Sequence[Mapping[str, float]]) -> dict[str, float]:
        """Turn the metrics of the outer model and of every block into the pass's own; by default their means.

        Blocks without metrics are not among them.
        """
        names = dict.fromkeys(name for block in metrics for name in block)
        means = {}
        for name in names:
            values = [block[name] for block in metrics if name in block]
            means[name] = sum(values) / len(values)
        return means

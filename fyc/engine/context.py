"""What the engine hands to a pass: calibration inputs, observation, branches, a seeded generator, a logger."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx, nn

from fyc import ir
from fyc.engine.streams import Call, Stream, all_finite, runner
from fyc.engine.units import Unit
from fyc.errors import ModelError, PassError
from fyc.passes import Block, Survey


@dataclass
class Context:
    """The `fyc.PassContext` of one block (or of the outer model, which has no inputs)."""

    device: torch.device
    generator: torch.Generator
    logger: logging.Logger
    plan: Mapping[str, Any]
    select: Callable[[str], bool]
    graph: ir.ModelGraph
    model: nn.Module
    unit: Unit | None = None
    stream: Stream | None = None
    untouched: Block | None = None
    """While surveying: the block as it is; observing it computes the outputs that the stream goes on with."""
    reference: Callable[..., Any] | None = None
    """The untouched block: what later calls of one block are fed with while the block is being rewritten."""
    branch_windows: int = 0
    survey: Survey | None = None
    branches: dict[str, Stream] = field(default_factory=dict)
    branch_loss: Mapping[str, float] = field(default_factory=dict)
    branch_divergence: Mapping[str, float] = field(default_factory=dict)

    def selects(self, path: str) -> bool:
        """Whether the recipe's patterns choose this module path."""
        return self.select(path)

    def batches(self) -> Iterator[Call]:
        """The block's calibration inputs, one (args, kwargs) a batch."""
        if self.stream is None or self.unit is None:
            return iter(())
        return self.stream.calls(self.graph, self.model, self.unit, self.reference)

    def observe(self, block: Block, watch: Mapping[fx.Node | str, Callable[[Tensor], None]]) -> None:
        """Run the block over all calibration batches and hand each watched node's value to its callback."""
        callbacks = {node if isinstance(node, str) else node.name: callback for node, callback in watch.items()}
        unknown = callbacks.keys() - {node.name for node in block.graph.graph.nodes}
        if unknown:
            raise PassError("FYC-X01", f"the graph has no node {min(unknown)!r}", where=block.path)

        def on_node(node: fx.Node, value: Any) -> None:
            callback = callbacks.get(node.name)
            if callback is not None:
                if not all_finite(value):
                    raise ModelError(
                        "FYC-M04",
                        "an activation is NaN or infinite",
                        where=f"{block.path}: {node.name}",
                        next="try another dtype (model: {dtype: float32}), and check the source model",
                    )
                callback(value)

        outputs = []
        with torch.no_grad():
            for args, kwargs in self.batches():
                output = block.graph.run(block.module, args, kwargs, on_node=on_node)
                if block is self.untouched:
                    outputs.append(output)
        if self.stream is not None:
            self.stream.computed = outputs

    def branch(self, name: str, block: Block) -> None:
        """Run a changed copy of the block on the branch windows and carry the result on."""
        if self.stream is None or self.unit is None or not self.branch_windows:
            raise PassError(
                "FYC-X01",
                "a pass opened a branch where it may not",
                where=block.path,
                why="branches belong to `survey`, and `branch_windows()` must say how many windows they need",
            )
        self.branches[name] = self.stream.branch(self.graph, self.model, self.unit, runner(block), self.branch_windows)

    def survey_of(self, block: Block) -> Survey:
        """What `survey` returned for this block."""
        if self.survey is None:
            raise PassError("FYC-X01", "a pass asked for a survey it did not make", where=block.path)
        return self.survey


def seeded_generator(seed: int, position: int, path: str) -> torch.Generator:
    """A CPU generator that depends on the recipe's seed, the pass's position and the module path only."""
    digest = hashlib.sha256(f"{seed}:{position}:{path}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))

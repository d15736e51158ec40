"""The graph of one block: running it, checking it, storing it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import fx, nn

from fyc.errors import TraceError
from fyc.ir import interpreter, serialize
from fyc.ir.digest import digest
from fyc.ir.new_graph import new_graph


@dataclass(frozen=True)
class Read:
    """A place where model code turned a size or flag into a plain python value."""

    where: str
    what: str
    value: Any


@dataclass
class BlockGraph:
    """The computation of one block as a `torch.fx` graph.

    `get_attr` and `call_module` targets are paths inside the block. Equal blocks of a model share one object: edit a
    `copy()`.

    Attributes:
        graph: the graph; None when opaque.
        opaque: the block could not be traced and runs Hugging Face's own forward.
        reason: why it is opaque.
        source: module and class the graph was traced from, as `module:Class`.
        source_digest: `digest` of the graph as it was traced, before any edit.
        reads: sizes and flags that the model's code turned into plain python values.
    """

    graph: fx.Graph
    opaque: bool = False
    reason: str | None = None
    source: str = ""
    source_digest: str = ""
    reads: tuple[Read, ...] = field(default=(), compare=False)

    @property
    def digest(self) -> str:
        """Structural hash: stable across processes and node names."""
        return digest(self.graph)

    def copy(self) -> BlockGraph:
        """An independent copy that can be edited; node metadata is copied shallowly."""
        graph = new_graph()
        values: dict[fx.Node, fx.Node] = {}
        for node in self.graph.nodes:
            values[node] = graph.node_copy(node, lambda n: values[n])
        return BlockGraph(graph, self.opaque, self.reason, self.source, self.source_digest, self.reads)

    def run(
        self,
        module: nn.Module,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
        on_node: Callable[[fx.Node, Any], Any] | None = None,
    ) -> Any:
        """Interpret the graph on `module`, freeing each value after its last use.

        Args:
            module: the block, with its weights.
            args: positional arguments of the block.
            kwargs: keyword arguments of the block.
            on_node: called with every node and its value; what it returns, unless None, replaces the value.

        Raises:
            TraceError: FYC-G05 when the arguments do not fit; FYC-G04 when the graph is opaque and `on_node` is given.
        """
        kwargs = {} if kwargs is None else kwargs
        if self.opaque:
            if on_node is not None:
                raise TraceError("FYC-G04", "an opaque block has no nodes to look at", why=self.reason or "")
            return module(*args, **kwargs)
        nodes = list(self.graph.nodes)
        env = interpreter.bind_arguments(self.graph, args, kwargs)
        return interpreter.run(nodes, module, env, interpreter.last_uses(nodes), on_node)

    def lint(self, module: nn.Module) -> None:
        """Check that the graph is well formed and that every module and attribute it names exists in `module`."""
        if self.opaque:
            return
        try:
            self.graph.lint()
        except RuntimeError as error:
            raise TraceError("FYC-G07", "the block's graph is not well formed", why=str(error)) from error
        for node in self.graph.nodes:
            if node.op not in ("call_module", "get_attr"):
                continue
            try:
                interpreter.fetch(module, str(node.target))
            except AttributeError as error:
                raise TraceError(
                    "FYC-G07",
                    f"the block's graph names {node.target}, which {type(module).__name__} does not have",
                    where=node.name,
                    why=str(error),
                ) from error

    def to_json(self) -> dict[str, Any]:
        """The graph as JSON data. Raises ArtifactError FYC-A07 if it calls anything that is not on the allow-list."""
        return {
            "version": serialize.VERSION,
            "signature": {
                "source": self.source,
                "digest": self.source_digest,
                "opaque": self.opaque,
                "reason": self.reason,
            },
            "nodes": [] if self.opaque else serialize.to_json(self.graph),
        }

    @classmethod
    def from_json(cls, data: Any) -> BlockGraph:
        """The graph that `to_json` described. Safe on hostile input: anything unknown is ArtifactError FYC-A07."""
        if not isinstance(data, dict) or set(data) != {"version", "signature", "nodes"}:
            raise serialize.refuse("a graph file has the keys version, signature and nodes", "")
        if type(data["version"]) is not int or data["version"] != serialize.VERSION:
            raise serialize.refuse(f"unknown version {data['version']!r:.60}", "version")
        signature = serialize.signature(data["signature"])
        if signature["opaque"]:
            if data["nodes"] != []:
                raise serialize.refuse("an opaque graph has no nodes", "nodes")
            return cls(new_graph(), True, signature["reason"], signature["source"], signature["digest"])
        graph = serialize.from_json(data["nodes"])
        return cls(graph, False, None, signature["source"], signature["digest"])

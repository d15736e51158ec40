"""Bind an artifact's graphs to a model's blocks, and check that this transformers still computes the same."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from fyc import ir
from fyc.artifact import Artifact, Sample, read_tensors
from fyc.artifact.nested import unpack
from fyc.errors import ArtifactError, TraceError
from fyc.ir.bind import bound_graph
from fyc.ir.limits import run_limited
from fyc.plugins import Plugin

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from fyc.plugins import PluginHost

_log = logging.getLogger(__name__)

SAMPLES = "graphs/samples.safetensors"
#: Relative L2 difference of a block's output that still counts as the same, by the type it computes in.
TOLERANCE = {torch.float64: 1e-3, torch.float32: 1e-3, torch.bfloat16: 3e-2, torch.float16: 5e-3}
_MAX_GRAPH_BYTES = 16 * 2**20


def read_graph(path: Path) -> ir.BlockGraph:
    """Read one `graphs/*.json`.

    Raises:
        ArtifactError: FYC-A07 when it holds anything that is not on the allow-list.
    """
    if path.stat().st_size > _MAX_GRAPH_BYTES:
        raise ArtifactError("FYC-A07", "a graph file was refused", where=str(path), why="it is too large")
    try:
        data = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ArtifactError("FYC-A07", "a graph file is not JSON", where=str(path), why=str(error)) from error
    return ir.BlockGraph.from_json(data)


def read_graphs(artifact: Artifact) -> dict[str, ir.BlockGraph]:
    """The graph of every block by module path; equal graphs are one object. Opaque blocks have none."""
    files: dict[str, ir.BlockGraph] = {}
    graphs: dict[str, ir.BlockGraph] = {}
    for entry in artifact.manifest.blocks:
        if entry.graph is not None:
            if entry.graph not in files:
                files[entry.graph] = read_graph(artifact.path / entry.graph)
            graphs[entry.path] = files[entry.graph]
    return graphs


def check_sizes(model: nn.Module, artifact: Artifact, graphs: dict[str, ir.BlockGraph]) -> None:
    """Run each distinct graph once on the shapes of its sample, so that one that makes huge values is refused.

    Args:
        model: the skeleton, on the meta device.
        artifact: gives the samples.
        graphs: the graph of every block.

    Raises:
        ArtifactError: FYC-A07.
    """
    if not artifact.manifest.samples:
        return
    tensors = {name: tensor.to("meta") for name, tensor in read_tensors(artifact.path / SAMPLES).items()}
    seen: set[int] = set()
    for sample in artifact.manifest.samples:
        graph = graphs.get(sample.block)
        if graph is None or graph.opaque or id(graph) in seen:
            continue
        seen.add(id(graph))
        args, kwargs = unpack(sample.inputs, tensors)
        with torch.no_grad(), _fitting(sample.block):
            run_limited(graph, model.get_submodule(sample.block), args, kwargs)


def bind_blocks(model: nn.Module, graphs: dict[str, ir.BlockGraph]) -> None:
    """Bind each graph to its block; the graph is linted against the block's modules first."""
    for path, graph in graphs.items():
        try:
            layer = model.get_submodule(path)
        except AttributeError as error:
            raise ArtifactError("FYC-A06", f"the model has no block {path}", where=path) from error
        with _fitting(path):
            ir.bind(layer, graph)


@contextmanager
def _fitting(path: str) -> Iterator[None]:
    """A graph that does not fit its block, or its block's sample, is FYC-A07."""
    try:
        yield
    except TraceError as error:
        raise ArtifactError(
            "FYC-A07", "a graph does not fit the model", where=path, why=f"{error.what} {error.why}".strip()
        ) from error


def changed_structures(model: PreTrainedModel, host: PluginHost, artifact: Artifact) -> list[str]:
    """Paths of blocks whose code in the installed transformers differs from what the artifact was made with.

    All of them, when the installed code cannot be traced any more.
    """
    blocks = artifact.manifest.blocks
    try:
        source = ir.trace_model(model, is_leaf=host.trace_leaf, opaque="keep").blocks
    except TraceError as error:
        _log.warning("the model's code in the installed transformers cannot be traced: %s", error)
        source = {}
    found = {path: graph.source_digest for path, graph in source.items()}
    return [entry.path for entry in blocks if found.get(entry.path) != entry.source_digest]


def changed_leaf_rules(host: PluginHost, artifact: Artifact) -> str:
    """Which plugins decided about leaves when the artifact was made, and which do now, to end a sentence; or ""."""
    lock = json.loads((artifact.path / "recipe.lock.json").read_bytes())
    then = ", ".join(str(Plugin(**entry)) for entry in lock.get("plugins", ()))
    now = ", ".join(str(plugin) for plugin in host.implementing("fyc_trace_leaf"))
    if then == now:
        return ""
    return f"; the hook fyc_trace_leaf was implemented by {then or 'no plugin'}, now by {now or 'no plugin'}"


def check_numerically(model: PreTrainedModel, artifact: Artifact, changed: list[str], rules: str = "") -> None:
    """Run the stored samples through the bound blocks and compare with the stored outputs.

    Called when the installed transformers is not the one that made the artifact: only a numeric difference refuses.
    `rules` is what `changed_leaf_rules` said.

    Raises:
        ArtifactError: FYC-A05 when an output differs by more than the sample's tolerance (relative L2; more if the
            model was loaded in a shorter type), or when a changed block has no sample.
    """
    manifest = artifact.manifest
    graphs = {entry.path: entry.graph for entry in manifest.blocks}
    sampled = {graphs.get(sample.block) for sample in manifest.samples}
    for path in changed:
        if graphs.get(path) is not None and graphs[path] not in sampled:
            raise ArtifactError(
                "FYC-A05",
                "it cannot be checked what the installed transformers makes of a block",
                where=path,
                why=f"the code of the block changed, and the artifact holds no sample of it{rules}",
                next=f"install transformers {manifest.versions.get('transformers')}, or convert the model again",
            )
    tensors = read_tensors(artifact.path / SAMPLES) if manifest.samples else {}
    own = getattr(torch, manifest.dtype)
    for sample in manifest.samples:
        error = _sample_error(model, sample, tensors, own)
        if not error <= max(sample.tolerance, TOLERANCE[model.dtype]):
            raise ArtifactError(
                "FYC-A05",
                "the installed transformers computes something else than the artifact was made with",
                where=f"{sample.block} (relative difference {error:.2g}; {len(changed)} blocks changed)",
                why=f"made with transformers {manifest.versions.get('transformers')}{rules}",
                next="install that version of transformers, or convert the model again",
            )


def _sample_error(model: PreTrainedModel, sample: Sample, tensors: dict[str, Tensor], own: torch.dtype) -> float:
    layer = model.get_submodule(sample.block)
    device = next((t.device for t in layer.state_dict().values()), torch.device("cpu"))
    # What had the model's type when it was converted has the type it was loaded in.
    moved = {name: t.to(device, model.dtype if t.dtype == own else t.dtype) for name, t in tensors.items()}
    args, kwargs = unpack(sample.inputs, moved)
    with torch.no_grad(), _fitting(sample.block):
        bound = ir.is_bound(layer)
        output = run_limited(bound_graph(layer), layer, args, kwargs) if bound else layer(*args, **kwargs)
    actual = (output[0] if isinstance(output, tuple) else output).double()
    expected = moved[sample.output].double()
    return float((actual - expected).norm() / expected.norm().clamp_min(1e-30))

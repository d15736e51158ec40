"""Put the last stage together as an artifact: shards, graphs, configuration, manifest, report."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from fyc.artifact import (
    BlockEntry,
    Manifest,
    ModuleEntry,
    PassEntry,
    Replacement,
    Sample,
    Source,
    is_file_name,
    write_json,
    write_tensors,
    write_text,
)
from fyc.cache import file_digest
from fyc.engine.guard import RESUME, guarded, require_json
from fyc.engine.live import LiveModel
from fyc.engine.plots import draw_modules
from fyc.engine.prepare import RunPlan
from fyc.engine.report import report_text
from fyc.engine.shards import write_shards
from fyc.errors import ModelError
from fyc.ir import BlockGraph
from fyc.loading.bind import SAMPLES, TOLERANCE
from fyc.passes import Pass
from fyc.recipe import versions

if TYPE_CHECKING:
    from transformers import PreTrainedModel

#: Entries of a configuration that name this machine's folder, or code beside the source that is not carried over.
_LOCAL = frozenset({"_name_or_path", "auto_map"})


@dataclass(frozen=True)
class Outcome:
    """What the sweeps of a run measured."""

    metrics: Mapping[str, float]
    samples: Mapping[str, tuple[str, Any, str]]
    sample_tensors: Mapping[str, Tensor]


def assemble(plan: RunPlan, live: LiveModel, folder: Path, outcome: Outcome, source: str) -> Manifest:
    """Write the complete artifact into an empty folder and return its manifest.

    Args:
        plan, live, outcome: of the run.
        folder: where to.
        source: digest of the source model when the run began.

    Raises:
        ModelError: FYC-M03 when the source is another one by now.
        PassError: FYC-X03 when no tensor can guard the artifact; FYC-X01 when a pass cannot sum up its metrics.
    """
    stage = len(plan.passes) - 1
    names = ["outer", *(live.block_step(stage, unit).path.name for unit in plan.units)]
    stored = {name: live.step(stage, name).data() for name in names}
    guard = write_shards(plan, {name: live.step(stage, name) for name in names}, stored, folder)
    aliases = _merge(stored, "aliases", str)
    _write_config(plan, folder, aliases)
    graphs = _write_graphs(plan, folder, stored)
    samples = _write_samples(plan, folder, outcome)
    write_text(folder / "recipe.yaml", plan.recipe.to_yaml())
    write_json(folder / "recipe.lock.json", dict(plan.lock))
    manifest = Manifest(
        versions=versions(),
        architecture=plan.checkpoint.architecture,
        dtype=plan.dtype_name,
        source=Source(
            name=plan.recipe.model.source,
            revision=plan.recipe.model.revision,
            digest=_source_digest(plan, source),
            size_bytes=plan.source_bytes,
        ),
        passes=_passes(plan, live, names),
        modules=_modules(plan, live, names),
        replaced=_merge(stored, "replaced", Replacement.model_validate),
        blocks=graphs,
        aliases=aliases,
        guard=guard,
        samples=samples,
        metrics=dict(outcome.metrics),
        files={},
    )
    picture = "modules.svg" if draw_modules(manifest.modules, folder / "modules.svg") else None
    write_text(folder / "report.md", report_text(manifest, folder, picture))
    files = {str(path.relative_to(folder)): file_digest(path) for path in sorted(folder.rglob("*")) if path.is_file()}
    manifest = manifest.model_copy(update={"files": files})
    write_text(folder / "fyc.json", manifest.to_text())
    return manifest


def _source_digest(plan: RunPlan, began: str) -> str:
    digest = plan.checkpoint.digest()
    if digest != began:
        raise ModelError(
            "FYC-M03",
            "the source model changed while it was converted",
            where=str(plan.checkpoint.folder),
            why="its digest is not the one that the run began with",
            next="leave the source alone while it is read; drop this run with `fyc clean` and start again",
        )
    return digest


def _write_config(plan: RunPlan, folder: Path, aliases: Mapping[str, str]) -> None:
    config = {key: value for key, value in plan.skeleton.config.to_dict().items() if key not in _LOCAL}
    config["architectures"] = [plan.checkpoint.architecture]
    config["dtype"] = plan.dtype_name
    if config.get("tie_word_embeddings") and not _still_tied(plan.skeleton, aliases):
        config["tie_word_embeddings"] = False
    config["quantization_config"] = {"quant_method": "fyc", "schema": 1}
    write_json(folder / "config.json", config)
    for path in plan.checkpoint.companions:
        if is_file_name(path.name):
            shutil.copyfile(path, folder / path.name)


def _still_tied(model: PreTrainedModel, aliases: Mapping[str, str]) -> bool:
    """Whether the head is the embedding matrix, as the configuration says: a pass may have given it its own."""
    return all(
        aliases.get(target, target) == aliases.get(source, source)
        for target, source in model.all_tied_weights_keys.items()
    )


def _write_graphs(plan: RunPlan, folder: Path, stored: Mapping[str, Any]) -> list[BlockEntry]:
    (folder / "graphs").mkdir()
    entries = []
    for unit, name in zip(plan.units, [name for name in stored if name != "outer"], strict=True):
        graph = stored[name]["graph"]
        source = plan.graph.blocks[unit.path]
        file = None
        if graph is not None:
            digest = BlockGraph.from_json(graph).digest
            file = f"graphs/block-{digest[:16]}.json"
            if not (folder / file).exists():
                write_json(folder / file, graph)
        changed = bool(stored[name]["modules"])
        entries.append(BlockEntry(path=unit.path, graph=file, source_digest=source.source_digest, changed=changed))
    return entries


def _write_samples(plan: RunPlan, folder: Path, outcome: Outcome) -> list[Sample]:
    write_tensors(folder / SAMPLES, outcome.sample_tensors)
    tolerance = TOLERANCE[plan.dtype]
    return [
        Sample(block=block, inputs=inputs, output=output, tolerance=tolerance)
        for block, inputs, output in outcome.samples.values()
    ]


def _passes(plan: RunPlan, live: LiveModel, names: list[str]) -> list[PassEntry]:
    entries = []
    for position, pass_plan in enumerate(plan.passes):
        results = [live.step(position, name).data() for name in names]
        metrics = [result["metrics"] for result in results if result["metrics"]]
        entries.append(
            PassEntry(
                name=pass_plan.pass_.name,
                version=pass_plan.pass_.version,
                distribution=pass_plan.distribution,
                options=pass_plan.pass_.options.model_dump(mode="json"),
                metrics=_summary(pass_plan.pass_, metrics),
                notes=list(dict.fromkeys(note for result in results for note in result["notes"])),
            )
        )
    return entries


def _summary(pass_: Pass[Any], metrics: list[dict[str, float]]) -> dict[str, float]:
    def summarize() -> dict[str, float]:
        summary = {name: float(value) for name, value in pass_.summarize(metrics).items()}
        require_json(summary, "metrics")
        return summary

    return guarded(pass_, summarize, dict, "its metrics", advice=RESUME)


def _modules(plan: RunPlan, live: LiveModel, names: list[str]) -> list[ModuleEntry]:
    return [
        ModuleEntry(by=pass_plan.pass_.name, **report)
        for position, pass_plan in enumerate(plan.passes)
        for name in names
        for report in live.step(position, name).data()["modules"]
    ]


def _merge(stored: Mapping[str, Any], key: str, build: Any) -> dict[str, Any]:
    return {path: build(entry) for data in stored.values() for path, entry in data[key].items()}


def write_run_json(folder: Path, data: Mapping[str, Any]) -> None:
    """Write `run.json`: times, peak memory and host, which are outside the hashes."""
    (folder / "run.json").write_text(json.dumps(data, indent=1, sort_keys=True) + "\n", encoding="utf-8")

"""Everything that can be known before anything is computed: the plan of a run, and what `--dry-run` prints."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from fyc import ir
from fyc.artifact import is_file_name
from fyc.artifact.manifest import Dtype
from fyc.engine.guard import guarded
from fyc.engine.order import check_order
from fyc.engine.streams import STREAM_INPUTS
from fyc.engine.units import Unit, units_of
from fyc.engine.workspace import check_output
from fyc.errors import RecipeError, ResourceError, TraceError, UserError
from fyc.models import Checkpoint, load_tokenizer, open_checkpoint, read_text, skeleton, windows
from fyc.passes import Finding, ModelView, Pass, predicts_next
from fyc.recipe import ModulePatterns, Recipe, lock, resolve_passes

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from fyc.plugins import PluginHost

#: What a process needs before it holds a single weight (torch, transformers): measured, see docs/benchmarks.md.
_IMPORTS_BYTES = 450 * 10**6
_LEVELS = ("info", "warning", "error")
#: How many findings an error repeats.
_SHOWN = 3
#: Graph, reports and survey of one block in one pass (20 to 100 kB were seen), and what an artifact has once.
_BESIDE_BYTES = 256 * 10**3
_ARTIFACT_BYTES = 10**6


@dataclass(frozen=True)
class PassPlan:
    """One pass of the recipe, ready to run.

    Attributes:
        pass_: the pass with its options.
        distribution: who brings it, with version.
        patterns: the recipe's include/exclude.
        targets: module path to predicted bytes afterwards.
        findings: what its `check` said.
        surveys, branch_windows: what its methods of these names say.
    """

    pass_: Pass[Any]
    distribution: str
    patterns: ModulePatterns
    targets: Mapping[str, int]
    findings: Sequence[Finding]
    surveys: bool
    branch_windows: int


@dataclass(frozen=True)
class RunPlan:
    """A validated run. `to_json()` is what `fyc convert --dry-run --json` prints."""

    recipe: Recipe
    host: PluginHost
    output: Path
    device: torch.device
    dtype: torch.dtype
    checkpoint: Checkpoint
    skeleton: PreTrainedModel
    graph: ir.ModelGraph
    units: Sequence[Unit]
    passes: Sequence[PassPlan]
    lock: Mapping[str, Any]
    calibration: torch.Tensor | None = field(repr=False)
    held_out: torch.Tensor | None = field(repr=False)

    @property
    def findings(self) -> list[Finding]:
        """Every finding of every pass, and of the model itself."""
        own = [
            Finding("warning", f"kept as it is: {graph.reason}", where=path)
            for path, graph in self.graph.blocks.items()
            if graph.opaque
        ]
        if not self.checkpoint.streaming:
            own.append(Finding("warning", "the checkpoint cannot be streamed: the whole model is held in memory"))
        for path in self.checkpoint.companions:
            if not is_file_name(path.name):
                own.append(Finding("warning", "left behind: an artifact holds no file of this name", where=str(path)))
        return own + [finding for plan in self.passes for finding in plan.findings]

    @property
    def dtype_name(self) -> Dtype:
        """The dtype as manifests and configurations spell it."""
        names: dict[torch.dtype, Dtype] = {
            torch.float32: "float32",
            torch.bfloat16: "bfloat16",
            torch.float16: "float16",
        }
        return names[self.dtype]

    @property
    def source_bytes(self) -> int:
        """Bytes of the source model's tensors."""
        return self.checkpoint.size_bytes

    @property
    def predicted_size_bytes(self) -> int:
        """Predicted bytes of the artifact's tensors."""
        targets: dict[str, int] = {}
        for plan in self.passes:
            targets.update(plan.targets)
        seen: set[int] = set()
        total = sum(targets.values())
        for path, module in self.skeleton.named_modules():
            if any(path == target or path.startswith(target + ".") for target in targets):
                seen.update(id(tensor) for tensor in module.parameters(recurse=False))
                continue
            for tensor in module.parameters(recurse=False):
                if id(tensor) not in seen:
                    seen.add(id(tensor))
                    total += tensor.numel() * tensor.element_size()
        return total

    @property
    def predicted_peak_memory_bytes(self) -> int:
        """An estimate: imports, the calibration stream, and the largest block in working copies."""
        largest = max(_bytes(self.skeleton.get_submodule(unit.path)) for unit in self.units)
        outer = _bytes(self.skeleton) - sum(_bytes(self.skeleton.get_submodule(path)) for path in self._paths)
        tokens = 0 if self.calibration is None else self.calibration.numel()
        hidden = int(self.skeleton.config.get_text_config().hidden_size)
        stream = tokens * hidden * self.dtype.itemsize
        return _IMPORTS_BYTES + stream + max(4 * largest, outer)

    @property
    def disk_needed_bytes(self) -> int:
        """Upper bound of what a run writes: a copy of the model a pass, the artifact, what lies beside weights."""
        copies = len(self.passes) + 1
        beside = copies * len(self.units) * _BESIDE_BYTES + _ARTIFACT_BYTES
        companions = sum(path.stat().st_size for path in self.checkpoint.companions)
        return copies * max(self.source_bytes, _bytes(self.skeleton)) * 11 // 10 + companions + beside

    @property
    def _paths(self) -> set[str]:
        return {unit.path for unit in self.units}

    def fingerprint(self) -> dict[str, Any]:
        """What must be equal for a run to be resumed, and for two runs to give the same bytes."""
        recipe = self.recipe.to_data()
        del recipe["output"]["dir"]
        return {
            "recipe": recipe,
            "lock": dict(self.lock),
            "source": self.checkpoint.digest(),
            "calibration": _digest(self.calibration),
            "held_out": _digest(self.held_out),
            "device": str(self.device),
            "threads": torch.get_num_threads(),
            "cpu": torch.backends.cpu.get_cpu_capability(),
        }

    def to_json(self) -> dict[str, Any]:
        """The plan as JSON-able data."""
        return {
            "model": self.recipe.model.source,
            "architecture": self.checkpoint.architecture,
            "dtype": self.dtype_name,
            "output": str(self.output),
            "blocks": len(self.units),
            "structures": len({graph.digest for graph in self.graph.blocks.values()}),
            "opaque": sorted(path for path, graph in self.graph.blocks.items() if graph.opaque),
            "calibration_tokens": 0 if self.calibration is None else self.calibration.numel(),
            "passes": [
                {
                    "use": plan.pass_.name,
                    "version": plan.pass_.version,
                    "distribution": plan.distribution,
                    "options": plan.pass_.options.model_dump(mode="json"),
                    "modules": sorted(plan.targets),
                }
                for plan in self.passes
            ],
            "findings": [vars(finding) for finding in self.findings],
            "source_bytes": self.source_bytes,
            "predicted_size_bytes": self.predicted_size_bytes,
            "predicted_peak_memory_bytes": self.predicted_peak_memory_bytes,
            "disk_needed_bytes": self.disk_needed_bytes,
        }


def prepare(
    recipe: Recipe,
    *,
    host: PluginHost,
    output: Path,
    device: str | torch.device = "cpu",
    offline: bool = False,
    resume: bool = False,
) -> RunPlan:
    """Validate a recipe against the model, the plugins, the text and the disk; computes nothing.

    Args:
        recipe: the recipe.
        host: the installed plugins.
        output: folder to write.
        device: where to compute.
        offline: use no network.
        resume: whether an interrupted run is to go on: then output and disk are `convert`'s to check.

    Raises:
        UserError: the recipe, a plugin, the model, the text or the output cannot be used (exit 2).
        TraceError: a block cannot be traced (exit 3).
        ResourceError: FYC-S01 when the disk is too small (exit 6).
    """
    passes = resolve_passes(recipe, host)
    check_order(recipe, passes)
    if not resume:
        check_output(output, gate=recipe.verify is not None)
    spec = recipe.model
    checkpoint = open_checkpoint(spec.source, sources=host.sources, revision=spec.revision, offline=offline)
    dtype = checkpoint.dtype if spec.dtype == "auto" else getattr(torch, spec.dtype)
    model = skeleton(checkpoint, dtype)
    _refuse_gate(recipe, model)
    graph = ir.trace_model(model, is_leaf=host.trace_leaf, opaque=spec.opaque)
    _refuse_inputs(graph)
    units = units_of(graph)
    calibration, held_out = _texts(recipe, checkpoint, offline)
    plan = RunPlan(
        recipe=recipe,
        host=host,
        output=output,
        device=torch.device(device),
        dtype=dtype,
        checkpoint=checkpoint,
        skeleton=model,
        graph=graph,
        units=units,
        passes=[_pass_plan(recipe, index, pass_, host, model, graph) for index, pass_ in enumerate(passes)],
        lock=lock(recipe, passes, host),
        calibration=calibration,
        held_out=held_out,
    )
    _refuse_errors(plan)
    if not resume:
        _check_disk(plan)
    return plan


def check_resources(plan: RunPlan, *, resume: bool) -> None:
    """Check output folder and free disk before work starts.

    Raises:
        RecipeError: FYC-R08 when the output folder is not empty.
        ResourceError: FYC-S01 when the disk cannot hold what the run writes.
    """
    check_output(plan.output, gate=plan.recipe.verify is not None)
    if not resume:
        _check_disk(plan)


def _check_disk(plan: RunPlan) -> None:
    parent = next(folder for folder in plan.output.absolute().parents if folder.exists())
    free = shutil.disk_usage(parent).free
    if free < plan.disk_needed_bytes:
        raise ResourceError(
            "FYC-S01",
            "not enough free disk space",
            where=str(parent),
            why=f"the run writes up to {plan.disk_needed_bytes / 1e9:.2f} GB, {free / 1e9:.2f} GB are free",
            next="free some space, or choose an output folder on another disk with -o",
        )


def _refuse_gate(recipe: Recipe, model: PreTrainedModel) -> None:
    if recipe.verify is not None and not predicts_next(model):
        raise RecipeError(
            "FYC-R09",
            f"`verify` cannot measure a {type(model).__name__}",
            where=recipe.where("verify"),
            why="the gate is next-token perplexity, and this model does not predict the next token",
            next="take `verify` out of the recipe, and measure the model on its own task",
        )


def _refuse_inputs(graph: ir.ModelGraph) -> None:
    try:
        graph.variant(STREAM_INPUTS)
    except TraceError as error:
        raise TraceError(
            error.code,
            "the model does not run on token ids alone, and fyc feeds nothing else",
            where=error.where,
            why=error.why,
            next="take another model: those that need a second input, such as T5, cannot be converted",
        ) from error


def _texts(recipe: Recipe, checkpoint: Checkpoint, offline: bool) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    spec = recipe.calibration
    if spec is None:
        return None, None
    held_out = recipe.verify.samples if recipe.verify else 0
    text = read_text(spec.text, offline=offline)
    tokens = windows(load_tokenizer(checkpoint.folder), text, spec.samples + held_out, spec.length)
    return tokens[: spec.samples], tokens[spec.samples :] if held_out else None


def _pass_plan(
    recipe: Recipe, index: int, pass_: Pass[Any], host: PluginHost, model: PreTrainedModel, graph: ir.ModelGraph
) -> PassPlan:
    use = recipe.passes[index]
    patterns = ModulePatterns(use.include, use.exclude)
    unmatched = patterns.unmatched(name for name, _ in model.named_modules() if name)
    if unmatched:
        key = "include" if unmatched[0] in use.include else "exclude"
        position = getattr(use, key).index(unmatched[0])
        raise RecipeError(
            "FYC-R04",
            f"the pattern {unmatched[0]!r} matches no module",
            where=recipe.where("passes", index, key, position),
            next="`fyc convert RECIPE --dry-run` without the pattern lists the modules of the model",
        )
    view = ModelView(model, graph, patterns.selects)
    registered = host.passes[pass_.name]
    targets = guarded(pass_, lambda: _targets(pass_, view), dict, "its targets")
    findings = guarded(pass_, lambda: _findings(pass_, view), tuple, "its check")
    if not targets:
        raise RecipeError(
            "FYC-R04",
            f"the pass {pass_.name!r} finds nothing to do in this model",
            where=recipe.where("passes", index),
            why=_nothing_because(findings),
            next="change `include`/`exclude` or its options, or drop the pass",
        )
    surveys = guarded(pass_, pass_.surveys, bool, "whether it surveys")
    windows = guarded(pass_, pass_.branch_windows, int, "its branch windows")
    distribution = f"{registered.distribution} {registered.version}"
    return PassPlan(pass_, distribution, patterns, targets, findings, surveys, windows)


def _targets(pass_: Pass[Any], view: ModelView) -> dict[str, int]:
    targets = dict(pass_.targets(view))
    for path, size in targets.items():
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise TypeError(f"the bytes of {path!r:.80} are {size!r:.80}, not a whole number of 0 or more")
        try:
            view.skeleton.get_submodule(path)
        except AttributeError:
            raise ValueError(f"the model has no module {path!r:.80}; paths start at the model") from None
        if not view.selects(path):
            raise ValueError(f"{path!r:.80} is not selected; ask model.selects(path) first")
    return targets


def _findings(pass_: Pass[Any], view: ModelView) -> tuple[Finding, ...]:
    found = pass_.check(view)
    if isinstance(found, str) or not isinstance(found, Iterable):
        raise TypeError(f"it returned {type(found).__name__} instead of a sequence of fyc.Finding")
    findings = tuple(found)
    for finding in findings:
        if not isinstance(finding, Finding):
            raise TypeError(f"it returned {finding!r:.80}, which is no fyc.Finding")
        if finding.level not in _LEVELS:
            raise ValueError(f"a finding has the level {finding.level!r:.80} instead of {', '.join(_LEVELS)}")
    return findings


def _nothing_because(findings: Sequence[Finding]) -> str:
    """Why a pass has nothing to do; the run stops here, so its own words would not be seen otherwise."""
    said = [
        f"{finding.message} ({finding.where})" if finding.where else finding.message
        for finding in findings
        if finding.level != "info"
    ]
    shown = said[:_SHOWN] + ([f"{len(said) - _SHOWN} more"] if len(said) > _SHOWN else [])
    return "; ".join(["no module that it handles is selected", *shown])


def _refuse_errors(plan: RunPlan) -> None:
    for finding in plan.findings:
        if finding.level == "error":
            raise UserError("FYC-R09", finding.message, where=finding.where, next=finding.next)


def _bytes(module: torch.nn.Module) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in module.parameters())


def _digest(tokens: torch.Tensor | None) -> str | None:
    return None if tokens is None else hashlib.sha256(tokens.numpy().tobytes()).hexdigest()

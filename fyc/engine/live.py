"""The model while it is converted: blocks and outer parts brought into memory one at a time, from source or stage."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from fyc import ir
from fyc.artifact import Replacement
from fyc.engine.guard import REPAIR, RESUME, guarded
from fyc.engine.leavings import (
    check_attributes,
    check_paths,
    check_report,
    check_tensors,
    rebuildable,
    same_class,
    within,
)
from fyc.engine.prepare import RunPlan
from fyc.engine.units import Unit
from fyc.engine.workspace import Step, Workspace
from fyc.errors import ArtifactError, PassError
from fyc.loading.rebuild import persistent_tensors, replace_modules, set_module, set_tensor, shared_tensors
from fyc.models import materialize, outer_paths, release
from fyc.passes import Block, FycModule, ModuleReport, Pass, PassResult

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SOURCE = -1
#: What errors call the place that is no block.
OUTER = "the model outside its blocks"


class LiveModel:
    """Gives blocks and the outer model with weights, as they are after a given stage.

    Args:
        plan: the run.
        workspace: where the stages are.
    """

    def __init__(self, plan: RunPlan, workspace: Workspace) -> None:
        self._plan = plan
        self._workspace = workspace
        self._model = copy.deepcopy(plan.skeleton)
        self._pristine = plan.skeleton
        self._paths = [unit.path for unit in plan.units]

    def step(self, stage: int, name: str) -> Step:
        """The step that holds a block or the outer model after a stage."""
        return Step(self._workspace.stage(stage, self._plan.passes[stage].pass_.name) / "run" / name)

    def block_step(self, stage: int, unit: Unit) -> Step:
        """The step that holds one block after a stage."""
        return self.step(stage, f"block-{unit.index:04d}")

    def block(self, unit: Unit, stage: int) -> Block:
        """A block with its weights and its own copy of its graph, as it is after a stage (`SOURCE`: untouched)."""
        graph = self._plan.graph.blocks[unit.path].copy()
        if stage != SOURCE:
            step = self.block_step(stage, unit)
            data = step.data()
            if data["graph"] is not None:
                graph = ir.BlockGraph.from_json(data["graph"])
            self._restore(self._model, data, step.tensors())
        self._materialize(self._model, [unit.path])
        return Block(unit.index, unit.path, self._model.get_submodule(unit.path), graph)

    def drop(self, unit: Unit) -> None:
        """Free a block."""
        set_module(self._model, unit.path, copy.deepcopy(self._pristine.get_submodule(unit.path)))

    def outer(self, stage: int) -> PreTrainedModel:
        """A copy of the model whose outer parts have weights, as they are after a stage; its blocks have none."""
        model = copy.deepcopy(self._pristine)
        if stage != SOURCE:
            step = self.step(stage, "outer")
            self._restore(model, step.data(), step.tensors())
        self._materialize(model, outer_paths(model, self._paths))
        return model

    def outer_tensors(self, model: nn.Module) -> dict[str, Tensor]:
        """The outer parts' tensors by name; shared ones under every name."""
        prefixes = tuple(f"{path}." for path in self._paths)
        return {name: tensor for name, tensor in persistent_tensors(model) if not name.startswith(prefixes)}

    def replaced(self, stage: int, name: str) -> dict[str, Replacement]:
        """What passes had put into a block or the outer model by the end of a stage."""
        if stage == SOURCE:
            return {}
        stored = self.step(stage, name).data()["replaced"]
        return {path: Replacement.model_validate(entry) for path, entry in stored.items()}

    def save(
        self,
        stage: int,
        name: str,
        tensors: Mapping[str, Tensor],
        result: PassResult,
        root: nn.Module,
        prefix: str,
        graph: ir.BlockGraph | None,
    ) -> None:
        """Store a converted block (or the outer model) as a finished step.

        Raises:
            PassError: FYC-X03 when the pass left a module or a shape that loading would not accept, or reports
                something else than what it did; FYC-X01 for a result that holds no reports.
        """
        pass_ = self._plan.passes[stage].pass_
        before = self.replaced(stage - 1, name) if stage else {}
        skip = self._paths if not prefix else []
        replaced = _replacements(pass_, root, prefix, before, self._pristine, skip)
        aliases = {alias: first for alias, first in shared_tensors(root).items() if alias in tensors}
        check_tensors(pass_, tensors, replaced, self._pristine, prefix, skip)
        check_attributes(pass_, root, replaced, self._pristine, prefix, skip)
        data = {
            "graph": None if graph is None or graph.opaque else _graph_data(pass_, graph, prefix),
            "replaced": {path: entry.model_dump(mode="json") for path, entry in replaced.items()},
            "aliases": aliases,
            **guarded(pass_, lambda: _result_data(result), dict, prefix or OUTER, advice=RESUME),
        }
        check_report(pass_, data, prefix or OUTER)
        made = [path for path, entry in replaced.items() if entry is not before.get(path)]
        check_paths(pass_, [report["path"] for report in data["modules"]], made, root, prefix, self._pristine)
        own = {key: tensor for key, tensor in tensors.items() if key not in aliases}
        self.step(stage, name).write(data, own)

    def _restore(self, model: nn.Module, data: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        replaced = {path: Replacement.model_validate(entry) for path, entry in data["replaced"].items()}
        replace_modules(model, replaced, self._plan.host)
        for name, tensor in tensors.items():
            set_tensor(model, name, tensor.to(self._plan.device))
        named = dict(persistent_tensors(model))
        for alias, name in data["aliases"].items():
            set_tensor(model, alias, named[name])

    def _materialize(self, model: PreTrainedModel, paths: Sequence[str]) -> None:
        materialize(model, paths, self._plan.checkpoint, dtype=self._plan.dtype, device=self._plan.device)


def release_unused(model: PreTrainedModel, keep: Sequence[str], blocks: Sequence[str]) -> None:
    """Free the outer parts that are not below one of the paths to keep."""
    for path in outer_paths(model, blocks):
        if not any(path == kept or path.startswith(f"{kept}.") for kept in keep):
            release(model, path)


def _replacements(
    pass_: Pass[Any],
    root: nn.Module,
    prefix: str,
    before: Mapping[str, Replacement],
    pristine: nn.Module,
    skip: Sequence[str],
) -> dict[str, Replacement]:
    """What stands in the block that transformers' own class would not build; refuses what no pass may leave."""
    original = {name: type(module) for name, module in pristine.named_modules()}
    found: dict[str, Replacement] = {}
    inside: list[str] = []
    base = f"{prefix}." if prefix else ""
    for name, module in root.named_modules():
        path = base + name if name else prefix
        if any(path.startswith(f"{outer}.") for outer in inside) or any(within(path, block) for block in skip):
            continue
        if isinstance(module, FycModule):
            inside.append(path)
            found[path] = _replacement(pass_, path, module, before)
        elif path not in original or not same_class(original[path], type(module)):
            raise PassError(
                "FYC-X03",
                f"the pass {pass_.name!r} left a {type(module).__name__} that cannot be loaded again",
                where=path,
                why="only subclasses of fyc.FycModule listed in the pass's `modules` may be left",
                next=REPAIR,
            )
    present = {base + name if name else prefix for name, _ in root.named_modules()}
    for path in original:
        inside_block = within(path, prefix) if prefix else not any(within(path, block) for block in skip)
        if inside_block and path not in present and not any(path.startswith(f"{outer}.") for outer in inside):
            raise PassError(
                "FYC-X03",
                f"the pass {pass_.name!r} removed a module",
                where=path,
                why="a module may be replaced or stand unused in the graph, but its path stays",
                next=REPAIR,
            )
    return found


def _replacement(pass_: Pass[Any], path: str, module: FycModule, before: Mapping[str, Replacement]) -> Replacement:
    old = before.get(path)
    name = type(module).__name__
    config = rebuildable(pass_, path, module)
    if old is not None and old.cls == name and old.config == config:
        return old
    if type(module) not in pass_.modules:
        raise PassError(
            "FYC-X03",
            f"the pass {pass_.name!r} left a {name} that it does not list",
            where=path,
            why="`modules` of the pass is the allow-list for loading",
            next=f"if this is your pass, add {name} to its `modules`; if not, report this to its author",
        )
    return Replacement(by=pass_.name, cls=name, config=config)


def _result_data(result: PassResult) -> dict[str, Any]:
    for report in result.modules:
        if not isinstance(report, ModuleReport):
            raise TypeError(f"it reports {report!r:.80}, which is no fyc.ModuleReport")
    return {
        "modules": [{**vars(report), "details": dict(report.details)} for report in result.modules],
        "metrics": dict(result.metrics),
        "notes": list(result.notes),
    }


def _graph_data(pass_: Pass[Any], graph: ir.BlockGraph, path: str) -> dict[str, Any]:
    try:
        return graph.to_json()
    except ArtifactError as error:
        raise PassError(
            "FYC-X03",
            f"the pass {pass_.name!r} left a graph that cannot be stored",
            where=f"{path}: {error.where}" if error.where else path,
            why=error.why or error.what,
            next="graphs may call modules, and the functions that fyc knows; put other code into a fyc.FycModule",
        ) from error

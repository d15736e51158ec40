"""The sweeps of a pass over the blocks: survey the untouched model, then convert it block by block."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor

from fyc.artifact.nested import pack
from fyc.engine.context import Context, seeded_generator
from fyc.engine.dump import dump_block
from fyc.engine.guard import REPAIR, RESUME, guarded, require_json
from fyc.engine.live import OUTER, SOURCE, LiveModel, release_unused
from fyc.engine.prepare import RunPlan
from fyc.engine.progress import Progress
from fyc.engine.streams import BranchScores, Stream, middle_modules, runner, score_branches, stored_call
from fyc.engine.units import Unit
from fyc.engine.workspace import Step, Workspace
from fyc.errors import PassError, TraceError
from fyc.loading.rebuild import persistent_tensors, shared_tensors
from fyc.models import trim_heap
from fyc.passes import Block, Outer, PassResult, Survey
from fyc.ui.events import EventSink

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_T = TypeVar("_T")
#: Token ids of the sample that an artifact keeps of each block structure.
SAMPLE_TOKENS = 8


@dataclass
class Sweeper:
    """Runs the sweeps of one pass.

    Attributes:
        plan, workspace, live: the run.
        position: index of the pass in the recipe.
        events: where progress goes.
        dump: folder for graph dumps, or None.
    """

    plan: RunPlan
    workspace: Workspace
    live: LiveModel
    position: int
    events: EventSink
    dump: Path | None
    samples: dict[str, tuple[str, Any, str]] = field(default_factory=dict)
    sample_tensors: dict[str, Tensor] = field(default_factory=dict)

    @property
    def before(self) -> int:
        """The stage this pass starts from."""
        return self.position - 1 if self.position else SOURCE

    def survey(self, *, baseline: bool) -> tuple[dict[str, Survey], BranchScores, float | None]:
        """Show every block, untouched, to the pass.

        Args:
            baseline: whether the held-out windows travel along, to learn the loss before this pass.

        Returns:
            Surveys by block path, how the branches ended, and the loss of the held-out windows.
        """
        pass_plan = self.plan.passes[self.position]
        held_out = Stream(self.plan.held_out, "score") if baseline and self.plan.held_out is not None else None
        streams = {} if held_out is None else {"held-out": held_out}
        windows, asks = pass_plan.branch_windows, pass_plan.surveys
        if asks and self.plan.calibration is not None:
            streams["calibration"] = Stream(self.plan.calibration, "drop")
            if windows:
                streams["untouched"] = Stream(self.plan.calibration[:windows], "keep")
        branches: dict[str, Stream] = {}
        surveys: dict[str, Survey] = {}

        def visit(unit: Unit, model: PreTrainedModel) -> Callable[..., Any]:
            block = self.live.block(unit, self.before)
            opened: dict[str, Stream] = {}
            if asks and not block.graph.opaque:
                surveys[unit.path], opened = self._survey_block(unit, block, model, streams.get("calibration"))
            run = runner(block)
            for branch in branches.values():
                branch.through(self.plan.graph, model, unit, run)
            branches.update(opened)
            return run

        model = self._sweep("survey", list(streams.values()), self.before, visit)
        scores = BranchScores()
        if "untouched" in streams:
            scores = score_branches(self.plan.graph, model, streams["untouched"], branches)
        return surveys, scores, None if held_out is None else held_out.loss

    def decide(self, surveys: Mapping[str, Survey], scores: BranchScores) -> dict[str, Any]:
        """Ask the pass for its plan."""
        pass_ = self.plan.passes[self.position].pass_
        ctx = self.context("", {}, self.plan.skeleton)
        ctx.branch_loss, ctx.branch_divergence = scores.loss, scores.divergence

        def decide() -> dict[str, Any]:
            decided = pass_.plan(surveys, ctx)
            require_json(decided, "plan")
            return decided

        return self._guarded(decide, dict, "its plan over all blocks", ctx)

    def convert(self, surveys: Mapping[str, Survey], plan: dict[str, Any]) -> float | None:
        """Rewrite the outer model, then every block; returns the loss of the held-out windows afterwards."""
        self._convert_outer(plan)
        calibration = self.plan.calibration
        held_out = self.plan.held_out
        last_pass = self.position == len(self.plan.passes) - 1
        streams = {
            "calibration": None if calibration is None else Stream(calibration, "drop"),
            "held-out": None if held_out is None or not last_pass else Stream(held_out, "score"),
            "sample": Stream(torch.arange(1, SAMPLE_TOKENS + 1).unsqueeze(0), "drop") if last_pass else None,
        }

        def visit(unit: Unit, model: PreTrainedModel) -> Callable[..., Any]:
            if not self.live.block_step(self.position, unit).done:
                self._convert_block(unit, model, streams["calibration"], surveys.get(unit.path), plan)
                self.live.drop(unit)
            # What goes on through the model is what was stored: a resumed run does the very same.
            block = self.live.block(unit, self.position)
            run = runner(block)
            if streams["sample"] is not None:
                self._sample(unit, block, streams["sample"], model)
            return run

        self._sweep("run", [stream for stream in streams.values() if stream], self.position, visit)
        return streams["held-out"].loss if streams["held-out"] else None

    def _sweep(
        self,
        phase: str,
        streams: list[Stream],
        stage: int,
        visit: Callable[[Unit, PreTrainedModel], Callable[..., Any]],
    ) -> PreTrainedModel:
        """Send the streams through all blocks; returns the outer model, whose head is in memory at the end."""
        graph, units = self.plan.graph, self.plan.units
        progress = Progress(self.events, self.plan.passes[self.position].pass_.name, phase, len(units))
        progress.start()
        model = self.live.outer(stage)
        for stream in streams:
            stream.start(graph, model, self.plan.device)
        release_unused(model, middle_modules(graph), [unit.path for unit in units])
        for unit in units:
            run = visit(unit, model)
            if unit is units[-1]:
                # Only now, when what the pass held is free again: the head is large.
                model = self.live.outer(stage)
            for stream in streams:
                stream.through(graph, model, unit, run)
            self.live.drop(unit)
            del run  # it holds the block, also while the next one is loaded
            trim_heap()
            progress.block(unit.index, unit.path)
        return model

    def _survey_block(
        self, unit: Unit, block: Block, model: PreTrainedModel, stream: Stream | None
    ) -> tuple[Survey, dict[str, Stream]]:
        pass_plan = self.plan.passes[self.position]
        step = self._step("survey", f"block-{unit.index:04d}")
        ctx = self.context(unit.path, {}, model)
        ctx.unit, ctx.stream, ctx.branch_windows = unit, stream, pass_plan.branch_windows
        if len(unit.calls) > 1:
            ctx.reference = runner(copy.deepcopy(block))
        else:
            ctx.untouched = block
        # Branches live in memory only, so a pass that opens some repeats its survey when it is resumed.
        if ctx.branch_windows or not step.done:

            def look() -> Survey:
                survey = pass_plan.pass_.survey(block, ctx)
                if isinstance(survey, Survey):
                    require_json(survey.values, "values")
                    step.write({"values": dict(survey.values)}, survey.tensors)
                return survey

            self._guarded(look, Survey, unit.path, ctx, block)
        return self.stored_survey(unit.path), ctx.branches

    def stored_survey(self, path: str) -> Survey:
        """The survey of a block as it was stored."""
        index = next(unit.index for unit in self.plan.units if unit.path == path)
        step = self._step("survey", f"block-{index:04d}")
        return Survey(step.data()["values"], step.tensors())

    def _convert_outer(self, plan: Mapping[str, Any]) -> None:
        pass_ = self.plan.passes[self.position].pass_
        if self.live.step(self.position, "outer").done:
            return
        model = self.live.outer(self.before)
        ctx = self.context("", plan, model)
        outer = Outer(model, self.plan.graph, shared_tensors(model))
        result = self._guarded(lambda: pass_.run_outer(outer, ctx), PassResult, OUTER, ctx)
        self.live.save(self.position, "outer", self.live.outer_tensors(model), result, model, "", None)

    def _convert_block(
        self,
        unit: Unit,
        model: PreTrainedModel,
        stream: Stream | None,
        survey: Survey | None,
        plan: Mapping[str, Any],
    ) -> None:
        pass_ = self.plan.passes[self.position].pass_
        host = self.plan.host
        block = self.live.block(unit, self.before)
        result = PassResult()
        if not block.graph.opaque:
            ctx = self.context(unit.path, plan, model)
            ctx.unit, ctx.stream, ctx.survey = unit, stream, survey
            ctx.reference = runner(copy.deepcopy(block)) if len(unit.calls) > 1 else None
            original = str(block.graph.graph)
            host.call("fyc_before_pass", pass_=pass_, block=block, ctx=ctx)
            try:
                result = self._guarded(lambda: pass_.run(block, ctx), PassResult, unit.path, ctx, block)
                _lint(pass_.name, block)
            finally:
                if self.dump is not None:
                    dump_block(self.dump, self.position, pass_.name, unit, original, str(block.graph.graph))
            host.call("fyc_after_pass", pass_=pass_, block=block, result=result, ctx=ctx)
        tensors = {f"{unit.path}.{name}": tensor for name, tensor in persistent_tensors(block.module)}
        name = self.live.block_step(self.position, unit).path.name
        self.live.save(self.position, name, tensors, result, block.module, unit.path, block.graph)

    def _guarded(
        self, action: Callable[[], _T], kind: type[_T], where: str, ctx: Context, block: Block | None = None
    ) -> _T:
        """Run the pass's own code; the plugins hear of what goes wrong in a block."""
        pass_ = self.plan.passes[self.position].pass_

        def tell(error: Exception) -> None:
            if block is not None:
                self.plan.host.notify("fyc_on_pass_error", self.events, pass_=pass_, block=block, error=error, ctx=ctx)

        return guarded(pass_, action, kind, where, advice=RESUME, on_error=tell)

    def context(self, path: str, plan: Mapping[str, Any], model: PreTrainedModel) -> Context:
        """The context of a block, or of the outer model (path "")."""
        pass_plan = self.plan.passes[self.position]
        return Context(
            device=self.plan.device,
            generator=seeded_generator(self.plan.recipe.seed, self.position, path),
            logger=logging.getLogger(f"fyc.passes.{pass_plan.pass_.name}"),
            plan=plan,
            select=pass_plan.patterns.selects,
            graph=self.plan.graph,
            model=model,
        )

    def _sample(self, unit: Unit, block: Block, stream: Stream, model: PreTrainedModel) -> None:
        """Keep inputs and output of the first block of each structure."""
        digest = block.graph.digest
        if block.graph.opaque or digest in self.samples:
            return
        args, kwargs = next(stream.calls(self.plan.graph, model, unit, None))
        name = f"sample-{len(self.samples)}"
        inputs = pack((args, kwargs), self.sample_tensors, f"{name}.input")
        with torch.no_grad():
            output = stored_call(block.module(*args, **kwargs))
        self.sample_tensors[f"{name}.output"] = output.clone()
        self.samples[digest] = (unit.path, inputs, f"{name}.output")

    def _step(self, *names: str) -> Step:
        return Step(self.workspace.stage(self.position, self.plan.passes[self.position].pass_.name).joinpath(*names))


def _lint(name: str, block: Block) -> None:
    """Check the graph that a pass left."""
    try:
        block.graph.lint(block.module)
    except TraceError as error:
        raise PassError(
            "FYC-X03",
            f"the pass {name!r} left a graph that cannot run",
            where=f"{block.path}: {error.where}" if error.where else block.path,
            why=f"{error.what}; {error.why}" if error.why else error.what,
            next=f"{REPAIR}; --dump-ir shows the graph before and after",
        ) from error

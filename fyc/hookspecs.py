"""The hooks a fyc plugin can implement: this file is the contract.

A plugin is a module (or object) named by an entry point in the group `fyc`. It implements any of the functions
below, each marked with `@fyc.hookimpl`. A hook name that is not in this file is an error (FYC-P04), so a typing
mistake cannot pass silently. The built-in passes and model sources use these same hooks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from fyc.artifact import Artifact
    from fyc.asl.tracker import Finder, Tracker
    from fyc.models import ModelSource
    from fyc.passes import Block, Pass, PassContext, PassResult
    from fyc.plan.executor import Executor
    from fyc.plan.launch import Launcher

hookspec = pluggy.HookspecMarker("fyc")
hookimpl = pluggy.HookimplMarker("fyc")


@hookspec
def fyc_register_passes(register: Callable[[type[Pass[Any]]], None]) -> None:
    """Register conversion passes.

    Args:
        register: call it once for each `fyc.Pass` subclass. A name that another distribution registered
            already is an error that names both (FYC-P03).
    """


@hookspec
def fyc_register_model_sources(register: Callable[[ModelSource], None]) -> None:
    """Register places a model can come from (built in: an asset, a GGUF file, a folder, a hub id).

    Args:
        register: call it with an object that keeps to `fyc.models.ModelSource`. Sources are asked in the order of
            their `priority`, highest first; the first whose `accepts(source)` is true opens the model.
    """


@hookspec
def fyc_register_executors(register: Callable[[Executor], None]) -> None:
    """Register what tries the layouts of `fyc plan` (built in: `model`, `local`, `slurm`).

    Args:
        register: call it with an object that keeps to `fyc.plan.executor.Executor`. A name that another plugin
            registered already is an error that names both (FYC-P03).
    """


@hookspec
def fyc_register_launchers(register: Callable[[Launcher], None]) -> None:
    """Register what writes the launch script of a plan for one backend (built in: four).

    Args:
        register: call it with an object that keeps to `fyc.plan.launch.Launcher`. A name that another plugin
            registered already is an error that names both (FYC-P03).
    """


@hookspec
def fyc_register_trackers(register: Callable[[type[Tracker] | type[Finder]], None]) -> None:
    """Register what follows or finds the face of `fyc asl` (built in: three trackers, two finders).

    Args:
        register: call it with a class that keeps to `fyc.asl.tracker.Tracker` or `fyc.asl.tracker.Finder`. A name
            that another plugin registered already is an error that names both (FYC-P03).
    """


@hookspec(firstresult=True)
def fyc_trace_leaf(module: nn.Module) -> bool | None:
    """Decide whether a module stays one node in a graph.

    Args:
        module: a submodule that tracing has reached.

    Returns:
        True to keep it as one node, False to trace into it, None for no opinion. Without an opinion a module
        is a leaf if it has no children, is of a class of torch.nn but no container, or holds weights of three or
        more dimensions.
    """


@hookspec
def fyc_before_pass(pass_: Pass[Any], block: Block, ctx: PassContext) -> None:
    """Called before a pass converts a block."""


@hookspec
def fyc_after_pass(pass_: Pass[Any], block: Block, result: PassResult, ctx: PassContext) -> None:
    """Called after a pass converted a block and the block's graph passed the lint."""


@hookspec
def fyc_on_pass_error(pass_: Pass[Any], block: Block, error: Exception, ctx: PassContext) -> None:
    """Called when a pass raised. The error goes on to the user afterwards."""


@hookspec
def fyc_artifact_written(artifact: Artifact) -> None:
    """Called after a complete artifact was renamed into place."""

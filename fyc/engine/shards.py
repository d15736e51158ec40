"""The weight files of an artifact: stages linked or cut into shards, the guard tensor, and the index."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fyc.artifact import Guard, StoredTensor, read_header, read_tensors, write_json, write_tensors
from fyc.engine.prepare import RunPlan
from fyc.engine.workspace import Step
from fyc.errors import PassError


def write_shards(plan: RunPlan, steps: Mapping[str, Step], stored: Mapping[str, Any], folder: Path) -> Guard:
    """Write the weight files and their index; a stage that fits becomes a shard without being copied.

    Args:
        plan: the run.
        steps: the last stage of the outer model and of every block, by name.
        stored: their data, by name.
        folder: the artifact.

    Raises:
        PassError: FYC-X03 when no tensor is left that can guard the artifact.
    """
    headers = {name: read_header(step.tensor_file) for name, step in steps.items()}
    limit = plan.recipe.output.shard_mb * 10**6
    pieces = [(name, part) for name, header in headers.items() for part in _parts(header, limit)]
    guard_step, guard_name = _choose_guard(plan, headers, stored)
    weight_map: dict[str, str] = {}
    total = 0
    for index, (name, part) in enumerate(pieces):
        target = folder / f"model-{index + 1:05d}-of-{len(pieces):05d}.safetensors"
        source = steps[name].tensor_file
        guarded = name == guard_step and guard_name in part
        if len(part) == len(headers[name]) and not guarded:
            _link(source, target)
        else:
            tensors = read_tensors(source, part)
            if guarded:
                tensors[guard_name] = tensors[guard_name].unsqueeze(0)
            write_tensors(target, tensors)
        weight_map.update(dict.fromkeys(part, target.name))
        total += target.stat().st_size
    write_json(folder / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": weight_map})
    return Guard(name=guard_name, shape=list(headers[guard_step][guard_name].shape))


def _parts(header: Mapping[str, StoredTensor], limit: int) -> list[Sequence[str]]:
    """Names in groups of at most `limit` bytes; a tensor that is larger stands alone."""
    parts: list[list[str]] = [[]]
    size = 0
    for name in sorted(header):
        if parts[-1] and size + header[name].nbytes > limit:
            parts.append([])
            size = 0
        parts[-1].append(name)
        size += header[name].nbytes
    return list(parts)


def _choose_guard(
    plan: RunPlan, headers: Mapping[str, Mapping[str, StoredTensor]], stored: Mapping[str, Any]
) -> tuple[str, str]:
    """The first untouched vector of the base model (a norm, say): every class of the architecture loads it."""
    base = plan.skeleton.base_model_prefix
    prefix = f"{base}." if hasattr(plan.skeleton, base) else ""
    floats = {name for name, tensor in plan.skeleton.state_dict().items() if tensor.is_floating_point()}
    for step, header in headers.items():
        for name in sorted(header):
            inside = any(name.startswith(f"{path}.") for path in stored[step]["replaced"])
            if name.startswith(prefix) and len(header[name].shape) == 1 and name in floats and not inside:
                return step, name
    raise PassError(
        "FYC-X03",
        "the passes left no plain one-dimensional tensor that can guard the artifact",
        why="without one, transformers without fyc would load the artifact as garbage",
        next="leave out at least one norm or bias of the model",
    )


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)

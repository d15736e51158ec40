"""What a pass may leave behind: everything in a block that loading could not rebuild is refused before it is stored."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from fyc.artifact import Replacement, is_module_path
from fyc.engine.guard import REPAIR, require_json
from fyc.errors import PassError
from fyc.loading.rebuild import persistent_tensors, same_kind
from fyc.passes import FycModule, Pass

_PLAIN = (bool, int, float, str, type(None))


def check_tensors(
    pass_: Pass[Any],
    tensors: Mapping[str, Tensor],
    replaced: Mapping[str, Replacement],
    pristine: nn.Module,
    prefix: str,
    skip: Sequence[str],
) -> None:
    """Compare what will be stored with what the model's own classes will ask for.

    Args:
        pass_: the pass that ran.
        tensors: what will be stored, by name.
        replaced: modules that passes put into the model; their tensors may be anything.
        pristine: the untouched skeleton.
        prefix: path of the block, "" for the model outside its blocks.
        skip: paths that are stored elsewhere.

    Raises:
        PassError: FYC-X03 for a tensor that is missing, has another shape or type, or holds NaN or infinity.
    """
    for name, tensor in tensors.items():
        if tensor.is_meta or tensor.layout is not torch.strided:
            raise _left(pass_, "a tensor that cannot be stored", name, f"it is {tensor.layout} on {tensor.device}")
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise _left(pass_, "NaN or infinity in a tensor", name, "every value that is stored is finite")
    for name, wanted in _wanted(pristine, replaced, prefix, skip).items():
        found = tensors.get(name)
        if found is None:
            raise _left(pass_, "a module without one of its tensors", name, f"its class needs one of {_kind(wanted)}")
        if _kind(found) != _kind(wanted):
            why = f"it is {_kind(found)} instead of {_kind(wanted)}, and its module was not replaced"
            raise _left(pass_, "a tensor of another kind", name, why)
    for name in tensors.keys() - _wanted(pristine, replaced, prefix, skip).keys():
        if not _inside(name, replaced):
            raise _left(pass_, "a new tensor in a module that it did not replace", name, "loading has no place for it")


def check_attributes(
    pass_: Pass[Any],
    root: nn.Module,
    replaced: Mapping[str, Replacement],
    pristine: nn.Module,
    prefix: str,
    skip: Sequence[str],
) -> None:
    """Refuse changes of a module that are neither in its tensors nor in the graph, so that they would be lost.

    Raises:
        PassError: FYC-X03 for a changed number, flag or text of a module, a patched `forward`, or a hook.
    """
    original = dict(pristine.named_modules())
    for name, module in root.named_modules():
        path = ".".join(part for part in (prefix, name) if part)
        if any(within(path, block) for block in skip):
            continue
        if path in replaced:
            _check_buffers(pass_, path, module)
        if _inside(f"{path}.", replaced):
            continue
        if "forward" in vars(module) and "forward" not in vars(original[path]):
            raise _left(pass_, "a patched `forward`", path, "an artifact stores graphs and tensors, not code")
        if any(getattr(module, hooks) for hooks in ("_forward_hooks", "_forward_pre_hooks")):
            raise _left(pass_, "a hook on a module", path, "an artifact stores graphs and tensors, not code")
        before, after = _plain(original[path]), _plain(module)
        for key in sorted(before.keys() | after.keys()):
            if repr(before.get(key)) != repr(after.get(key)):
                why = f"`{key}` is {after.get(key)!r} instead of {before.get(key)!r}; loading would not know"
                raise _left(pass_, "a changed attribute in a module", path, why)


def rebuildable(pass_: Pass[Any], path: str, module: FycModule) -> dict[str, Any]:
    """The module's configuration, once it has been shown that it builds a module with the same tensors again.

    Raises:
        PassError: FYC-X03 when it does not.
    """
    try:
        config = dict(module.config())
        json.dumps(config, allow_nan=False)
        with torch.device("meta"):
            twin = type(module)(**config)
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
        raise _left(pass_, f"a {type(module).__name__} that its config() cannot build again", path, why) from error
    built, held = dict(persistent_tensors(twin)), dict(persistent_tensors(module))
    for name in sorted(built.keys() | held.keys()):
        why = _otherwise(name, built.get(name), held.get(name))
        if why:
            raise _left(pass_, f"a {type(module).__name__} that its config() builds otherwise", path, why)
    return config


def _otherwise(name: str, built: Tensor | None, held: Tensor | None) -> str:
    """Why what was put into a tensor of a module would not go into the one that its constructor makes."""
    if built is None or held is None:
        return f"{name} would be missing" if built is None else f"the constructor makes {name}, and it is gone"
    if built.shape != held.shape:
        return f"{name} would have the shape {list(built.shape)} instead of {list(held.shape)}"
    if same_kind(built.dtype, held.dtype):
        return ""
    if built.dtype == held.dtype:
        return f"{name} is {_type(held)}, a type that fyc does not load"
    return f"{name} would be {_type(built)} instead of {_type(held)}; constructor and conversion must agree"


def check_report(pass_: Pass[Any], data: Mapping[str, Any], where: str) -> None:
    """Refuse a result that the manifest could not hold.

    Raises:
        PassError: FYC-X03 for a value that is not JSON, a number that is not finite, or a path that is none.
    """
    try:
        for report in data["modules"]:
            require_json(report, f"report of {report['path']!r:.80}")
        for key, value in data.items():
            require_json(value, key)
    except (TypeError, ValueError) as error:
        raise _left(pass_, "a result that is not JSON", where, str(error)) from error
    paths = [*data["replaced"], *(report["path"] for report in data["modules"])]
    for path in paths:
        if not is_module_path(path):
            raise _left(pass_, "a report on something that is no module", where, f"its path is {path!r:.80}")
    for name, value in data["metrics"].items():
        if not isinstance(value, int | float):
            raise _left(pass_, "a metric that is no number", where, f"{name} is {value!r:.80}")


def check_paths(
    pass_: Pass[Any],
    reported: Sequence[str],
    made: Sequence[str],
    root: nn.Module,
    prefix: str,
    pristine: nn.Module,
) -> None:
    """Compare what a pass reports with what it did.

    Args:
        pass_: the pass that ran.
        reported: the paths of its reports.
        made: paths of the modules it put into the model.
        root: the block, or the model outside its blocks.
        prefix: path of the block, "" for the model outside its blocks.
        pristine: the untouched skeleton.

    Raises:
        PassError: FYC-X03 for a report on a module that is not there, or a replaced module without a report.
    """
    for path in reported:
        inside = within(path, prefix) if prefix else True
        local = path[len(prefix) :].removeprefix(".") if prefix else path
        if not inside or not (_has(root, local) or _has(pristine, path)):
            why = f"there is no {path!r:.80} {'in this block' if prefix else 'in the model'}"
            if prefix and _has(root, path):
                why += f"; paths start at the model: {f'{prefix}.{path}'!r}"
            raise _left(pass_, "a report on something that is no module", prefix or path, why)
    for path in made:
        # A module that was added beside the others has no counterpart in the source model that a reader could look for.
        if _has(pristine, path) and not any(within(path, report) for report in reported):
            raise _left(pass_, "a module that it replaced without a report", path, "`fyc inspect` would not show it")


def same_class(a: type[nn.Module], b: type[nn.Module]) -> bool:
    """Whether two classes are one; a block that runs its graph has a class of its own with the same name."""
    return (a.__module__, a.__qualname__) == (b.__module__, b.__qualname__)


def within(path: str, root: str) -> bool:
    """Whether a module path is `root` or inside it."""
    return path == root or path.startswith(f"{root}.")


def _check_buffers(pass_: Pass[Any], path: str, module: nn.Module) -> None:
    stored = {name for name, _ in persistent_tensors(module)}
    for name, _ in module.named_buffers():
        if name not in stored:
            why = "loading could not fill it: make it persistent, or compute it in `forward`"
            raise _left(pass_, "a buffer that is not stored", f"{path}.{name}", why)


def _wanted(
    pristine: nn.Module, replaced: Mapping[str, Replacement], prefix: str, skip: Sequence[str]
) -> dict[str, Tensor]:
    def here(name: str) -> bool:
        return within(name, prefix) if prefix else not any(within(name, block) for block in skip)

    return {n: t for n, t in persistent_tensors(pristine) if here(n) and not _inside(n, replaced)}


def _inside(name: str, replaced: Mapping[str, Replacement]) -> bool:
    return any(name.startswith(f"{path}.") for path in replaced)


def _has(root: nn.Module, path: str) -> bool:
    try:
        root.get_submodule(path)
    except AttributeError:
        return False
    return True


def _kind(tensor: Tensor) -> str:
    return f"{_type(tensor)} {list(tensor.shape)}"


def _type(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _plain(module: nn.Module) -> Mapping[str, Any]:
    return dict(_attributes(module))


def _attributes(module: nn.Module) -> Iterator[tuple[str, Any]]:
    for key, value in vars(module).items():
        if isinstance(value, _PLAIN) and not key.startswith("_") and key != "training":
            yield key, value


def _left(pass_: Pass[Any], what: str, where: str, why: str) -> PassError:
    return PassError(
        "FYC-X03",
        f"the pass {pass_.name!r} left {what}",
        where=where,
        why=why,
        next=REPAIR,
    )

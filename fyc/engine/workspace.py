"""The work folder beside the output: lock, fingerprint, and one file a finished step, so that a run can be resumed."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from torch import Tensor

from fyc.artifact import is_artifact, read_tensors, write_json, write_tensors
from fyc.cache import file_digest
from fyc.errors import RecipeError, ResourceError


def work_folder(output: Path) -> Path:
    """Where a run keeps its stages until the artifact is complete: a hidden sibling of the output."""
    return output.parent / f".{output.name}.fyc-work"


@dataclass(frozen=True)
class Step:
    """One finished or unfinished step: a JSON file and the tensors beside it.

    The JSON file is written last and by rename, so it is the mark that the step is done.
    """

    path: Path

    @property
    def done(self) -> bool:
        """Whether the step was completed."""
        return self.path.with_suffix(".json").is_file()

    @property
    def tensor_file(self) -> Path:
        """The safetensors file of this step."""
        return self.path.with_suffix(".safetensors")

    def write(self, data: Mapping[str, Any], tensors: Mapping[str, Tensor] | None = None) -> None:
        """Store tensors, then data; afterwards the step is done."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if tensors is not None:
            write_tensors(self.tensor_file, tensors)
        write_json(self.path.with_suffix(".json"), data)

    def data(self) -> dict[str, Any]:
        """The stored JSON.

        Raises:
            RecipeError: FYC-R10 when the file is damaged, as a power cut can leave it.
        """
        file = self.path.with_suffix(".json")
        try:
            content: dict[str, Any] = json.loads(file.read_bytes())
        except ValueError as error:
            raise _damaged(file, error) from error
        return content

    def tensors(self) -> dict[str, Tensor]:
        """The stored tensors, in memory of their own.

        Raises:
            RecipeError: FYC-R10 when the file is damaged.
        """
        try:
            return read_tensors(self.tensor_file)
        except (SafetensorError, FileNotFoundError) as error:
            raise _damaged(self.tensor_file, error) from error


def _damaged(file: Path, error: Exception) -> RecipeError:
    return RecipeError(
        "FYC-R10",
        "the interrupted run cannot be continued: a file of it is damaged",
        where=str(file),
        why=str(error),
        next="drop the run with `fyc clean` and the output folder, then start again",
    )


class Workspace:
    """The work folder of one run.

    Args:
        output: the folder the artifact will be renamed to.
    """

    def __init__(self, output: Path) -> None:
        self.output = output
        self.folder = work_folder(output)
        self.rejected = _rejected(output)
        self._leaving = self.folder.with_name(self.folder.name + "-done")

    def stage(self, position: int, name: str) -> Path:
        """Folder of the pass at a position of the recipe."""
        return self.folder / f"{position:02d}-{name}"

    def step(self, *names: str) -> Step:
        """A step by its path inside the work folder."""
        return Step(self.folder.joinpath(*names))

    @contextmanager
    def open(self, fingerprint: Mapping[str, Any], *, resume: bool) -> Iterator[None]:
        """Take the lock and make sure that what lies here belongs to this run.

        Raises:
            ResourceError: FYC-S03 when another process holds the lock.
            RecipeError: FYC-R10 when there is nothing to resume, it is damaged or it belongs to another run, FYC-R11
                when an interrupted run is in the way.
        """
        if resume:
            self.require()
        self.folder.mkdir(parents=True, exist_ok=True)
        with self._locked():
            self.sweep()
            if resume:
                self._compare(self.step("fingerprint").data(), fingerprint)
            elif self._key.is_file():
                raise RecipeError(
                    "FYC-R11",
                    "an interrupted run is waiting for this output folder",
                    where=str(self.output),
                    next=f"add --resume to finish it, or drop it with: fyc clean {self.output}",
                )
            else:
                write_json(self._key, fingerprint)
            yield

    def require(self) -> None:
        """Make sure that there is a run to resume.

        Raises:
            RecipeError: FYC-R10 when there is none.
        """
        if self._key.is_file():
            return
        if is_artifact(self.output):
            why, advice = "the output folder holds a complete artifact", f"use it: fyc inspect {self.output}"
        else:
            why, advice = "no run into this folder was interrupted", "run without --resume"
        raise RecipeError("FYC-R10", "there is nothing to resume", where=str(self.output), why=why, next=advice)

    def announce(self, manifest: Path) -> None:
        """Note the manifest that is about to be renamed into the output folder."""
        self._published.write({"manifest": file_digest(manifest)})

    @property
    def finished(self) -> bool:
        """Whether this run's artifact is in its place already: the process died just before it could tidy up."""
        manifest = self.output / "fyc.json"
        if not (self._published.done and manifest.is_file()):
            return False
        return bool(self._published.data()["manifest"] == file_digest(manifest))

    @property
    def _key(self) -> Path:
        return self.folder / "fingerprint.json"

    @property
    def _published(self) -> Step:
        return self.step("published")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with (self.folder / "lock").open("a") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                (self.folder / "lock").stat()  # gone when the run that held it has just tidied up
            except OSError as error:
                raise ResourceError(
                    "FYC-S03",
                    "another run is using this output folder",
                    where=str(self.output),
                    next="wait for it to end, or choose another output folder",
                ) from error
            yield

    def _compare(self, stored: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
        different = sorted(key for key in {*stored, *wanted} if stored.get(key) != wanted.get(key))
        if different:
            raise RecipeError(
                "FYC-R10",
                "the interrupted run was another one",
                where=str(self.output),
                why="these differ: " + ", ".join(different),
                next=f"repeat the call that was interrupted, or drop it with: fyc clean {self.output}",
            )

    def remove(self) -> None:
        """Drop everything the run kept; first by one rename, so that a process that dies here leaves no half of it."""
        self.sweep()
        self.folder.replace(self._leaving)
        self.sweep()

    def drop_rejected(self) -> bool:
        """Drop the rejected artifact of an earlier run, again by a rename first; anything else of its name stays."""
        found = is_artifact(self.rejected) and not self.rejected.is_symlink()
        if found:
            self.sweep()
            self.rejected.replace(self._leaving)
            self.sweep()
        return found

    def sweep(self) -> None:
        """Drop what a process that died in `remove` or `drop_rejected` has left."""
        shutil.rmtree(self._leaving, ignore_errors=True)


def clean(output: Path) -> list[Path]:
    """Drop the stages of an interrupted run and a rejected artifact of this output folder; returns what was removed.

    Raises:
        ResourceError: FYC-S03 when the run is still going on.
    """
    removed = []
    workspace = Workspace(output)
    if workspace.folder.is_dir():
        with workspace._locked():
            workspace.remove()
        removed.append(workspace.folder)
    workspace.sweep()
    if workspace.drop_rejected():
        removed.append(workspace.rejected)
    return removed


def check_output(output: Path, *, gate: bool) -> None:
    """Make sure the output folder can be written.

    Args:
        output: where the artifact will be.
        gate: whether it may be rejected instead; then its place as `DIR.rejected` is checked too.

    Raises:
        RecipeError: FYC-R08 when it exists and is not empty; FYC-R09 when its parent cannot be written.
    """
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise RecipeError(
            "FYC-R08",
            "the output folder is not empty",
            where=str(output),
            next="choose another folder with -o, or remove it first",
        )
    if output.is_symlink() or output.name in {"", ".."}:
        raise RecipeError(
            "FYC-R09",
            "the output cannot be written to this place",
            where=str(output),
            why="the finished artifact is renamed into place, which a link or a folder without a name does not allow",
            next="name the folder itself with -o",
        )
    parent = next(folder for folder in output.absolute().parents if folder.exists())
    if not (parent.is_dir() and os.access(parent, os.W_OK)):
        raise RecipeError("FYC-R09", "the output folder cannot be written", where=str(parent))
    rejected = _rejected(output)
    if gate and os.path.lexists(rejected) and not _gives_way(rejected):
        raise RecipeError(
            "FYC-R08",
            "the place for an output that misses the gate is taken",
            where=str(rejected),
            why="it holds something that fyc did not write",
            next="choose another folder with -o, or move it away first",
        )


def _rejected(output: Path) -> Path:
    return output.parent / f"{output.name}.rejected"


def _gives_way(folder: Path) -> bool:
    """Whether a folder is an artifact, or empty."""
    return not folder.is_symlink() and (is_artifact(folder) or (folder.is_dir() and not any(folder.iterdir())))

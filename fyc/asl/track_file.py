"""track.safetensors: landmarks and poses of every frame, written while the video is read, in constant memory."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from fyc.asl.ensemble import TrackedFrame
from fyc.asl.face.mesh import POINTS
from fyc.asl.face.pose import Pose
from fyc.asl.files import unwritable

#: Tensors of the file: shape of a frame and type. NaN stands for a face that is lost.
COLUMNS: dict[str, tuple[tuple[int, ...], str]] = {
    "landmarks": ((POINTS, 2), "F32"),
    "occluded": ((POINTS,), "U8"),
    "rotation": ((3, 3), "F32"),
    "translation": ((3,), "F32"),
}
_TYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "U8": np.dtype("u1")}
_PART = 1 << 20


class TrackFile:
    """Takes frames; `write_track` makes the file of them."""

    def __init__(self, folder: Path, name: str) -> None:
        self._paths = {column: folder / f".{name}.{column}.part" for column in COLUMNS}
        self._streams = {column: path.open("wb") for column, path in self._paths.items()}
        self._frames = 0

    def add(self, tracked: TrackedFrame | None, pose: Pose | None) -> None:
        """The next frame."""
        lost = tracked is None or tracked.points is None
        values = {
            "landmarks": None if tracked is None else tracked.points,
            "occluded": np.zeros(POINTS, bool) if tracked is None or lost else tracked.occluded,
            "rotation": None if pose is None else pose.rotation,
            "translation": None if pose is None else pose.translation,
        }
        for column, (shape, kind) in COLUMNS.items():
            value = values[column]
            row = np.full(shape, np.nan) if value is None else value
            self._streams[column].write(np.asarray(row).astype(_TYPES[kind]).tobytes())
        self._frames += 1

    def _join(self, path: Path, metadata: Mapping[str, str]) -> None:
        header: dict[str, object] = {"__metadata__": dict(metadata)}
        at = 0
        for column, (shape, kind) in COLUMNS.items():
            self._streams[column].close()
            size = self._paths[column].stat().st_size
            header[column] = {"dtype": kind, "shape": [self._frames, *shape], "data_offsets": [at, at + size]}
            at += size
        words = json.dumps(header).encode()
        words += b" " * (-len(words) % 8)
        with path.open("wb") as target:
            target.write(struct.pack("<Q", len(words)) + words)
            for source in self._paths.values():
                with source.open("rb") as stream:
                    while part := stream.read(_PART):
                        target.write(part)
            target.flush()
            os.fsync(target.fileno())

    def _remove(self) -> None:
        for stream in self._streams.values():
            with suppress(OSError):
                stream.close()
        for path in self._paths.values():
            path.unlink(missing_ok=True)


@contextmanager
def write_track(path: Path, metadata: Mapping[str, str]) -> Iterator[TrackFile]:
    """Write a track; it appears at `path`, whole, when the `with` block ends without an error, and else not at all.

    Args:
        path: a .safetensors file; tensors `landmarks` (T, 468, 2) in pixels, `occluded` (T, 468), `rotation` (T, 3, 3)
            and `translation` (T, 3) in cm, as in `fyc.asl.face.camera`.
        metadata: texts that the file carries.

    Raises:
        ResourceError: FYC-S01 if the disk is full.
    """
    whole = path.with_name(f".{path.name}.part")
    try:
        file = TrackFile(path.parent, path.stem)
        try:
            yield file
            file._join(whole, metadata)
            whole.replace(path)
        finally:
            file._remove()
            whole.unlink(missing_ok=True)
    except OSError as error:
        raise unwritable(path, error) from error

"""track.safetensors: landmarks and poses of every frame, written while the video is read, in constant memory."""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fyc.asl.face.litert import Floats
from fyc.asl.face.mesh import POINTS
from fyc.asl.face.pose import Pose
from fyc.asl.files import unwritable
from fyc.asl.tracking.ensemble import TrackedFrame

#: Tensors of the file: shape of a frame and type. NaN stands for a face that is lost.
COLUMNS: dict[str, tuple[tuple[int, ...], str]] = {
    "landmarks": ((POINTS, 2), "F32"),
    "depths": ((POINTS,), "F32"),
    "occluded": ((POINTS,), "U8"),
    "expressive": ((), "U8"),
    "rotation": ((3, 3), "F32"),
    "translation": ((3,), "F32"),
}
_POSE = ("rotation", "translation")
_TYPES: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "U8": np.dtype("u1")}
_PART = 1 << 20


@dataclass(frozen=True)
class TrackRow:
    """What was tracked in one frame.

    Attributes:
        points: (468, 2), landmarks in pixels, NaN where something covers them.
        depths: (468,), of them; None where none are known.
        expressive: whether the landmarks follow lids, lips and brows.
    """

    points: Floats
    depths: Floats | None
    expressive: bool


class TrackFile:
    """Takes the frames of a video, first their landmarks, then their poses; `write_track` makes the file of them."""

    def __init__(self, folder: Path, name: str) -> None:
        self._paths = {column: folder / f".{name}.{column}.part" for column in COLUMNS}
        self._streams = {column: path.open("w+b") for column, path in self._paths.items()}
        self._frames = 0

    def add(self, tracked: TrackedFrame | None) -> None:
        """What was tracked in the next frame; None where there was no picture."""
        self._frames += 1
        if tracked is None or tracked.points is None:
            self._write(landmarks=None, depths=None, occluded=np.zeros(POINTS, bool), expressive=np.False_)
        else:
            seen = np.bool_(tracked.expressive)
            self._write(landmarks=tracked.points, depths=tracked.depths, occluded=tracked.occluded, expressive=seen)

    def add_pose(self, pose: Pose | None) -> None:
        """The pose of the next frame."""
        self._write(
            rotation=None if pose is None else pose.rotation, translation=None if pose is None else pose.translation
        )

    def rows(self) -> Iterator[TrackRow | None]:
        """What was tracked, frame by frame; None where the face is lost."""
        names = [name for name in COLUMNS if name not in _POSE]
        for name in names:
            self._streams[name].seek(0)
        for _ in range(self._frames):
            landmarks, depths, occluded, expressive = (self._read(name) for name in names)
            if not np.isfinite(landmarks).all():
                yield None
                continue
            landmarks[occluded.astype(bool)] = np.nan
            yield TrackRow(landmarks, depths if np.isfinite(depths).all() else None, bool(expressive))

    def _write(self, **values: NDArray[Any] | np.bool_ | None) -> None:
        for column, value in values.items():
            shape, kind = COLUMNS[column]
            row = np.full(shape, np.nan) if value is None else value
            self._streams[column].write(np.asarray(row).astype(_TYPES[kind]).tobytes())

    def _read(self, column: str) -> NDArray[Any]:
        shape, kind = COLUMNS[column]
        row = np.frombuffer(self._streams[column].read(math.prod(shape) * _TYPES[kind].itemsize), _TYPES[kind])
        return row.reshape(shape).copy()

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
        path: a .safetensors file; tensors `landmarks` (T, 468, 2) in pixels, `depths` (T, 468) at the same scale,
            smaller nearer to the camera, `occluded` (T, 468), `expressive` (T,), whether lids and lips are followed,
            `rotation` (T, 3, 3) and `translation` (T, 3) in cm, as in `fyc.asl.face.camera`.
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

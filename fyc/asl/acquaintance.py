"""A signer is learned from several videos of theirs at once: rest is better known than from any one of them.

In a clip of a few seconds the brows may be up most of the time; where rest is cannot be told from it alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from fyc.asl.face.bundle import Bundle
from fyc.asl.face.camera import Camera
from fyc.asl.face.deformation import load_basis
from fyc.asl.face.shape import ShapeFitter
from fyc.asl.samples import FaceReader, FaceSample, Sampler
from fyc.asl.signer import LEAST_SAMPLES, Signer
from fyc.asl.video.reader import open_video
from fyc.errors import NoFaceError

#: Faces of all videos together, and of each at least.
_ALL, _EACH = 192, 6


@dataclass(frozen=True)
class Acquaintance:
    """A signer, and what they are known from.

    Attributes:
        signer: of all the videos.
        faces: how many each video gave.
    """

    signer: Signer
    faces: dict[Path, int]


def get_to_know(
    videos: Sequence[Path],
    bundle: Bundle,
    *,
    face: int | None = None,
    progress: Callable[[Path, int, int | None], None] = lambda *_: None,
) -> Acquaintance:
    """Learn a signer from videos, each of the same person.

    Args:
        videos: of the signer.
        bundle: networks and mesh.
        face: which of several faces, counted from 0, from left to right; None for the largest.
        progress: is told of each video how many frames are read, and how many there are.

    Raises:
        VideoError: if a video cannot be read.
        NoFaceError: FYC-V06 when there are fewer than three frames with a face in all of them.
    """
    reader, least = FaceReader(bundle, face=face), max(_EACH, _ALL // max(2 * len(videos), 1))
    samples: dict[Path, list[FaceSample]] = {}
    for path in videos:
        sampler = Sampler(least)
        with open_video(path) as video:
            camera = Camera.for_picture(video.info.width, video.info.height)
            for frame in video:
                due = sampler.due()
                if due and frame.image is not None and (sample := reader.read(frame.image, camera)) is not None:
                    sampler.keep(sample)
                progress(path, frame.index + 1, video.info.frames)
        samples[path] = sampler.samples
    everything = [sample for some in samples.values() for sample in some]
    if len(everything) < LEAST_SAMPLES:
        raise NoFaceError(
            "FYC-V06", "no face is seen in the videos", where=str(videos[0]) if videos else "",
            why=f"{len(everything)} of the frames that were looked at show one; a signer is learned from three or more",
            next="the face must be seen from the front or the side, and be 30 pixels wide or more",
        )  # fmt: skip
    signer = Signer.learn(ShapeFitter(bundle.mesh, load_basis()), everything)
    return Acquaintance(signer, {path: len(some) for path, some in samples.items()})

"""`fyc asl bench pose` and `tracking` with MediaPipe's own face landmarker beside, on the same SYNTHETIC pictures.

    python bench/asl_peers.py --mediapipe PYTHON pose [--split calibration] [--heads 8] [--yaw 25]
    python bench/asl_peers.py --mediapipe PYTHON tracking [--split ...] [--clips 1] [--kinds ...] [--systems ...]

PYTHON is an interpreter of an environment with `pip install mediapipe`; fyc does not need it. It runs as a child
process (`bench/asl_mediapipe.py`) with the networks that fyc uses, the asset `face-landmarker`, and its own thresholds,
in its mode for single pictures (pose) or for videos (tracking).

- its pose is that of its own transformation matrix, whose axes are ours (x right, y up, z to the viewer); it assumes a
  camera of 63 degrees from top to bottom of the picture
- its brows: `2D` the distance from lids to brows along the rows of the picture; `3D` the same after its own rotation
  was taken out of its three-dimensional landmarks, both by that of the eyes; and its blendshapes
- it gives no confidence: every frame in which it has a face counts as confident, and there is no calibration
- times of it are not comparable, since pictures go through a pipe
"""

from __future__ import annotations

import argparse
import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fyc.asl.bench.clips import KINDS, Measured, Said, System, clip_of, follow
from fyc.asl.bench.pose import BROWS, CORNERS, LIDS, Answers, flat, measure_head
from fyc.asl.bench.pose_figures import brow_figures, pose_figures
from fyc.asl.bench.statistics import Interval
from fyc.asl.bench.systems import systems
from fyc.asl.bench.tracking_figures import TrackingFigures, tracking_figures
from fyc.asl.face.bundle import load_bundle
from fyc.asl.face.camera import angles_of
from fyc.asl.face.mesh import POINTS
from fyc.asl.face.pose import nearest_rotation
from fyc.asl.synthetic.heads import HEAD_SPLITS
from fyc.asl.synthetic.render import Studio
from fyc.assets import fetch
from fyc.cli.asl_bench import show_pose, show_tracking
from fyc.plugins import load_plugins

NOTHING = Interval(np.nan, np.nan, np.nan)


class MediaPipe:
    """The child process."""

    def __init__(self, python: Path) -> None:
        script = Path(__file__).with_name("asl_mediapipe.py")
        self._child = subprocess.Popen(
            [python, script, fetch("face-landmarker")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self.version = self._line()

    def see(self, image: np.ndarray, mode: str, *, start: bool = False, ms: int = 0) -> dict[str, Any] | None:
        """What MediaPipe says of a picture (H, W, 3) RGB: points (478, 3) in pixels, rotation (3, 3), blendshapes."""
        height, width = image.shape[:2]
        request = {"mode": mode, "start": start, "ms": ms, "shape": [height, width]}
        assert self._child.stdin is not None
        self._child.stdin.write(json.dumps(request).encode() + b"\n" + image.tobytes())
        self._child.stdin.flush()
        found = self._line()
        if found is None:
            return None
        points = np.array(found["points"]) * (width, height, width)
        rotation = nearest_rotation(np.array(found["matrix"])[:3, :3])
        return {"points": points, "rotation": rotation, "blendshapes": found["blendshapes"]}

    def _line(self) -> Any:
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        if not line:
            raise SystemExit("MediaPipe's process ended: does its interpreter have mediapipe?")
        return json.loads(line)

    def pictures(self, images: Sequence[np.ndarray]) -> Mapping[str, Answers]:
        """A peer of `fyc.asl.bench.pose`."""
        seen = [self.see(image, "image") for image in images]
        angles = np.array([[np.nan] * 3 if found is None else angles_of(found["rotation"]) for found in seen])

        def brows(height: Callable[[dict[str, Any]], float]) -> np.ndarray:
            return np.array([np.nan if found is None else height(found) for found in seen])

        return {
            "mediapipe 2D": Answers(angles, brows(lambda found: flat(found["points"][:, :2]))),
            "mediapipe 3D": Answers(None, brows(unrotated)),
            "mediapipe browInnerUp": Answers(None, brows(lambda found: found["blendshapes"]["browInnerUp"])),
            "mediapipe all brow shapes": Answers(None, brows(blended)),
        }

    def clip(self) -> System:
        """A system of `fyc.asl.bench.clips`, for one clip."""
        fresh = [True]

        def follow_on(image: np.ndarray, time_s: float) -> Said:
            found = self.see(image, "video", start=bool(fresh and fresh.pop()), ms=round(1000 * time_s))
            if found is None:
                return Said(None, 0.0, None)
            return Said(found["points"][:POINTS, :2], 1.0, angles_of(found["rotation"]))

        return follow_on


def unrotated(found: dict[str, Any]) -> float:
    """Brows above the lids after the rotation was taken out, by the distance of the eyes."""
    turned = found["points"] * (1, -1, -1) @ found["rotation"]
    height = turned[list(BROWS), 1].mean() - turned[list(LIDS), 1].mean()
    return float(height / np.linalg.norm(turned[CORNERS[0]] - turned[CORNERS[1]]))


def blended(found: dict[str, Any]) -> float:
    """All blendshapes of brows, those that lower them taken off."""
    shapes = found["blendshapes"]
    up = shapes["browInnerUp"] + (shapes["browOuterUpLeft"] + shapes["browOuterUpRight"]) / 2
    return float(up - (shapes["browDownLeft"] + shapes["browDownRight"]) / 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mediapipe", required=True, type=Path, metavar="PYTHON")
    commands = parser.add_subparsers(dest="command", required=True)
    pose = commands.add_parser("pose")
    pose.add_argument("--heads", type=int, default=8)
    pose.add_argument("--yaw", type=float, default=25.0)
    tracking = commands.add_parser("tracking")
    tracking.add_argument("--clips", type=int, default=1, help="of each kind")
    tracking.add_argument("--kinds", nargs="+", default=KINDS, choices=KINDS)
    tracking.add_argument("--systems", nargs="+", default=("network", "ensemble", "greedy"))
    for command in (pose, tracking):
        command.add_argument("--split", choices=HEAD_SPLITS, default="calibration")
    words = parser.parse_args()
    cv2.setNumThreads(1)
    peer = MediaPipe(words.mediapipe)
    print(
        f"MediaPipe {peer.version}; split {words.split}"
        + (": for final figures only" if words.split == "held-out" else "")
    )
    (measure_pose if words.command == "pose" else measure_tracking)(peer, words)


def measure_pose(peer: MediaPipe, words: argparse.Namespace) -> None:
    studio = Studio(load_bundle())
    heads = range(min(words.heads, HEAD_SPLITS[words.split]))
    found = [measure_head(studio, words.split, head, words.yaw, [peer.pictures]) for head in heads]
    pictures = sum(len(head.truth) for head in found)
    title = f"SYNTHETIC, split {words.split}: {len(found)} heads, {pictures} pictures, yaw to {words.yaw:g} degrees"
    show_pose(title, pose_figures(found), brow_figures(found))


def measure_tracking(peer: MediaPipe, words: argparse.Namespace) -> None:
    bundle = load_bundle()
    studio, available = Studio(bundle), {**systems(bundle, load_plugins()), "mediapipe": peer.clip}
    names = [*words.systems, "mediapipe"]
    frames: dict[str, list[Measured]] = {name: [] for name in names}
    for kind in words.kinds:
        for number in range(words.clips):
            script = clip_of(kind, words.split, number)
            for name, frame in follow(studio, kind, script, {name: available[name]() for name in names}):
                frames[name].append(frame)
    overall = {name: figures(name, own) for name, own in frames.items()}
    by_kind = {
        name: {kind: figures(name, [frame for frame in own if frame.kind == kind]) for kind in words.kinds}
        for name, own in frames.items()
    }
    show_tracking(f"SYNTHETIC, split {words.split}, {words.clips} of each kind", overall, by_kind)


def figures(name: str, frames: Sequence[Measured]) -> TrackingFigures:
    found = tracking_figures(frames)
    return replace(found, unsure=NOTHING, calibration=NOTHING, ms=np.nan) if name == "mediapipe" else found


if __name__ == "__main__":
    main()

"""MediaPipe's face landmarker as a child process, for `bench/asl_peers.py`; runs in an interpreter that has mediapipe.

    python bench/asl_mediapipe.py FACE_LANDMARKER.task

Knows nothing of fyc. A request on stdin is a line of JSON, `{"mode": "image" | "video", "start": bool, "ms": int,
"shape": [H, W]}`, and then H x W x 3 bytes RGB; `start` begins a new clip. An answer on stdout is a line of JSON: null
without a face, or `points` (478 x 3, as MediaPipe gives them), `matrix` (4 x 4) and `blendshapes` (by name). The first
line that it writes is its version.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import mediapipe as mp
import numpy as np
from mediapipe.tasks.python import BaseOptions, vision

MODES = {"image": vision.RunningMode.IMAGE, "video": vision.RunningMode.VIDEO}


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # MediaPipe may write to stdout
    print(json.dumps(mp.__version__), file=answers, flush=True)
    landmarker, mode = None, ""
    while line := sys.stdin.buffer.readline():
        request = json.loads(line)
        height, width = request["shape"]
        picture = np.frombuffer(sys.stdin.buffer.read(height * width * 3), np.uint8).reshape(height, width, 3)
        if landmarker is None or request["start"] or request["mode"] != mode:
            if landmarker is not None:
                landmarker.close()
            mode = request["mode"]
            landmarker = make(sys.argv[1], mode)
        image = mp.Image(image_format=mp.ImageFormat.SRGB, data=np.ascontiguousarray(picture))
        found = landmarker.detect(image) if mode == "image" else landmarker.detect_for_video(image, request["ms"])
        print(json.dumps(answer(found)), file=answers, flush=True)
    if landmarker is not None:
        landmarker.close()


def make(file: str, mode: str) -> vision.FaceLandmarker:
    """A landmarker with MediaPipe's own thresholds, for one face."""
    return vision.FaceLandmarker.create_from_options(
        vision.FaceLandmarkerOptions(
            base_options=BaseOptions(model_asset_path=file), running_mode=MODES[mode], num_faces=1,
            output_face_blendshapes=True, output_facial_transformation_matrixes=True,
        )
    )  # fmt: skip


def answer(found: Any) -> dict[str, Any] | None:
    if not found.face_landmarks:
        return None
    return {
        "points": [[point.x, point.y, point.z] for point in found.face_landmarks[0]],
        "matrix": np.asarray(found.facial_transformation_matrixes[0]).tolist(),
        "blendshapes": {shape.category_name: shape.score for shape in found.face_blendshapes[0]},
    }


if __name__ == "__main__":
    main()

"""Draw docs/pictures/asl-overlay.png: frames of the overlay of a real run, without the picture of the person.

    python bench/asl_pictures.py

The clip is the asset `face-speech-2` (a man makes faces; nobody signs). The overlay is drawn over a black video of the
same length, so that no face of a third party is in the repository.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np

from fyc.asl.analysis import Analyst
from fyc.asl.face.bundle import load_bundle
from fyc.asl.output.overlay import write_overlay
from fyc.asl.run import find
from fyc.asl.tracking.track_file import write_track
from fyc.asl.video.reader import open_video
from fyc.asl.video.writer import write_video
from fyc.assets import fetch
from fyc.plugins import load_plugins

TARGET = Path(__file__).parents[1] / "docs" / "pictures" / "asl-overlay.png"
SECONDS, SCALE = 24, 1.4


def main() -> None:
    cv2.setNumThreads(1)
    bundle = load_bundle()
    with tempfile.TemporaryDirectory() as folder:
        clip, black = Path(folder, "clip.mp4"), Path(folder, "black.mp4")
        cut(fetch("face-speech-2"), clip, black)
        analyst, track = Analyst(bundle, load_plugins()), Path(folder, "track.safetensors")
        with write_track(track, {}) as rows:
            analysis = analyst.analyse(clip, rows)
        events = find(analysis).events
        for label in sorted({event.label for event in events}):
            print(label, [(round(event.start_s, 2), round(event.end_s, 2)) for event in events if event.label == label])
        unseen = replace(analysis, info=replace(analysis.info, path=black))
        write_overlay(unseen, track, events, analyst.mesh, Path(folder, "overlay.mp4"))
        frames = [frame.image for frame in open_frames(Path(folder, "overlay.mp4"))]
    chosen = telling(analysis)
    print("frames", chosen)
    row = cv2.cvtColor(np.hstack([frames[number] for number in chosen]), cv2.COLOR_RGB2BGR)
    cv2.imwrite(str(TARGET), row, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    print(f"wrote {TARGET.name}, {TARGET.stat().st_size} bytes")


def cut(source: Path, clip: Path, black: Path) -> None:
    """The part around the face of the beginning of a clip, larger, and a black one of the same length."""
    with av.open(str(source)) as container:
        stream = container.streams.video[0]
        left, right, top = round(0.24 * stream.width), round(0.76 * stream.width), round(0.3 * stream.height)
        size = int((right - left) * SCALE) // 2 * 2, int((stream.height - top) * SCALE) // 2 * 2
        count = round(SECONDS * float(stream.average_rate or 25))
        with write_video(clip, size, 25.0) as seen, write_video(black, size, 25.0) as unseen:
            for picture, _ in zip(container.decode(video=0), range(count), strict=False):
                around = picture.to_ndarray(format="rgb24")[top:, left:right]
                seen.add(cv2.resize(around, size, interpolation=cv2.INTER_CUBIC))
                unseen.add(np.zeros((size[1], size[0], 3), np.uint8))


def open_frames(path: Path) -> list:
    with open_video(path) as video:
        return [frame for frame in video if frame.image is not None]


def telling(analysis) -> list[int]:
    """Numbers of frames: brows at rest, brows up, eyes closed, head turned the most."""
    measures = analysis.measures
    brows, eyes = np.nanmean(measures.brows, axis=1), measures.eyes.mean(axis=1)
    brows[:25] = np.nan
    straight = np.abs(measures.yaw - np.nanmedian(measures.yaw)) + np.abs(measures.pitch - np.nanmedian(measures.pitch))
    return [
        int(np.nanargmin(np.abs(brows) + straight / 20)), int(np.nanargmax(brows)), int(np.nanargmin(eyes)),
        int(np.nanargmax(straight)),
    ]  # fmt: skip


if __name__ == "__main__":
    main()

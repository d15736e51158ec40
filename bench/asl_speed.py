"""How many frames a second `fyc asl run` does, on one core, without its start.

    python bench/asl_speed.py [--repeats 3]

The first 12 seconds of a real clip (asset `face-speech`), made 640x480 (25 frames a second). Everything that a run
does for a video is in the time: both readings, the signer, all files. Each setting is repeated by turns; the load of
the machine is printed: above 1 the figures say little.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from itertools import islice
from pathlib import Path

import av
import cv2
import torch

from fyc.asl.analysis import Analyst
from fyc.asl.face.bundle import load_bundle
from fyc.asl.run import Results, run_video
from fyc.asl.video.writer import write_video
from fyc.assets import fetch
from fyc.plugins import load_plugins

SIZE, FRAMES, RATE = (640, 480), 300, 25.0
SETTINGS = {
    "analysis, table, document": (False, False),
    "and report page": (False, True),
    "and overlay video": (True, True),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    words = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    analyst = Analyst(load_bundle(), load_plugins())
    print(f"load before: {os.getloadavg()[0]:.2f}")
    rates: dict[str, list[float]] = {name: [] for name in SETTINGS}
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder, "clip.mp4")
        with av.open(str(fetch("face-speech"))) as container, write_video(clip, SIZE, RATE) as writer:
            for frame in islice(container.decode(video=0), FRAMES):
                writer.add(cv2.resize(frame.to_ndarray(format="rgb24"), SIZE, interpolation=cv2.INTER_CUBIC))
        for repeat in range(words.repeats):
            for name, (overlay, report) in SETTINGS.items():
                results = Results.in_folder(Path(folder, f"{repeat} {name}"), "clip", overlay=overlay, report=report)
                begin = time.perf_counter()
                run_video(clip, results, analyst)
                rates[name].append(FRAMES / (time.perf_counter() - begin))
    for name, found in rates.items():
        print(f"{name:28s} {statistics.median(found):5.1f} frames/s ({min(found):.1f} to {max(found):.1f})")
    print(f"load after: {os.getloadavg()[0]:.2f}")


if __name__ == "__main__":
    main()

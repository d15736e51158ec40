"""How a folder of clips scales with the workers of `fyc asl run`.

    python bench/asl_corpus.py [--clips 6] [--repeats 3] [--workers 1 2]

Clips of 4 to 5 seconds, 480x360, are cut from a real video. Each number of workers runs the folder afresh, by turns;
wall time is that of the whole command, start included. The load of the machine before each run is printed: above 0.5
the wall times say little.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from itertools import islice
from pathlib import Path

import av

from fyc.asl.video.writer import write_video
from fyc.assets import fetch

_SIZE, _RATE = (480, 360), 24.0


def cut(source: Path, folder: Path, clips: int) -> None:
    """Clips of 96 to 120 frames, one after the other."""
    with av.open(str(source)) as container:
        frames = container.decode(video=0)
        for number in range(clips):
            with write_video(folder / f"{number}.mp4", _SIZE, _RATE) as writer:
                for frame in islice(frames, 96 + 24 * number // clips):
                    writer.add(frame.reformat(*_SIZE).to_ndarray(format="rgb24"))


def run(folder: Path, workers: int) -> float:
    """Seconds of a run of the folder."""
    with tempfile.TemporaryDirectory() as output:
        words = [sys.executable, "-m", "fyc", "asl", "run", str(folder), "-o", output, "--workers", str(workers)]
        begin = time.perf_counter()
        subprocess.run([*words, "--no-overlay"], check=True, capture_output=True)
        return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=6)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    seconds: dict[int, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        cut(fetch("face-talking"), Path(folder), options.clips)
        for _ in range(options.repeats):
            for workers in options.workers:
                load = os.getloadavg()[0]
                wall = run(Path(folder), workers)
                seconds[workers].append(wall)
                print(f"{workers} workers: {wall:6.1f} s, load before {load:.1f}", flush=True)
    first = statistics.median(seconds[options.workers[0]])
    for workers, walls in seconds.items():
        print(
            f"{workers} workers: median {statistics.median(walls):.1f} s, {first / statistics.median(walls):.2f} times"
        )


if __name__ == "__main__":
    main()

"""Memory of `fyc asl run` over a long video: a real clip looped without encoding it again; RSS by frames done.

    python bench/asl_memory.py --minutes 60 [--clip VIDEO] [--no-overlay]

Prints a line every 1000 frames, and for each stage the growth a frame after its first 2000, by least squares.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import av
import numpy as np

from fyc.asl.analysis import Analyst
from fyc.asl.corpus.job import Settings, results_of
from fyc.asl.corpus.tasks import Task
from fyc.asl.corpus.workers import pin_threads
from fyc.asl.face.bundle import load_bundle
from fyc.asl.run import run_video
from fyc.assets import fetch
from fyc.plugins import load_plugins

_STEP, _FIRST = 1000, 2000


def loop(clip: Path, target: Path, minutes: float) -> int:
    """Repeat the packets of a clip until there are so many minutes; the number of frames."""
    frames = 0
    with av.open(str(target), "w") as output:
        stream, shift = None, 0
        while True:
            with av.open(str(clip)) as container:
                source = container.streams.video[0]
                if stream is None:
                    stream = output.add_stream_from_template(source)
                length = 0
                for packet in container.demux(source):
                    if packet.pts is None or packet.dts is None:
                        continue
                    length = max(length, packet.pts + (packet.duration or 1))
                    packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, stream
                    output.mux(packet)
                    frames += 1
                shift += length
                if float(shift * source.time_base) >= 60 * minutes:
                    return frames


def rss() -> int:
    """Resident memory of this process, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--clip", type=Path)
    parser.add_argument("--no-overlay", action="store_true")
    options = parser.parse_args()
    pin_threads()
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "long.mp4"
        frames = loop(options.clip or fetch("face-talking"), video, options.minutes)
        print(f"{frames} frames, {options.minutes} minutes; {os.cpu_count()} cores", flush=True)
        measured: dict[str, list[tuple[int, int]]] = defaultdict(list)
        begin = time.perf_counter()

        def tell(stage: str, done: int, total: int | None) -> None:
            if done % _STEP == 0:
                measured[stage].append((done, rss()))
                seconds = time.perf_counter() - begin
                print(f"{stage:8} {done:7} frames  {rss() / 1e6:7.1f} MB  {seconds:7.1f} s", flush=True)

        task = Task(video, Path(folder) / "out", "long")
        results = results_of(task, Settings(overlay=not options.no_overlay))
        run_video(video, results, Analyst(load_bundle(), load_plugins()), progress=tell)
        print(f"all written: {rss() / 1e6:.1f} MB, {time.perf_counter() - begin:.1f} s")
        for stage, points in measured.items():
            late = np.array([point for point in points if point[0] >= _FIRST], float)
            if len(late) > 2:
                print(f"{stage}: {np.polyfit(late[:, 0], late[:, 1], 1)[0]:.0f} bytes a frame")
        print(f"peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3:.1f} MB")


if __name__ == "__main__":
    main()
